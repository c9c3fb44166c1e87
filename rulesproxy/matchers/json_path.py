"""`json_path`: values inside a message that is JSON (rule-language 2)."""

from __future__ import annotations

from dataclasses import dataclass

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.ir import Predicate
from rulesproxy.compiler.source import Node, Scalar
from rulesproxy.matchers._leaves import ValuesLeaf
from rulesproxy.matchers._names import build_values
from rulesproxy.runtime.json_values import BadPath, json_path
from rulesproxy.runtime.phase import MESSAGE_PHASES

KEY = "json_path"
SUMMARY = "Values inside a JSON message: JSONPath and string matcher."
EXAMPLE = """\
version: 1
rules:
  - name: large-orders
    match: {host: api.example, json_path: {$.order.total: {ge: 1000}, "$.order.items[*].sku": {prefix: X-}}}
    action: {websocket: {drop: true}}
    tests:
      - message: {on: GET http://api.example/live, json: {order: {total: 1200.5, items: [{sku: A-1}, {sku: X-2}]}}}
        expect: {rule: large-orders, sent: nothing}
      - message: {on: GET http://api.example/live, json: {order: {total: 80, items: [{sku: X-2}]}}}
        expect: {no_rule: large-orders}
"""
SCHEMA = {
    "description": "JSONPath (RFC 9535, as $.user.name or $.items[*].id) -> string matcher for what it finds: any "
                   "value may fit, numbers are decimal texts, lists and mappings compact JSON. "
                   "absent: it finds nothing. Messages of more than a million characters, a quarter of that for "
                   "paths with .. or * or a filter, are not looked at.",
    "$ref": "#/$defs/string_matchers",
}


@dataclass(frozen=True, slots=True)
class JsonPathLeaf(ValuesLeaf):
    PHASES = MESSAGE_PHASES
    FACT = "found"
    WORD = "json_path"

    @property
    def key(self) -> str:
        return self.name


def build(node: Node, context: Context) -> Predicate | None:
    return build_values(node, context, JsonPathLeaf, _path)


def _path(text: str, node: Scalar, context: Context) -> str | None:
    try:
        json_path(text)
    except BadPath as exc:
        help = f"write $.{text}" if text and text[0] not in "$@[." else "as $.user.name, $.items[*].id or $..id"
        if "function" in str(exc):
            help = "test what the path finds with regex: in the string matcher"
        context.error(node, f'"{text}" is not a JSONPath: {exc}', help=help, code="bad-json-path")
        return None
    return text
