"""`query`: query keys, decoded; holds if any value of the key does (rule-language 2.5)."""

from __future__ import annotations

from dataclasses import dataclass

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.ir import Predicate
from rulesproxy.compiler.source import Node
from rulesproxy.matchers._leaves import ValuesLeaf
from rulesproxy.matchers._names import build_values, query_key
from rulesproxy.runtime.phase import REQUEST_PHASES

KEY = "query"
SUMMARY = "Query keys of the URL: name and string matcher."
EXAMPLE = """\
version: 1
rules:
  - name: far-pages
    match: {host: shop.example, path: /search, query: {page: {gt: 100}}}
    action: {respond: {status: 404, body: no such page}}
    tests:
      - {request: "GET http://shop.example/search?q=a&page=101", expect: {rule: far-pages, status: 404}}
      - {request: "GET http://shop.example/search?q=a&page=100", expect: {no_rule: far-pages}}
"""
SCHEMA = {
    "description": "Key (case counts, %XX and + decoded) -> string matcher; holds if any value of the key fits. A key "
                   "without = has the empty value. With not and absent none may fit.",
    "$ref": "#/$defs/string_matchers",
}


@dataclass(frozen=True, slots=True)
class QueryLeaf(ValuesLeaf):
    PHASES = REQUEST_PHASES
    FACT = "query"
    WORD = "query key"

    @property
    def key(self) -> str:
        return self.name


def build(node: Node, context: Context) -> Predicate | None:
    return build_values(node, context, QueryLeaf, query_key)
