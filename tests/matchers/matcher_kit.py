"""Builds a match from YAML and asks it twice: the interpreter's `holds`, and the expression that is emitted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.diagnostics import Diagnostic, Report
from rulesproxy.compiler.emit import emit_predicate
from rulesproxy.compiler.inputs import Disk, Inputs
from rulesproxy.compiler.interpret import holds
from rulesproxy.compiler.ir import Leaf, Predicate
from rulesproxy.compiler.source import parse
from rulesproxy.compiler.writer import Module
from rulesproxy.model.connection import Client
from rulesproxy.model.headers import Headers
from rulesproxy.model.http import Request, Response
from rulesproxy.model.tls import ClientHello, Tunnel
from rulesproxy.runtime.facts import DnsFacts, HttpFacts, TunnelFacts

SETS = {
    "hosts": frozenset(("a.example", "Bücher.example", ".below.example", "*.star.example", "10.0.0.1", "no host")),
    "whole": frozenset(("t.example", ".t.example")),
    "many": frozenset(f"{kind}{i}.many.example" for i in range(1000) for kind in ("h", ".d")),
    "words": frozenset(("red", "green")),
    "nets": frozenset(("10.1.0.0/16", "fd00::/8", "192.0.2.1")),
    "addresses": frozenset(f"10.9.{i // 256}.{i % 256}" for i in range(1000)),
}
VARS = {"host": "var.example", "folder": "/v", "star": "/s/*"}


def build_match(text: str) -> tuple[Predicate | None, list[Diagnostic]]:
    """The predicate of a match mapping, and the diagnostics."""
    report = Report()
    (node,) = parse("rules.yaml", text.encode(), report)
    context = Context(report, Inputs(Disk()), vars=VARS, sets=SETS, rule_name="r")
    return context.unit_predicate(node), report.diagnostics


def good_match(text: str) -> Predicate:
    predicate, diagnostics = build_match(text)
    assert predicate is not None, [d.message for d in diagnostics]
    return predicate


def leaf(text: str) -> Leaf:
    predicate = good_match(text)
    assert isinstance(predicate, Leaf)
    return predicate


def bad_match(text: str) -> Diagnostic:
    """The one error of a match that cannot be built."""
    predicate, diagnostics = build_match(text)
    assert predicate is None
    (diagnostic,) = diagnostics
    assert diagnostic.severity == "error"
    return diagnostic


def run_module(module: Module, expression: str) -> Callable[[Any], Any]:
    """A function of the facts, as generated code would have it."""
    head, _ = module.text()
    assert head.isascii()
    namespace: dict[str, Any] = {"DATA": module.data}
    exec(f"{head}\ndef function(x):\n    return {expression}\n", namespace)  # noqa: S102  # what is under test
    function: Callable[[Any], Any] = namespace["function"]
    return function


def matches(predicate: Predicate, x: Any) -> bool:
    """Whether the predicate holds; interpreted and emitted, plain and negated, must agree."""
    module = Module()
    test = emit_predicate(predicate, module)
    yes, no = run_module(module, test.yes)(x), run_module(module, test.negated.yes)(x)
    wanted = holds(predicate, x)
    assert bool(yes) is wanted, (test.yes, wanted)
    assert bool(no) is not wanted, (test.negated.yes, wanted)
    if isinstance(predicate, Leaf) and not wanted:
        assert len(predicate.describe_miss(x)) < 1000
    return wanted


def captured(predicate: Leaf, x: Any, name: str) -> str | None:
    """The capture, interpreted and emitted."""
    module = Module()
    value: str | None = run_module(module, predicate.emit_capture(module, name))(x)
    assert value == predicate.capture(x, name)
    return value


def client(ip: str = "127.0.0.1", mode: str = "regular", listener: str = "127.0.0.1:8080") -> Client:
    return Client(peername=(ip, 50000), proxy_mode=mode, listener=listener)


def http(url: str = "http://a.example/", method: str = "GET", *headers: tuple[str, str], by: Client | None = None,
         response: Response | None = None) -> HttpFacts:
    """Facts of a request, or of the response to it."""
    fields = Headers((name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in headers)
    request = Request.make("GET", url, headers=fields)
    request.method = method
    x = HttpFacts(request, by or client())
    if response is not None:
        x.see_response(response)
    return x


def at(path: str) -> HttpFacts:
    """Facts of a request for a raw target."""
    x = http()
    x.target = path
    return x


def fields(*headers: tuple[str, str]) -> HttpFacts:
    return http("http://a.example/", "GET", *headers)


def answer(status: int = 200, *headers: tuple[str, str]) -> HttpFacts:
    """Facts of the response phase."""
    response = Response.make(status, headers=Headers((name.encode(), value.encode()) for name, value in headers))
    return http(response=response)


def tunnel(host: str, port: int = 443, sni: str | None = None, hello: bool = False) -> TunnelFacts:
    """Facts of the connect phase, or with `hello` or `sni` of the tls phase."""
    seen = ClientHello(sni, (), (), (), (), b"") if hello or sni else None
    return TunnelFacts(Tunnel(client(), host, port, seen))


def query(name: str, dns_type: str = "A") -> DnsFacts:
    return DnsFacts(client(mode="dns", listener="127.0.0.1:8053"), name, dns_type)
