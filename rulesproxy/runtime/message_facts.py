"""What rules may see of a message: its direction and content, beside the request or the tunnel it belongs to.

One object serves a whole conversation; `see` turns it to the next message. What is made of the content (text, JSON) is
made when first asked for.
"""

from __future__ import annotations

from typing import Any, Literal

from rulesproxy.model.conversation import ConversationMessage
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.tcp import TCPFlow
from rulesproxy.model.udp import UDPFlow
from rulesproxy.model.websocket import WebSocketMessage
from rulesproxy.runtime.facts import Facts, HttpFacts
from rulesproxy.runtime.json_values import json_path, parse

Direction = Literal["to_server", "to_client"]
_UNREAD: Any = object()


class _Message:
    """Mixed into the facts of a conversation. No slots: one object serves many messages."""

    content: bytes
    direction: Direction
    _document: Any
    _texts: tuple[str] | None

    def see(self, message: ConversationMessage) -> None:
        """Turn to a message, as it is before any rule touches it."""
        self.content = message.content
        self.direction = "to_server" if message.from_client else "to_client"
        self._texts = None
        self._document = _UNREAD

    @property
    def texts(self) -> tuple[str]:
        """The content as text, the one value of `text`: an empty message has one too, which is empty."""
        if self._texts is None:
            self._texts = (self.content.decode("utf-8", "replace"),)
        return self._texts

    @property
    def document(self) -> Any:
        """The content as JSON, NO_JSON when it is none."""
        if self._document is _UNREAD:
            self._document = parse(self.texts[0])
        return self._document

    def found(self, expression: str) -> list[str]:
        """The values a JSONPath finds in the content, as texts."""
        path = json_path(expression)
        return path.texts(self.document) if len(self.texts[0]) <= path.most else []


class WebSocketFacts(_Message, HttpFacts):
    """Phase websocket: the request is that of the handshake, as the client sent it."""

    def __init__(self, handshake: HttpFacts) -> None:
        for name in _HTTP_SLOTS:
            setattr(self, name, getattr(handshake, name))

    def see(self, message: ConversationMessage) -> None:
        super().see(message)
        assert isinstance(message, WebSocketMessage)
        self.opcode = "text" if message.is_text else "binary"


_HTTP_SLOTS = (*Facts.__slots__, *HttpFacts.__slots__)


class StreamFacts(_Message, Facts):
    """Phases tcp and udp. The host is the SNI, else what the client asked for, else the server's address."""


MessageFacts = WebSocketFacts | StreamFacts


def facts_of(flow: HTTPFlow | TCPFlow | UDPFlow) -> MessageFacts:
    """Facts for the messages of a flow, made at the first one and kept."""
    conversation = flow.websocket if isinstance(flow, HTTPFlow) else flow
    if conversation is None:
        raise ValueError("the flow has no messages")
    if conversation.facts is None:
        conversation.facts = (WebSocketFacts(handshake_facts(flow)) if isinstance(flow, HTTPFlow)
                              else _stream_facts(flow))
    facts: MessageFacts = conversation.facts
    return facts


def handshake_facts(flow: HTTPFlow) -> HttpFacts:
    """Facts of the handshake of a WebSocket connection: the request as the client sent it."""
    # The exchange knows that. Without one there were no rules that could have changed it.
    facts: HttpFacts = flow.pinned.facts if flow.pinned is not None else HttpFacts(flow.request, flow.client_conn)
    return facts


def _stream_facts(flow: TCPFlow | UDPFlow) -> StreamFacts:
    client, tunnel = flow.client_conn, flow.tunnel
    host, port = (tunnel.host, tunnel.port) if tunnel is not None else flow.server_conn.address or ("", 0)
    return StreamFacts(client, client.sni or host, port, client.sni)
