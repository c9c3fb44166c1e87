"""`status`: the status code of the response as it arrived (rule-language 2)."""

from __future__ import annotations

from dataclasses import dataclass

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.source import Node, Scalar
from rulesproxy.matchers._ranges import NumberLeaf, Range, range_of, read_ranges
from rulesproxy.runtime.phase import Phase

KEY = "status"
SUMMARY = "The response status: 404, 5xx, 500-599, or a list."
EXAMPLE = """\
version: 1
rules:
  - name: friendly-errors
    match: {host: shop.example, status: [404, 5xx]}
    action: {respond: {status: 503, body: back soon}}
    tests:
      - {request: GET http://shop.example/, upstream: {status: 502}, expect: {rule: friendly-errors, status: 503}}
      - {request: GET http://shop.example/, upstream: {status: 403}, expect: {no_rule: friendly-errors, status: 403}}
"""
SCHEMA = {
    "description": "The status code of the response as it arrived: 404, a class as 5xx, a range as 500-599; a list "
                   "means any of them.",
    "$ref": "#/$defs/texts",
}


@dataclass(frozen=True, slots=True)
class StatusLeaf(NumberLeaf):
    PHASES = frozenset((Phase.RESPONSE,))
    FACT = "status"


def build(node: Node, context: Context) -> StatusLeaf | None:
    found = read_ranges(node, context, _codes)
    return None if found is None else StatusLeaf(node.pos, *found)


def _codes(text: str, node: Scalar, context: Context) -> Range | None:
    if len(text) == 3 and text[0] in "12345" and text[1:].lower() == "xx":
        return int(text[0]) * 100, int(text[0]) * 100 + 99
    ends = range_of(text)
    if ends is None:
        context.error(node, f'"{text}" is not a status', help="write 404, 5xx or 500-599", code="bad-status")
    elif not (100 <= ends[0] <= 999 and 100 <= ends[1] <= 999):  # RFC 9110 §15: three digits
        context.error(node, f"a status code has three digits, from 100 on: {text}", code="bad-status")
    elif ends[0] > ends[1]:
        context.error(node, f"the range {text} is empty", help=f"write {ends[1]}-{ends[0]}", code="bad-status")
    else:
        return ends
    return None
