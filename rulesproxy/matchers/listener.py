"""`listener`: which of the proxy's listeners the client came in by (rule-language 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.ir import Leaf, Test
from rulesproxy.compiler.operators import either, equals, quote
from rulesproxy.compiler.source import Node, Scalar
from rulesproxy.compiler.strings_build import all_of, texts_of
from rulesproxy.compiler.suggest import did_you_mean
from rulesproxy.compiler.writer import Module, literal
from rulesproxy.model.names import InvalidHost, canonical_host, host_for_url
from rulesproxy.runtime.phase import ALL_PHASES

KEY = "listener"
SUMMARY = 'The listener the client came in by: a mode, or "@8080", or "@127.0.0.1:8080".'
EXAMPLE = """\
version: 1
rules:
  - name: names-of-the-lab
    match: {listener: dns, domain: lab.example}
    action: {spoof_dns: {A: 192.0.2.7}}
    tests:
      - {dns: {name: db.lab.example}, expect: {rule: names-of-the-lab, dns: {answers: [192.0.2.7]}}}
      - {request: GET http://db.lab.example/, expect: {no_rule: names-of-the-lab}}
"""
SCHEMA = {
    "description": 'The mode of the listener (regular, reverse, upstream, socks5, transparent, dns), or "@port", or '
                   '"@host:port" as it was bound; a list means any of them.',
    "$ref": "#/$defs/texts",
}
MODES = ("regular", "dns", "reverse", "socks5", "transparent", "upstream", "local", "wireguard", "tun")


@dataclass(frozen=True, slots=True)
class ListenerLeaf(Leaf):
    """`modes` are names, `ports` are `:8080`, `addresses` are `host:8080`."""

    PHASES = ALL_PHASES

    modes: frozenset[str] = frozenset()
    ports: tuple[str, ...] = ()
    addresses: frozenset[str] = frozenset()

    def holds(self, x: Any) -> bool:
        return x.mode in self.modes or x.listener in self.addresses or x.listener.endswith(self.ports)

    def emit(self, module: Module) -> Test:
        tests = []
        if self.modes:
            tests.append(equals(module, "x.mode", self.modes))
        if self.addresses:
            tests.append(equals(module, "x.listener", self.addresses))
        if self.ports:
            ends = f"x.listener.endswith({literal(self.ports[0] if len(self.ports) == 1 else self.ports)})"
            tests.append(Test(ends, f"not {ends}"))
        return either(tests)

    def describe_miss(self, x: Any) -> str:
        wanted = quote([*self.modes, *(f"@{where.removeprefix(':')}" for where in (*self.ports, *self.addresses))])
        return f"listener is {x.mode}@{x.listener}, wanted {wanted}"


def build(node: Node, context: Context) -> ListenerLeaf | None:
    texts = texts_of(node, context)
    found = all_of([_read(text, item, context) for text, item in texts]) if texts is not None else None
    if found is None:
        return None
    ports = {where for where in found if where.startswith(":")}
    modes = {where for where in found if ":" not in where}
    return ListenerLeaf(node.pos, frozenset(modes), tuple(sorted(ports)), frozenset(set(found) - ports - modes))


def _read(text: str, node: Scalar, context: Context) -> str | None:
    """A mode, `:port` or `host:port`. None after an error."""
    if not text.startswith("@"):
        if text in MODES:
            return text
        address = f'write "@{text}"' if text.rpartition(":")[2].isdigit() else ""
        context.error(node, f'there is no mode "{text}"', code="bad-listener",
                      help=did_you_mean(text, MODES) or address or 'write a mode, "@8080" or "@127.0.0.1:8080"')
        return None
    host, _, port = text[1:].rpartition(":")
    try:
        if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
            raise ValueError(f'"{port}" is not a port')
        return f"{host_for_url(canonical_host(host))}:{int(port)}" if host else f":{int(port)}"
    except (InvalidHost, ValueError) as exc:
        context.error(node, f'"{text}" is not a listener: {exc}', code="bad-listener",
                      help='write "@8080", "@127.0.0.1:8080" or "@[::1]:8080"')
        return None
