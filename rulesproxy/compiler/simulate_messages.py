"""One message against a rule set without a network: the conversation it belongs to, and what comes of it.

What comes in: a conversation that a simulation has opened (the handshake answered, the tunnel decided) and the message.
What goes out: an `Outcome`. The message is decided and carried out by `runtime.messages`, as in the proxy.
"""

from __future__ import annotations

from rulesproxy.compiler.outcome import Outcome, Said, View
from rulesproxy.compiler.testcase import TestRequest, Upstream
from rulesproxy.compiler.testmessage import TestMessage
from rulesproxy.model.connection import Client, Server
from rulesproxy.model.conversation import ConversationMessage
from rulesproxy.model.effects import Drop
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.tcp import TCPFlow, TCPMessage
from rulesproxy.model.tls import Tunnel
from rulesproxy.model.udp import UDPFlow, UDPMessage
from rulesproxy.model.websocket import Opcode, WebSocketData, WebSocketMessage
from rulesproxy.runtime.message_facts import facts_of
from rulesproxy.runtime.messages import MessageFlow, decide_message, phase_of
from rulesproxy.runtime.ruleset import ErrorHandler, RuleSet

_UPGRADE = (("connection", "Upgrade"), ("upgrade", "websocket"))
#: The server takes the handshake (RFC 6455 §4.2.2).
SWITCHING = Upstream(101, _UPGRADE)


def handshake_of(asked: TestMessage) -> TestRequest:
    """The request that opens the conversation (RFC 6455 §4.1)."""
    given = {name.lower() for name, _ in asked.headers}
    fields = (*_UPGRADE, ("sec-websocket-version", "13"), ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="))
    return TestRequest(asked.method, asked.url, (*(f for f in fields if f[0] not in given), *asked.headers))


def begin_websocket(flow: HTTPFlow, asked: TestMessage) -> HTTPFlow:
    """The flow of an answered handshake, with the message in hand."""
    flow.websocket = WebSocketData()
    kind = Opcode.TEXT if asked.is_text else Opcode.BINARY
    flow.websocket.remember(WebSocketMessage(kind, asked.direction == "to_server", asked.content))
    return flow


def begin_raw(client: Client, asked: TestMessage) -> TCPFlow | UDPFlow:
    """A raw connection, or the flow of a datagram, with the message in hand."""
    from_client = asked.direction == "to_server"
    server = Server((asked.host, asked.port), transport_protocol="udp" if asked.scheme == "udp" else "tcp")
    flow: TCPFlow | UDPFlow
    if asked.scheme == "udp":
        flow = UDPFlow(client, server)
        flow.remember(UDPMessage(from_client, asked.content))
    else:
        flow = TCPFlow(client, server)
        flow.remember(TCPMessage(from_client, asked.content))
    flow.tunnel = Tunnel(client, asked.host, asked.port)
    return flow


def untouched(out: Outcome, asked: TestMessage) -> None:
    """The message passes through a tunnel that nobody looks into."""
    out.forwarded = asked.content
    out.said = [Said(asked.direction, asked.content)]


def decide(rules: RuleSet, flow: MessageFlow, on_error: ErrorHandler, out: Outcome) -> None:
    """Decide the message in hand and note what comes of it."""
    conversation = flow.websocket if isinstance(flow, HTTPFlow) else flow
    assert conversation is not None
    message: ConversationMessage = conversation.messages[-1]
    decision = decide_message(rules, flow, on_error)
    if phase_of(flow) in rules.indexes:
        out.see(View(phase_of(flow), facts_of(flow), decision))
    out.said = []
    out.ended = _end(flow)
    out.tags = flow.metadata.get("tags", [])
    if not isinstance(flow, HTTPFlow) and flow.drop is not None:
        return  # at once: nothing more is sent
    if not message.dropped:
        out.forwarded = message.content
        out.said.append(Said(_direction(message), message.content))
    out.said += [Said(_direction(own), own.content, own=True) for own in conversation.outbox]


def _direction(message: ConversationMessage) -> str:
    return "to_server" if message.from_client else "to_client"


def _end(flow: MessageFlow) -> str:
    """How the conversation ends, in a few words; empty when it goes on."""
    if not isinstance(flow, HTTPFlow):
        return {None: "closed" if flow.closing else "", Drop.CLOSE: "dropped", Drop.RESET: "reset",
                Drop.HANG: "left hanging"}[flow.drop]
    if flow.websocket is None or flow.websocket.closing is None:
        return ""
    code, reason = flow.websocket.closing
    return f"closed with {code}" + (f" ({reason})" if reason else "")
