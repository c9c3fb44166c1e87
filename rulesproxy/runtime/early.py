"""The phases before HTTP: names, tunnels, TLS. What the rules decide there, carried out on the flow.

Like `engine` it is one code for the Rules addon and for `rulesproxy test` and `explain`.
"""

from __future__ import annotations

from dataclasses import replace

from rulesproxy.model.connection import Client, Server
from rulesproxy.model.dns import DNSFlow
from rulesproxy.model.dns_types import op_codes, response_codes, types
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.headers import Headers
from rulesproxy.model.http import Request
from rulesproxy.model.names import host_for_url
from rulesproxy.model.pages import error_response
from rulesproxy.model.policy import NameAnswer, TlsDecision, TlsVerdict, TunnelDecision
from rulesproxy.model.tls import Tunnel
from rulesproxy.runtime.decision import Decision
from rulesproxy.runtime.facts import DnsFacts, TunnelFacts
from rulesproxy.runtime.phase import Phase, Slot
from rulesproxy.runtime.ruleset import ErrorHandler, RuleSet


def open_tunnel(rules: RuleSet, flow: HTTPFlow, on_error: ErrorHandler, *, noting: bool = True) -> Decision | None:
    """Connect rules on the flow of a CONNECT: a block refuses the tunnel, route and via lead it while it is relayed."""
    x = TunnelFacts(Tunnel(flow.client_conn, flow.request.host, flow.request.port))
    decision = rules.decide(Phase.CONNECT, x, on_error)
    if decision is None:
        return None
    if decision.failure is not None:
        rule, why, status = decision.failure
        flow.rule = rule.name
        flow.response = error_response(status, f"Refused by rule {rule.name}", f"{why} ({rule.where})", rule=rule.name)
        return decision
    for rule, note in decision.notes if noting else ():
        note.apply(flow, rule)
    if decision.answer is not None:
        winner = decision.winners[Slot.ANSWER]
        flow.rule = winner.name
        decision.answer.apply(flow, winner)
    else:
        _lead(decision, flow)
    return decision


def start_tls(rules: RuleSet, tunnel: Tunnel, named_only: bool, on_error: ErrorHandler) -> TlsDecision | None:
    """What happens to a tunnel in which a client starts TLS; a relayed one may be sent elsewhere, or another way."""
    x = TunnelFacts(tunnel)
    verdict = rules.decide_tls(x, named_only)
    decision = rules.decide(Phase.TLS, x, on_error)
    flow = connect_flow(tunnel)
    for rule, note in decision.notes if decision is not None and not tunnel.hypothetical else ():
        if verdict is not None and rule.name == verdict.rule:  # others may have matched; this one settled it
            note.apply(flow, rule)
    if verdict is not None and verdict.verdict is not TlsVerdict.RELAY:
        if decision is not None and decision.tls is not None and verdict.verdict is TlsVerdict.INTERCEPT:
            decision.tls.apply(flow, decision.winners[Slot.TLS])
        return verdict if flow.server_tls is None else replace(verdict, server_tls=flow.server_tls)
    # Where connect rules send a tunnel that stays closed, else those that had to see the name in the ClientHello.
    opened = rules.decide(Phase.CONNECT, TunnelFacts(Tunnel(tunnel.client, tunnel.host, tunnel.port)), on_error)
    early, late = connect_flow(tunnel), connect_flow(tunnel)
    _lead(opened, early)
    _lead(decision, late)
    route, via = early.route or late.route, early.via or late.via
    if verdict is None and (route, via) == (early.route, early.via):
        return None  # it stands since the CONNECT
    return TlsDecision(TlsVerdict.RELAY, verdict.rule if verdict is not None else None, route, via)


def judge_tunnel(rules: RuleSet, tunnel: Tunnel, on_error: ErrorHandler) -> TunnelDecision:
    """The same for a tunnel without a CONNECT; without notes if it is hypothetical."""
    flow = connect_flow(tunnel)
    open_tunnel(rules, flow, on_error, noting=not tunnel.hypothetical)
    refused = flow.response is not None or flow.drop is not None
    return TunnelDecision(refused, flow.route, flow.via, flow.drop, flow.rule,
                          flow.pacing.request if flow.pacing is not None else 0.0)


def _lead(decision: Decision | None, flow: HTTPFlow) -> None:
    """Where to, and through which proxy."""
    if decision is not None and decision.route is not None:
        decision.route.apply(flow, decision.winners[Slot.ROUTE])
    if decision is not None and decision.via is not None:
        decision.via.apply(flow, decision.winners[Slot.VIA])


def connect_flow(tunnel: Tunnel) -> HTTPFlow:
    """The flow of the CONNECT that asked for a tunnel, as far as rules look at it."""
    flow = HTTPFlow(tunnel.client, Server((tunnel.host, tunnel.port)))
    target = f"{host_for_url(tunnel.host)}:{tunnel.port}"
    flow.request = Request("CONNECT", "", tunnel.host, tunnel.port, "", Headers(), b"", authority=target)
    return flow


def answer_query(rules: RuleSet, flow: DNSFlow, on_error: ErrorHandler) -> Decision | None:
    """DNS rules on a query; without an answer it is forwarded."""
    question = flow.request.question
    if question is None:
        return None
    x = DnsFacts(flow.client_conn, question.host, types.to_str(question.type))
    decision = rules.decide(Phase.DNS, x, on_error)
    if decision is None:
        return None
    if decision.failure is not None:
        flow.response = flow.request.fail(response_codes.REFUSED)
        return decision
    for rule, note in decision.notes:
        note.apply(flow, rule)
    if decision.answer is not None:
        decision.answer.apply(flow, decision.winners[Slot.ANSWER])
    elif decision.name is not None:
        decision.name.apply(flow, decision.winners[Slot.NAME])
    if flow.request.op_code != op_codes.QUERY and flow.response is not None:
        flow.response, flow.follow = flow.request.fail(response_codes.REFUSED), None  # nobody updates what rules own
    return decision


def resolve_name(rules: RuleSet, name: str, client: Client | None, on_error: ErrorHandler) -> NameAnswer | None:
    """The rules' answer for a name the proxy is about to dial (rule-language 3.3): the first that leads somewhere. A
    failure only where rules own both kinds of addresses; the resolver has the other kind else.
    """
    if not rules.has(Phase.DNS):
        return None
    answers = [_owned(rules, DnsFacts(client, name, dns_type, own=True), on_error) for dns_type in ("A", "AAAA")]
    leading = next((answer for answer in answers if answer is not None and (answer.addresses or answer.alias)), None)
    return answers[0] if leading is None and None not in answers else leading


def _owned(rules: RuleSet, x: DnsFacts, on_error: ErrorHandler) -> NameAnswer | None:
    decision = rules.decide(Phase.DNS, x, on_error)
    if decision is None or decision.name is None:
        return None
    answer: NameAnswer = decision.name.answer_for_dial(  # type: ignore[attr-defined]
        x.host, decision.winners[Slot.NAME])
    return answer
