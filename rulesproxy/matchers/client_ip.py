"""`client_ip`: the client's address: addresses, networks, named sets (rule-language 2)."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.ir import Leaf, Test
from rulesproxy.compiler.operators import TEXT, quote
from rulesproxy.compiler.source import Node, Scalar
from rulesproxy.compiler.strings_build import all_of, texts_of
from rulesproxy.compiler.writer import Module, literal
from rulesproxy.runtime.networks import networks
from rulesproxy.runtime.phase import ALL_PHASES

KEY = "client_ip"
SUMMARY = "The client's IP address: an address, a network, a named set, or a list of these."
EXAMPLE = """\
version: 1
rules:
  - name: guests
    match: {client_ip: [192.168.7.0/24, "fd00:7::/32"], host: printer.example}
    action: {block: {status: 403}}
    tests:
      - {client: 192.168.7.20, request: GET http://printer.example/, expect: {rule: guests, status: 403}}
      - {client: 192.168.8.20, request: GET http://printer.example/, expect: {no_rule: guests}}
"""
SCHEMA = {
    "description": "An address, a network as 10.0.0.0/8, or the name of a set of these; a list means any of them.",
    "$ref": "#/$defs/texts",
}
_LARGE = 200


@dataclass(frozen=True, slots=True)
class ClientIpLeaf(Leaf):
    """`blocks` are networks in canonical form, single addresses among them."""

    PHASES = ALL_PHASES

    blocks: tuple[str, ...]

    def holds(self, x: Any) -> bool:
        return x.client_ip in networks(*self.blocks)

    def emit(self, module: Module) -> Test:
        use = module.use("rulesproxy.runtime.networks", "networks")
        if len(self.blocks) > _LARGE:
            data = module.value("\n".join(self.blocks).encode())
            name = module.const(f"{use}(*{module.use(TEXT, 'lines')}({data}))")
        else:
            name = module.const(f"{use}({', '.join(map(literal, self.blocks))})")
        return Test(f"x.client_ip in {name}", f"x.client_ip not in {name}")

    def describe_miss(self, x: Any) -> str:
        return f"client is {x.client_ip or 'unknown'}, wanted {quote(self.blocks)}"


def build(node: Node, context: Context) -> ClientIpLeaf | None:
    texts = texts_of(node, context)
    found = all_of([_blocks(text, item, context) for text, item in texts]) if texts is not None else None
    if found is None:
        return None
    return ClientIpLeaf(node.pos, tuple(sorted({block for blocks in found for block in blocks})))


def _blocks(text: str, node: Scalar, context: Context) -> list[str] | None:
    if not any(char in text for char in ".:/") and not text.isdigit():
        return _set(node, context)
    try:
        return [_network(text)]
    except ValueError as exc:
        context.error(node, f'"{text}" is not an address or a network: {_reason(text, exc)}', help=_help(text),
                      code="bad-network")
        return None


def _set(node: Scalar, context: Context) -> list[str] | None:
    entries = context.set_values(node)
    if entries is None:
        return None
    blocks: list[str] = []
    bad: list[str] = []
    for entry in entries:
        try:
            blocks.append(_network(entry))
        except ValueError:
            bad.append(entry)
    if bad:
        context.warning("bad-set-entry", node, f"{len(bad)} entries of the set are no addresses and never match, such "
                                               f'as "{min(bad)}"')
    return blocks


def _network(text: str) -> str:
    """The canonical text of an address or a network. Raises ValueError."""
    network = ipaddress.ip_network(text)
    full = network.prefixlen == network.max_prefixlen
    return str(network.network_address) if full else str(network)


def _reason(text: str, error: ValueError) -> str:
    if "host bits" in str(error):
        return "it has bits set beyond its prefix"
    try:
        ipaddress.ip_address(text.partition("/")[0])
    except ValueError:
        return "there is no such address"
    return "the prefix has to be 0 to 32 for IPv4, 0 to 128 for IPv6"


def _help(text: str) -> str:
    try:
        return f"did you mean {ipaddress.ip_network(text, strict=False)}?"
    except ValueError:
        return "write 192.168.7.20, 192.168.7.0/24 or the name of a set"
