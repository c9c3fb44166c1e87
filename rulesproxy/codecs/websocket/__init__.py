"""WebSocket (RFC 6455, permessage-deflate of RFC 7692): handshake fields, and bytes ⇄ whole messages."""

from rulesproxy.codecs.websocket.codec import (
    Close,
    Codec,
    Event,
    Message,
    Ping,
    Pong,
    WebSocketError,
)
from rulesproxy.codecs.websocket.deflate import Deflate
from rulesproxy.codecs.websocket.handshake import (
    HandshakeError,
    accept_token,
    agreed_deflate,
    check_answer,
    readable_offer,
    unknown_extensions,
)

__all__ = [
    "Close",
    "Codec",
    "Deflate",
    "Event",
    "HandshakeError",
    "Message",
    "Ping",
    "Pong",
    "WebSocketError",
    "accept_token",
    "agreed_deflate",
    "check_answer",
    "readable_offer",
    "unknown_extensions",
]
