"""`method`: the request method (rule-language 2.5)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.source import Node, Scalar
from rulesproxy.matchers._choice import ChoiceLeaf, read_choices
from rulesproxy.runtime.phase import REQUEST_PHASES

KEY = "method"
SUMMARY = "The request method, or a list of them."
EXAMPLE = """\
version: 1
rules:
  - name: read-only
    match: {host: shop.example, method: [POST, PUT, PATCH, DELETE]}
    action: {respond: {status: 405, body: read only}}
    tests:
      - {request: DELETE http://shop.example/items/1, expect: {rule: read-only, status: 405}}
      - {request: GET http://shop.example/items/1, expect: {no_rule: read-only}}
"""
SCHEMA = {
    "description": "The method, compared exactly; written in any case, as methods are upper case.",
    "$ref": "#/$defs/texts",
}
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §9.1


@dataclass(frozen=True, slots=True)
class MethodLeaf(ChoiceLeaf):
    PHASES = REQUEST_PHASES
    FACT = "method"
    WORD = "method"


def build(node: Node, context: Context) -> MethodLeaf | None:
    methods = read_choices(node, context, _method)
    return None if methods is None else MethodLeaf(node.pos, methods)


def _method(text: str, node: Scalar, context: Context) -> str | None:
    if text.upper() == "CONNECT":
        context.error(node, "no rule sees CONNECT as a request: it opens a tunnel", code="bad-method",
                      help="rules with host and port alone act on the tunnel")
        return None
    if not _TOKEN.fullmatch(text):
        context.error(node, f'"{text}" is not a method', code="bad-method",
                      help="write a list for several, as [GET, POST]")
        return None
    return text.upper()
