"""Decides a generated exchange in every phase, compiled and interpreted, so that the two can be compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rulesproxy.compiler.emit import emit_file
from rulesproxy.compiler.interpret import Outcome, interpret
from rulesproxy.compiler.ir import Rule
from rulesproxy.compiler.link import Unit, link
from rulesproxy.model.connection import Client, Server
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.headers import Headers
from rulesproxy.model.http import Request, Response
from rulesproxy.model.tcp import TCPFlow, TCPMessage
from rulesproxy.model.tls import ClientHello, Tunnel
from rulesproxy.model.udp import UDPFlow, UDPMessage
from rulesproxy.model.websocket import Opcode, WebSocketData, WebSocketMessage
from rulesproxy.runtime.decision import Decision, RuleInfo
from rulesproxy.runtime.facts import DnsFacts, Facts, HttpFacts, TunnelFacts
from rulesproxy.runtime.message_facts import MessageFacts, facts_of
from rulesproxy.runtime.messages import MessageFlow, message_of
from rulesproxy.runtime.phase import MESSAGE_PHASES, Phase, Slot
from rulesproxy.runtime.ruleset import RuleSet
from rulesproxy.runtime.values import FixedSources, use_sources
from tests.compiler.generator import Exchange

Said = dict[str, Any]


@dataclass(frozen=True)
class Look:
    """One phase at one moment: `ready` says whether its body is complete."""

    phase: Phase
    facts: Facts
    ready: bool


class Files:
    """Some files exist, by their names."""

    def exists(self, root: str, path: str) -> bool:
        return len(path) % 2 == 0


def compile_rules(rules: Sequence[Rule]) -> RuleSet:
    file = tuple(rules)
    return link([Unit(file, emit_file(file))], "test", {})


def client_of(x: Exchange) -> Client:
    return Client(peername=(x.client, 50000), proxy_mode=x.mode, listener="127.0.0.1:8080")


def request_of(x: Exchange) -> Request:
    fields = Headers((name.encode(), value.encode()) for name, value in x.headers)
    if x.cookies:
        fields.add("cookie", "; ".join(f"{name}={value}" for name, value in x.cookies))
    request = Request(x.method, x.scheme, x.host, x.port, x.target, fields, b"")
    if x.body:
        request.set_content(x.body.encode())
    return request


def response_of(x: Exchange) -> Response:
    response = Response.make(x.status, b"", Headers((n.encode(), v.encode()) for n, v in x.response_headers))
    if x.response_body and x.status != 204:
        response.set_content(x.response_body.encode())
    return response


def http_facts(x: Exchange) -> HttpFacts:
    client = client_of(x)
    client.sni = x.host if x.scheme == "https" else None
    facts = HttpFacts(request_of(x), client)
    facts.files = Files()
    return facts


def looks(x: Exchange, rules: RuleSet) -> Iterator[Look]:
    """Every phase an exchange could be decided in; the response phase after what the request phase did."""
    client = client_of(x)
    for own in (False, True):
        yield Look(Phase.DNS, DnsFacts(client, x.host, x.dns_type, own), True)
    hello = ClientHello(x.host, (), (), (), (), b"")
    yield Look(Phase.CONNECT, TunnelFacts(Tunnel(client, x.host, x.port)), True)
    yield Look(Phase.TLS, TunnelFacts(Tunnel(client, x.host, x.port, hello)), True)
    for ready in (False, True):
        facts = http_facts(x)
        facts.request_ready = ready
        yield Look(Phase.REQUEST, facts, ready)
        acted = decide(rules, Look(Phase.REQUEST, facts, ready)).acted
        for response_ready in (False, True):
            facts = http_facts(x)
            facts.request_ready, facts.response_ready = ready, response_ready
            facts.acted = acted
            facts.see_response(response_of(x))
            yield Look(Phase.RESPONSE, facts, response_ready)
    for phase in sorted(MESSAGE_PHASES):
        if phase in rules.indexes:  # where rules only pass there is nothing to decide
            yield Look(phase, message_facts(x, phase), True)


def message_flow(x: Exchange, phase: Phase) -> MessageFlow:
    """A conversation of the kind the phase is about, with the exchange's message in hand."""
    client, from_client, content = client_of(x), x.direction == "to_server", x.message.encode()
    client.sni = x.host if x.scheme == "https" else None
    if phase is Phase.WEBSOCKET:
        flow = flow_of(x)
        flow.client_conn = client
        flow.websocket = WebSocketData()
        flow.websocket.remember(WebSocketMessage(Opcode.TEXT if x.opcode == "text" else Opcode.BINARY, from_client,
                                                 content))
        return flow
    server = Server((x.host, x.port))
    raw: TCPFlow | UDPFlow
    if phase is Phase.TCP:
        raw = TCPFlow(client, server)
        raw.remember(TCPMessage(from_client, content))
    else:
        raw = UDPFlow(client, server)
        raw.remember(UDPMessage(from_client, content))
    return raw


