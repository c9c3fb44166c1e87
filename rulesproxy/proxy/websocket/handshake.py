"""What a WebSocket handshake needs of an exchange: an offer we can read, and an answer that fits it."""

from __future__ import annotations

from rulesproxy.addons.manager import AddonManager
from rulesproxy.codecs.http1 import ResponseHead
from rulesproxy.codecs.websocket import HandshakeError, check_answer, readable_offer
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.http import Request
from rulesproxy.proxy.upstream.target import UpstreamError


def offer_what_we_read(flow: HTTPFlow, addons: AddonManager) -> None:
    """Leave out of a handshake what would hide messages from those who look at them."""
    if addons.policy.needs_messages(flow):
        readable_offer(flow.request.headers)


def fits_handshake(request: Request, head: ResponseHead) -> bool:
    """True; an answer that agrees to WebSocket otherwise than it was asked for raises UpstreamError."""
    key = None if head.version == "HTTP/2" else request.headers.first(b"sec-websocket-key") or b""
    try:
        check_answer(request.headers, head.fields, key=key)
    except HandshakeError as exc:
        raise UpstreamError(f"WebSocket: {exc}", title="Invalid answer") from None
    return True
