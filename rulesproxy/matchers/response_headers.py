"""`response_headers`: response fields as they arrived, each line by itself (rule-language 2.2)."""

from __future__ import annotations

from dataclasses import dataclass

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.ir import Predicate
from rulesproxy.compiler.source import Node
from rulesproxy.matchers._leaves import ValuesLeaf
from rulesproxy.matchers._names import build_values, field_name
from rulesproxy.runtime.phase import Phase

KEY = "response_headers"
SUMMARY = "Response header fields: name and string matcher."
EXAMPLE = """\
version: 1
rules:
  - name: no-server-name
    match: {host: shop.example, response_headers: {server: {present: true}}}
    action: {rewrite: {response_headers: {remove: [server]}}}
    tests:
      - request: GET http://shop.example/
        upstream: {headers: {server: Apache/2.4}}
        expect: {rule: no-server-name, headers: {server: null}}
      - {request: GET http://shop.example/, expect: {no_rule: no-server-name}}
"""
SCHEMA = {
    "description": "Field name (in any case) -> string matcher for its lines, as in headers, of the response as "
                   "it arrived.",
    "$ref": "#/$defs/string_matchers",
}


@dataclass(frozen=True, slots=True)
class ResponseHeaderLeaf(ValuesLeaf):
    PHASES = frozenset((Phase.RESPONSE,))
    FACT = "response_header"
    WORD = "response header"

    @property
    def key(self) -> bytes:
        return self.name.encode()


def build(node: Node, context: Context) -> Predicate | None:
    return build_values(node, context, ResponseHeaderLeaf, field_name)
