"""`headers`: request fields, each line by itself (rule-language 2.2)."""

from __future__ import annotations

from dataclasses import dataclass

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.ir import Predicate
from rulesproxy.compiler.source import Node
from rulesproxy.matchers._leaves import ValuesLeaf
from rulesproxy.matchers._names import build_values, field_name
from rulesproxy.runtime.phase import REQUEST_PHASES

KEY = "headers"
SUMMARY = "Request header fields: name and string matcher."
EXAMPLE = """\
version: 1
rules:
  - name: beta-testers
    match: {host: shop.example, headers: {x-group: [beta, staff]}}
    action: {rewrite: {headers: {set: {x-beta: "1"}}}}
    tests:
      - {request: {url: "http://shop.example/", headers: {X-Group: beta}}, expect: {rule: beta-testers}}
      - {request: GET http://shop.example/, expect: {no_rule: beta-testers}}
"""
SCHEMA = {
    "description": "Field name (in any case) -> string matcher for its lines. Every line is a value by itself "
                   "and commas do not split it; has: token looks at the elements of a comma list. With not and "
                   "absent no line may fit.",
    "$ref": "#/$defs/string_matchers",
}


@dataclass(frozen=True, slots=True)
class HeaderLeaf(ValuesLeaf):
    PHASES = REQUEST_PHASES
    FACT = "header"
    WORD = "header"

    @property
    def key(self) -> bytes:
        return self.name.encode()


def build(node: Node, context: Context) -> Predicate | None:
    return build_values(node, context, HeaderLeaf, field_name)
