"""What the chain decides about TLS, bodies and names, and how failing addons refuse an exchange."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from rulesproxy.addons.core_options import ProxyOptions
from rulesproxy.addons.manager import AddonManager
from rulesproxy.addons.refusal import refuse
from rulesproxy.model.connection import Client, Server, ServerConnectionHookData
from rulesproxy.model.dns import DNSFlow, DNSMessage, Question, response_codes
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.http import Request, Response
from rulesproxy.model.policy import NameAnswer, TlsDecision, TlsVerdict
from rulesproxy.model.tls import ClientHello, Tunnel
from rulesproxy.proxy.client_hooks import ClientConnectedHook
from rulesproxy.proxy.dns.exchange import DnsRequestHook

HTTP_HOOKS = ["requestheaders", "request", "responseheaders", "response", "error"]


def tunnel(host: str = "example.com", sni: str | None = "example.com", hello: bool = True) -> Tunnel:
    client_hello = ClientHello(sni, (), (), (), (), b"") if hello else None
    return Tunnel(Client(), host, 443, client_hello)


def http_flow() -> HTTPFlow:
    flow = HTTPFlow(Client(), Server())
    flow.request = Request.make("GET", "http://example.com/")
    return flow


def make(*addons: Any, **options: Any) -> AddonManager:
    declared = ProxyOptions()
    declared.update(**options)
    manager = AddonManager(declared)
    manager.add(*addons)
    return manager


def script(*hooks: str) -> ModuleType:
    module = ModuleType("script")
    for name in hooks:
        setattr(module, name, lambda flow: None)
    return module


class Decider:
    """A policy addon with one fixed opinion."""

    def __init__(self, verdict: TlsVerdict | None = None, body: bool = False, answer: NameAnswer | None = None) -> None:
        self.decision = TlsDecision(verdict, "a rule") if verdict else None
        self.body = body
        self.answer = answer

    def request(self, flow: HTTPFlow) -> None: ...

    def tls_decision(self, tunnel: Tunnel) -> TlsDecision | None:
        return self.decision

    def needs_body(self, flow: HTTPFlow, phase: str) -> bool:
        return self.body and phase == "response"

    def resolve(self, name: str, client: Client | None) -> NameAnswer | None:
        return self.answer


class Broken(Decider):
    def tls_decision(self, tunnel: Tunnel) -> TlsDecision | None:
        raise RuntimeError("broken")

    def needs_body(self, flow: HTTPFlow, phase: str) -> bool:
        raise RuntimeError("broken")

    def resolve(self, name: str, client: Client | None) -> NameAnswer | None:
        raise RuntimeError("broken")


def test_without_an_opinion_tls_is_relayed_bodies_stream_and_names_are_looked_up() -> None:
    policy = make(Decider(), script("dns_request", "client_connected")).policy
    assert policy.tls_decision(tunnel()).verdict is TlsVerdict.RELAY
    assert not policy.needs_body(http_flow(), "request")
    assert policy.resolve("example.com", None) is None


@pytest.mark.parametrize("verdict", TlsVerdict)
def test_the_first_opinion_decides(verdict: TlsVerdict) -> None:
    policy = make(Decider(), Decider(verdict), Decider(TlsVerdict.INTERCEPT), script("request")).policy
    assert policy.tls_decision(tunnel()) == TlsDecision(verdict, "a rule")


@pytest.mark.parametrize("hook", [*HTTP_HOOKS, "websocket_message"])
@pytest.mark.parametrize("decrypt, verdict", [
    ("auto", TlsVerdict.INTERCEPT), ("named", TlsVerdict.RELAY), ("none", TlsVerdict.RELAY)])
def test_a_script_with_http_hooks_decrypts_unless_told_otherwise(hook: str, decrypt: str, verdict: TlsVerdict) -> None:
    policy = make(Decider(), script(hook), decrypt=decrypt).policy
    assert policy.tls_decision(tunnel()).verdict is verdict


def test_decrypting_nothing_overrides_rules_but_not_a_refusal() -> None:
    intercepting = make(Decider(TlsVerdict.INTERCEPT), decrypt="none").policy
    assert intercepting.tls_decision(tunnel()).verdict is TlsVerdict.RELAY
    refusing = make(Decider(TlsVerdict.REFUSE), decrypt="none").policy
    assert refusing.tls_decision(tunnel()).verdict is TlsVerdict.REFUSE


@pytest.mark.parametrize("unnamed", ["relay", "intercept", "refuse"])
def test_tls_to_a_bare_address_follows_its_option(unnamed: str) -> None:
    policy = make(Decider(), unnamed=unnamed).policy
    for host in ("192.0.2.1", "2001:db8::1"):
        assert policy.tls_decision(tunnel(host, None)).verdict is TlsVerdict(unnamed)
        assert policy.tls_decision(tunnel(host, "example.com")).verdict is TlsVerdict.RELAY
        assert policy.tls_decision(tunnel(host, hello=False)).verdict is TlsVerdict.RELAY, "a name may still come"
    assert policy.tls_decision(tunnel("example.com", None)).verdict is TlsVerdict.RELAY


def test_a_script_gets_whole_bodies_where_it_looks_at_them() -> None:
    assert make(script("request")).policy.needs_body(http_flow(), "request")
    assert not make(script("request")).policy.needs_body(http_flow(), "response")
    assert make(script("response")).policy.needs_body(http_flow(), "response")
    assert not make(script("requestheaders", "responseheaders")).policy.needs_body(http_flow(), "response")


def test_a_policy_addon_says_itself_which_bodies_it_needs() -> None:
    policy = make(Decider(), Decider(body=True)).policy
    assert policy.needs_body(http_flow(), "response")
    assert not policy.needs_body(http_flow(), "request")


def test_the_first_name_answer_counts() -> None:
    answer = NameAnswer(("192.0.2.1",), rule="a rule")
    policy = make(Decider(), Decider(answer=answer), Decider(answer=NameAnswer())).policy
    assert policy.resolve("example.com", None) is answer


def test_hooks_an_addon_has_switched_off_do_not_count() -> None:
    addon = script("request")
    addon.active_hooks = frozenset()  # type: ignore[attr-defined]
    manager = make(addon)
    assert manager.policy.tls_decision(tunnel()).verdict is TlsVerdict.RELAY
    addon.active_hooks = frozenset({"request"})  # type: ignore[attr-defined]
    manager.refresh()
    assert manager.policy.tls_decision(tunnel()).verdict is TlsVerdict.INTERCEPT
    assert manager.policy.needs_body(http_flow(), "request")


def test_a_broken_policy_addon_is_logged_and_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    answer = NameAnswer(("192.0.2.1",))
    policy = make(Broken(), Decider(TlsVerdict.INTERCEPT, body=True, answer=answer)).policy
    assert policy.tls_decision(tunnel()).verdict is TlsVerdict.INTERCEPT
    assert policy.needs_body(http_flow(), "response")
    assert policy.resolve("example.com", None) is answer
    assert [record.getMessage() for record in caplog.records] == [
        f"addon Broken failed in {method}" for method in ("tls_decision", "needs_body", "resolve")]


def test_a_broken_decision_closes_when_errors_refuse() -> None:
    policy = make(Broken(), Decider(TlsVerdict.INTERCEPT), addon_errors="refuse").policy
    assert policy.tls_decision(tunnel()).verdict is TlsVerdict.REFUSE


@pytest.mark.parametrize("hook", ["http_connect", "requestheaders", "request"])
def test_a_refused_request_is_answered_500(hook: str) -> None:
    flow = http_flow()
    refuse(hook, flow, "counter.py")
    assert flow.response is not None and flow.response.status_code == 500
    assert flow.response.text == f"rulesproxy: the addon counter.py failed in {hook}; see the log.\n"
    assert flow.error is None


def test_a_refused_response_is_replaced_while_its_body_is_still_here() -> None:
    flow = http_flow()
    flow.response = Response.make(200, b"secret")
    refuse("response", flow, "counter.py")
    assert flow.response.status_code == 500 and b"secret" not in flow.response.content


@pytest.mark.parametrize("hook", ["responseheaders", "response", "http_connected"])
def test_what_cannot_be_answered_any_more_is_killed(hook: str) -> None:
    flow = http_flow()
    flow.response = Response.make(200)
    flow.response.raw_content = None  # streamed
    refuse(hook, flow, "counter.py")
    assert flow.error is not None and flow.error.msg == flow.error.KILLED_MESSAGE


def test_connections_are_refused_by_their_error() -> None:
    data = ServerConnectionHookData(Server(("example.com", 80)), Client())
    refuse("server_connect", data, "counter.py")
    assert data.server.error == "the addon counter.py failed in server_connect"


class Raising:
    name = "raising"

    def client_connected(self, client: Client) -> None:
        raise RuntimeError("broken")

    def dns_request(self, flow: DNSFlow) -> None:
        raise RuntimeError("broken")


class Witness:
    def __init__(self) -> None:
        self.entered = False

    def client_connected(self, client: Client) -> None:
        self.entered = True


@pytest.mark.parametrize("policy, error, entered", [
    ("continue", None, True), ("refuse", "the addon raising failed in client_connected", False)])
async def test_addon_errors_decides_what_a_raising_handler_means(
        policy: str, error: str | None, entered: bool) -> None:
    witness = Witness()
    manager = make(Raising(), witness, addon_errors=policy)
    client = Client()
    await manager.fire(ClientConnectedHook(client))
    assert client.error == error
    assert witness.entered is entered


async def test_a_refused_dns_query_is_answered_servfail() -> None:
    query = DNSMessage(id=7, query=True, questions=[Question("example.com", 1, 1)])
    flow = DNSFlow(Client(), Server(), query)
    await make(Raising(), addon_errors="refuse").fire(DnsRequestHook(flow))
    assert flow.response is not None and flow.response.response_code == response_codes.SERVFAIL
