"""Runs one exchange against a rule set without a network: what `test` and `explain` stand on.

What comes in: a `RuleSet` and a step (a request, a query, a ClientHello or a message, and what the origin would
answer). What goes out: an `Outcome`. Rules are decided and applied by `runtime.engine`, `runtime.early` and
`runtime.messages`, the code the proxy runs; only what the proxy does on sockets (dial, send, receive) is stated here as
facts. Files are opened by whoever calls.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from datetime import UTC
from typing import Protocol, TypeVar

from rulesproxy.compiler.outcome import Outcome, SentRequest, View
from rulesproxy.compiler.simulate_messages import (
    SWITCHING,
    begin_raw,
    begin_websocket,
    decide,
    handshake_of,
    untouched,
)
from rulesproxy.compiler.testcase import NOT_GIVEN, Fields, TestQuery, TestRequest, TestStep, TestTunnel, Upstream
from rulesproxy.compiler.testmessage import TestMessage
from rulesproxy.model.connection import Client, Server
from rulesproxy.model.dns import DNSFlow, DNSMessage
from rulesproxy.model.dns_types import types
from rulesproxy.model.effects import LocalFile, Route, Via
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.headers import Headers, to_bytes
from rulesproxy.model.http import Message, Request, Response
from rulesproxy.model.names import InvalidHost, canonical_host, host_for_url, is_ip
from rulesproxy.model.pages import error_response
from rulesproxy.model.policy import TlsVerdict
from rulesproxy.model.tls import ClientHello, Tunnel
from rulesproxy.model.via import chosen
from rulesproxy.runtime.decision import Decision, RuleInfo
from rulesproxy.runtime.early import answer_query, connect_flow, open_tunnel, resolve_name, start_tls
from rulesproxy.runtime.engine import RuleExchange
from rulesproxy.runtime.facts import DnsFacts, Files, TunnelFacts
from rulesproxy.runtime.messages import MessageFlow
from rulesproxy.runtime.phase import Phase, Slot
from rulesproxy.runtime.ruleset import RuleSet
from rulesproxy.runtime.values import FixedSources, use_sources

BODY_LIMIT = 10 * 1024 * 1024
_CLIENT = "127.0.0.1"
_PORT = 50_000
_MOST_ALIASES = 8
_Message = TypeVar("_Message", bound=Message)


class LocalFiles(Files, Protocol):
    """Files as the proxy serves them."""

    def open(self, file: LocalFile, request: Request) -> Response:
        """The answer from a file, its body read."""
        ...


@dataclass(frozen=True, slots=True)
class World:
    """What surrounds the exchanges. `named_only` is `--set decrypt=named`; `seed` fixes uuid and random."""

    rules: RuleSet
    files: LocalFiles
    seed: int = 0
    named_only: bool = False
    body_limit: int = BODY_LIMIT


def simulate(world: World, steps: tuple[TestStep, ...]) -> list[Outcome]:
    """The outcome of each step, in order; what the steps draw (uuid, random) goes on from one to the next."""
    outcomes = []
    sources = FixedSources(world.seed)
    for step in steps:
        if step.at is not None:
            # A time without a zone is UTC: a test must not depend on where it runs.
            sources.stand(step.at if step.at.tzinfo else step.at.replace(tzinfo=UTC))
        before = use_sources(sources)
        try:
            outcomes.append(_Simulation(world, step).run())
        finally:
            use_sources(before)
    return outcomes


class _Simulation:
    def __init__(self, world: World, step: TestStep) -> None:
        self.world = world
        self.rules = world.rules
        self.step = step
        self.out = Outcome()
        #: The exchange, once there is one.
        self.flow: HTTPFlow | None = None

    def run(self) -> Outcome:
        step = self.step
        if step.request is not None:
            self._request(step.request)
        elif step.dns is not None:
            self._query(step.dns)
        elif step.tls is not None:
            self._hello(step.tls)
        elif step.message is not None:
            self._message(step.message)
        return self.out

    def _client(self, mode: str = "regular", listener: str = "127.0.0.1:8080") -> Client:
        return Client(peername=(self.step.client or _CLIENT, _PORT), proxy_mode=mode, listener=listener)

    def _failed(self, rule: RuleInfo, exc: Exception) -> None:
        self.out.failures.append((rule, exc))

    # --- names -------------------------------------------------------------------------------------------------------

    def _query(self, asked: TestQuery) -> None:
        client = self._client("dns", "127.0.0.1:8053")
        try:
            message = DNSMessage.make_query(asked.name, types.from_str(asked.type))
        except ValueError:
            message = DNSMessage.make_query(asked.name, types.A)
        flow = DNSFlow(client, Server(), message)
        decision = answer_query(self.rules, flow, self._failed)
        self.out.see(View(Phase.DNS, DnsFacts(client, asked.name, asked.type), decision))
        self.out.answer = flow.response
        self.out.tags = flow.metadata.get("tags", [])

    def _dial(self, host: str, port: int, client: Client, via: Via | None) -> bool:
        """Note where the proxy connects to, and how; False when a rule makes a name fail."""
        self.out.server = f"{host_for_url(host)}:{port}"
        self.out.via = str(via) if via is not None else None
        if not self._look_up(host, client):
            return False
        via = chosen(via)
        if via is None:
            return True
        addresses = self.out.addresses  # the server's, not the proxy's
        found = self._look_up(via.host, client)
        self.out.addresses = addresses
        return found

    def _look_up(self, name: str, client: Client) -> bool:
        for _ in range(_MOST_ALIASES):
            if is_ip(name):
                break
            answer = resolve_name(self.rules, name, client, self._failed)
            if answer is None:
                break
            self.out.act(Phase.DNS, answer.rule)
            if answer.rcode != "NOERROR":
                self.out.response = error_response(502, "The name does not exist", f"{name}: {answer.rcode}",
                                                   rule=answer.rule)
                return False
            self.out.addresses += answer.addresses
            if not answer.alias:
                break
            name = answer.alias
        return True

    # --- tunnels -----------------------------------------------------------------------------------------------------

    def _hello(self, hello: TestTunnel) -> None:
        client = self._client()
        try:
            host = canonical_host(hello.host)
        except InvalidHost as exc:
            self.out.response = error_response(400, "Bad request", str(exc))
            return
        self._tunnel(client, host, hello.port, hello.sni)

    def _tunnel(self, client: Client, host: str, port: int, sni: str | None) -> bool:
        """CONNECT and ClientHello. True when the tunnel is decrypted; else everything there is to say is said."""
        tunnel = Tunnel(client, host, port)
        flow = connect_flow(tunnel)
        decision = open_tunnel(self.rules, flow, self._failed)
        view = View(Phase.CONNECT, TunnelFacts(tunnel), decision)
        if flow.response is not None or flow.drop is not None:
            self.out.see(view)
            self.out.tls = TlsVerdict.REFUSE
            self.out.response, self.out.drop = flow.response, flow.drop
            return False
        hello = ClientHello(sni, (), (), (), (), b"")
        opened = Tunnel(client, host, port, hello)
        verdict = start_tls(self.rules, opened, self.world.named_only, self._failed)
        self.out.tls = verdict.verdict if verdict is not None else TlsVerdict.RELAY
        self.out.tls_rule = verdict.rule if verdict is not None else None
        self._see_tunnel(view, TunnelFacts(opened))
        client.sni = sni
        if self.out.tls is TlsVerdict.RELAY:
            route = (verdict.route if verdict is not None else None) or flow.route
            via = (verdict.via if verdict is not None else None) or flow.via
            self._dial(*_destination(host, port, route), client, via)
        return self.out.tls is TlsVerdict.INTERCEPT

    def _see_tunnel(self, connect: View, x: TunnelFacts) -> None:
        """Note both phases. Where a decrypted tunnel leads is said per request; TLS rules count where they settled it.
        """
        self.out.see(connect)
        relayed = self.out.tls is TlsVerdict.RELAY
        early = _leading(connect.decision)
        if not relayed:
            for rule in set(early.values()):
                self.out.acted[Phase.CONNECT].remove(rule.name)
        decided = self.rules.decide(Phase.TLS, x, self._failed)
        self.out.views.append(View(Phase.TLS, x, decided))
        if decided is None:
            return
        late = [rule for slot, rule in _leading(decided).items() if relayed and slot not in early]
        for rule in decided.acted:
            if rule.name == self.out.tls_rule or rule in late:
                self.out.act(Phase.TLS, rule.name)

    # --- HTTP --------------------------------------------------------------------------------------------------------

    def _request(self, asked: TestRequest) -> None:
        client = self._client()
        try:
            request = make_request(asked)
        except ValueError as exc:
            self.out.response = error_response(400, "Bad request", str(exc))
            return
        if request.scheme == "https":
            sni = None if is_ip(request.host) else request.host
            if not self._tunnel(client, request.host, request.port, sni):
                self._relayed(request)
                return
        flow = HTTPFlow(client, Server())
        flow.request = request
        self.flow = flow
        self._exchange(flow)

    def _relayed(self, request: Request) -> None:
        """What passes through a tunnel that stays closed passes untouched."""
        if self.out.tls is TlsVerdict.RELAY and self.out.response is None:
            self.out.sent = _sent(request, None, request.raw_content or b"")
            self.out.response = make_response(self.step.upstream)

    def _exchange(self, flow: HTTPFlow) -> None:
        world = self.world
        exchange = RuleExchange(self.rules, flow, flow.client_conn, self._failed, world.body_limit, world.files)
        body = flow.request.raw_content or b""
        flow.request.raw_content = None if body else b""  # the head comes first
        exchange.request_head()
        if flow.response is None and flow.local_file is None and flow.drop is None:
            if exchange.waits_for_request and len(body) <= self.world.body_limit:
                flow.request.raw_content = body
            exchange.request_body()
        self.out.see(View(Phase.REQUEST, exchange.facts, exchange.decisions.get(Phase.REQUEST)))
        if flow.drop is None:
            self._respond(exchange, body)
        self.out.drop = flow.drop
        self.out.response = flow.response if flow.drop is None else None
        self.out.pacing = flow.pacing
        self.out.tags = flow.metadata.get("tags", [])

    def _respond(self, exchange: RuleExchange, sent_body: bytes) -> None:
        flow = exchange.flow
        local, flow.local_file = flow.local_file, None
        if flow.response is None and local is not None:
            self._take(exchange, self.world.files.open(local, flow.request))
        elif flow.response is None:
            if flow.request.raw_content is None:
                flow.request.raw_content = sent_body  # it streams
            self.out.sent = _sent(flow.request, flow.route, flow.request.get_content(strict=False) or b"")
            to = _destination(flow.request.host, flow.request.port, flow.route)
            if not self._dial(*to, flow.client_conn, flow.via):
                flow.response, flow.own_page = self.out.response, True
                self.out.sent = None
            else:
                self._take(exchange, make_response(self.step.upstream))
        else:
            self._decide_response(exchange)

    def _take(self, exchange: RuleExchange, response: Response) -> None:
        """A response whose body comes after its head."""
        flow = exchange.flow
        body = response.raw_content or b""
        if flow.request.method == "HEAD" or response.status_code in (204, 304):
            body = b""
        flow.response = response
        response.raw_content = None if body else b""
        self._decide_response(exchange, body)
        if response.raw_content is None:
            response.raw_content = body  # it streamed

    def _decide_response(self, exchange: RuleExchange, body: bytes = b"") -> None:
        flow = exchange.flow
        exchange.response_head()
        response: Message | None = flow.response
        if exchange.waits_for_response and response is not None:
            if response.raw_content is None and len(body) <= self.world.body_limit:
                response.raw_content = body
            exchange.response_body()
        if flow.local_file is not None:
            flow.response = self.world.files.open(flow.local_file, flow.request)
        if exchange.rules.has(Phase.RESPONSE) and exchange.facts.response is not None:
            self.out.see(View(Phase.RESPONSE, exchange.facts, exchange.decisions.get(Phase.RESPONSE)))


    # --- messages ----------------------------------------------------------------------------------------------------

    def _message(self, asked: TestMessage) -> None:
        """The outcome is that of the message alone, or of what kept the conversation from beginning."""
        before = _Simulation(self.world, self.step)
        flow = before.begin(asked)
        if flow is None:
            self.out = before.out
            if before.out.tls is TlsVerdict.RELAY:
                untouched(self.out, asked)
            return
        self.out.tls, self.out.tls_rule, self.out.server = before.out.tls, before.out.tls_rule, before.out.server
        decide(self.rules, flow, self._failed, self.out)

    def begin(self, asked: TestMessage) -> MessageFlow | None:
        """Open the conversation of a message; None when the rules do not see it."""
        if asked.scheme in ("http", "https"):
            if self.step.upstream == Upstream():
                self.step = dataclasses.replace(self.step, upstream=SWITCHING)
            self._request(handshake_of(asked))
            answer = self.out.response
            return begin_websocket(self.flow, asked) if self.flow and answer and answer.status_code == 101 else None
        client = self._client()
        if asked.scheme == "tls" and not self._tunnel(client, asked.host, asked.port, asked.host):
            return None
        if asked.scheme in ("tcp", "udp"):
            opening = connect_flow(Tunnel(client, asked.host, asked.port))
            self.out.see(View(Phase.CONNECT, TunnelFacts(Tunnel(client, asked.host, asked.port)),
                              open_tunnel(self.rules, opening, self._failed)))
            self.out.response, self.out.drop = opening.response, opening.drop
            if opening.response is not None or opening.drop is not None:
                return None
        return begin_raw(client, asked)


# --- HTTP messages ---------------------------------------------------------------------------------------------------


def make_request(asked: TestRequest) -> Request:
    """The request of a test. Raises ValueError for a URL that no client could send."""
    request = Request.make(asked.method, asked.url, b"", _headers(asked.headers))
    return _with_body(request, asked.body, asked.json)


def make_response(upstream: Upstream) -> Response:
    """What the origin answers."""
    return _with_body(Response.make(upstream.status, b"", _headers(upstream.headers)), upstream.body, upstream.json)


def _headers(fields: Fields) -> Headers:
    return Headers((to_bytes(name), to_bytes(value)) for name, value in fields)


def _with_body(message: _Message, body: str | None, document: object) -> _Message:
    if document is not NOT_GIVEN:
        message.set_content(json.dumps(document, ensure_ascii=False).encode("utf-8"))
        if "content-type" not in message.headers:
            message.headers["content-type"] = "application/json"
    elif body is not None:
        message.set_content(body.encode("utf-8"))
    return message


def _leading(decision: Decision | None) -> dict[Slot, RuleInfo]:
    """The rules that say where a tunnel leads, and through which proxy."""
    if decision is None:
        return {}
    return {slot: decision.winners[slot] for slot, op in ((Slot.ROUTE, decision.route), (Slot.VIA, decision.via))
            if op is not None}


def _destination(host: str, port: int, route: Route | None) -> tuple[str, int]:
    return (host, port) if route is None else (route.host or host, route.port or port)


def _sent(request: Request, route: Route | None, body: bytes) -> SentRequest:
    """The request on its way out: the table of rule-language 3.2."""
    route = route or Route()
    scheme = route.scheme or request.scheme
    headers = request.headers.copy()
    if route.host_header is not None:
        headers["host"] = route.host_header
    name = route.sni or request.host
    sni = name if scheme == "https" and not is_ip(name) else None
    authority = headers.get("host") or host_for_url(request.host)
    return SentRequest(request.method, f"{scheme}://{authority}{request.path}", headers, body, sni)
