"""`port`: the port of the connection (rule-language 2.4)."""

from __future__ import annotations

from dataclasses import dataclass

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.source import Node, Scalar
from rulesproxy.matchers._ranges import NumberLeaf, Range, range_of, read_ranges
from rulesproxy.runtime.phase import ALL_PHASES, Phase

KEY = "port"
SUMMARY = "The server port: a number, a range such as 8000-8999, or a list."
EXAMPLE = """\
version: 1
rules:
  - name: no-debug-ports
    match: {host: shop.example, port: [9229, 8000-8999]}
    action: {block: {status: 403}}
    tests:
      - {request: "GET http://shop.example:8080/", expect: {rule: no-debug-ports, status: 403}}
      - {request: GET http://shop.example/, expect: {no_rule: no-debug-ports}}
"""
SCHEMA = {
    "description": "The port the client wants to reach, 1 to 65535; a range as 8000-8999; a list means any of them.",
    "$ref": "#/$defs/texts",
}


@dataclass(frozen=True, slots=True)
class PortLeaf(NumberLeaf):
    PHASES = ALL_PHASES - {Phase.DNS}
    FACT = "port"


def build(node: Node, context: Context) -> PortLeaf | None:
    found = read_ranges(node, context, _ports)
    return None if found is None else PortLeaf(node.pos, *found)


def _ports(text: str, node: Scalar, context: Context) -> Range | None:
    ends = range_of(text)
    if ends is None:
        context.error(node, f'"{text}" is not a port', help="write a number or a range, as 443 or 8000-8999",
                      code="bad-port")
    elif not (1 <= ends[0] <= 65535 and 1 <= ends[1] <= 65535):
        context.error(node, f"a port is a number from 1 to 65535, not {text}", code="bad-port")
    elif ends[0] > ends[1]:
        context.error(node, f"the range {text} is empty", help=f"write {ends[1]}-{ends[0]}", code="bad-port")
    else:
        return ends
    return None