def message_facts(x: Exchange, phase: Phase) -> MessageFacts:
    flow = message_flow(x, phase)
    facts = facts_of(flow)
    facts.see(message_of(flow))
    return facts


def decide(rules: RuleSet, look: Look) -> Decision:
    """The compiled rules' decision; empty when no rule can match."""
    before = use_sources(FixedSources(7))
    try:
        return rules.decide(look.phase, look.facts, _ignore) or Decision()
    finally:
        use_sources(before)


def _ignore(rule: RuleInfo, exc: Exception) -> None:
    """Failures are part of what is compared."""


def read(rules: Sequence[Rule], look: Look) -> Outcome:
    """What the interpreter says."""
    acted = [rule.name for rule in look.facts.acted] if isinstance(look.facts, HttpFacts) else []
    before = use_sources(FixedSources(7))
    try:
        return interpret(rules, look.phase, look.facts, ready=look.ready, acted_before=acted)
    finally:
        use_sources(before)


def said_by_decision(decision: Decision) -> Said:
    slots = {Slot.ANSWER: decision.answer, Slot.ROUTE: decision.route, Slot.VIA: decision.via, Slot.TLS: decision.tls,
             Slot.NAME: decision.name, Slot.DROP: decision.drop, Slot.CLOSE: decision.close}
    return {
        "acted": [rule.name for rule in decision.acted],
        "overruled": [rule.name for rule, _, _ in decision.lost],
        "waiting": [rule.name for rule in decision.waiting],
        "winners": {slot: rule.name for slot, rule in decision.winners.items()},
        "slots": {slot: op for slot, op in slots.items() if op is not None},
        "edits": list(decision.edits), "notes": [op for _, op in decision.notes],
        "reads_response": decision.reads_response,
        "failed": decision.failure[0].name if decision.failure is not None else None,
    }  # fmt: skip


def said_by_outcome(outcome: Outcome) -> Said:
    return {
        "acted": outcome.acted, "overruled": outcome.overruled, "waiting": outcome.waiting, "winners": outcome.winners,
        "slots": outcome.slots, "edits": outcome.edits, "notes": outcome.notes,
        "reads_response": outcome.reads_response, "failed": outcome.failed,
    }  # fmt: skip


def differences(rules: Sequence[Rule], compiled: RuleSet, x: Exchange) -> list[str]:
    """Everything the two say differently, in all phases."""
    found = []
    for look in looks(x, compiled):
        ours, theirs = said_by_decision(decide(compiled, look)), said_by_outcome(read(rules, look))
        found += [f"{look.phase.name} {'' if look.ready else 'head '}{what}: compiled {ours[what]!r}, "
                  f"interpreted {theirs[what]!r}" for what in ours if ours[what] != theirs[what]]
    return found


def flow_of(x: Exchange) -> HTTPFlow:
    flow = HTTPFlow(client_of(x), Server())
    flow.request = request_of(x)
    return flow
