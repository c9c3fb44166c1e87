"""The example addons do what their first line says."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rulesproxy.addons.context import ctx
from rulesproxy.addons.core_options import ProxyOptions
from rulesproxy.addons.errors import OptionsError
from rulesproxy.addons.manager import AddonManager
from rulesproxy.addons.script import Scripts
from rulesproxy.model.connection import Client, Server
from rulesproxy.model.dns import DNSFlow, DNSMessage, Question, types
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.http import Request, Response
from rulesproxy.proxy.dns.exchange import DnsRequestHook
from rulesproxy.proxy.http_hooks import RequestheadersHook, RequestHook, ResponseheadersHook

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def own_context(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in ("options", "master"):
        ctx.__dict__.pop(name, None)


def start(name: str, *assignments: str) -> AddonManager:
    """The example loaded as `run -s` does it."""
    options = ctx.options = ProxyOptions()
    manager = AddonManager(options)
    options.set(assignments)
    manager.add(Scripts([EXAMPLES / name], manager))
    options.check_deferred()
    manager.configure_all()
    return manager


def http_flow(method: str = "GET", url: str = "http://api.example/", body: str = "") -> HTTPFlow:
    flow = HTTPFlow(Client(), Server())
    flow.request = Request.make(method, url, body)
    return flow


def dns_flow(name: str, record_type: int) -> DNSFlow:
    query = DNSMessage(id=7, query=True, questions=[Question(name, record_type)])
    return DNSFlow(Client(), Server(), query)


def test_there_are_no_untested_example_addons() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert [path.name for path in sorted(EXAMPLES.glob("*.py")) if f'"{path.name}"' not in text] == []


@pytest.mark.parametrize("assignments, value", [((), "yes"), (("header_value=hello",), "hello")])
async def test_add_header(assignments: tuple[str, ...], value: str) -> None:
    manager = start("add_header.py", *assignments)
    flow = http_flow()
    flow.response = Response.make(200, b"body")
    await manager.fire(ResponseheadersHook(flow))
    assert flow.response.headers["x-passed-by"] == value
    assert not manager.policy.needs_body(flow, "response"), "the body streams"


async def test_count_hosts(caplog: pytest.LogCaptureFixture) -> None:
    manager = start("count_hosts.py")
    for host in ("a.example", "b.example", "a.example"):
        await manager.fire(RequestheadersHook(http_flow(url=f"http://{host}/")))
    caplog.set_level("INFO")
    await manager.shutdown()
    lines = [record.getMessage().split() for record in caplog.records]
    assert lines == [["2", "a.example"], ["1", "b.example"]]


@pytest.mark.parametrize("body, status, answer", [
    ('{"name": "Ada"}', 200, {"greeting": "Hello, Ada!"}),
    ("not JSON", 400, {"error": "expected a JSON object with a name"}),
    ("[]", 400, {"error": "expected a JSON object with a name"}),
    ("{}", 400, {"error": "expected a JSON object with a name"}),
])
async def test_mock_api(body: str, status: int, answer: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    manager = start("mock_api.py")
    flow = http_flow("POST", "http://api.example/greet?x=1", body)
    assert manager.policy.needs_body(flow, "request"), "the handler reads the body"
    await manager.fire(RequestHook(flow))
    assert flow.response is not None
    assert (flow.response.status_code, json.loads(flow.response.content)) == (status, answer)
    other = http_flow("POST", "http://api.example/greetings", body)
    await manager.fire(RequestHook(other))
    assert other.response is None
    assert not caplog.records


async def test_dns_names() -> None:
    manager = start("dns_names.py", "dns_names=box.test=192.0.2.7", "dns_names=B.test=192.0.2.8")
    flow = dns_flow("BOX.test", types.A)
    await manager.fire(DnsRequestHook(flow))
    assert flow.response is not None
    answer, = flow.response.answers
    assert (answer.name, str(answer.ipv4_address)) == ("BOX.test", "192.0.2.7")
    other_type = dns_flow("b.test", types.AAAA)
    await manager.fire(DnsRequestHook(other_type))
    assert other_type.response is not None and other_type.response.answers == []
    unknown = dns_flow("else.test", types.A)
    await manager.fire(DnsRequestHook(unknown))
    assert unknown.response is None


async def test_dns_names_refuses_what_is_no_address() -> None:
    manager = start("dns_names.py", "dns_names=box.test=192.0.2.7")
    with pytest.raises(OptionsError, match=r"dns_names: 'box\.test=somewhere' is not NAME=ADDRESS"):
        ctx.options.update(dns_names=["box.test=somewhere"])
    flow = dns_flow("box.test", types.A)
    await manager.fire(DnsRequestHook(flow))
    assert flow.response is not None and len(flow.response.answers) == 1, "the old names stay"
