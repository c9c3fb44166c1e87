"""`path_regex`: an RE2 expression found in the canonical path (rule-language 2.5)."""

from __future__ import annotations

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.source import Node
from rulesproxy.compiler.strings import Condition, StringMatcher
from rulesproxy.compiler.strings_build import build_regex
from rulesproxy.matchers._paths import PathLeaf

KEY = "path_regex"
SUMMARY = "An RE2 regular expression that is found in the path."
EXAMPLE = """\
version: 1
rules:
  - name: old-api
    match: {host: shop.example, path_regex: "^/v([12])/"}
    action: {respond: {status: 410, body: "version ${match.1} is gone"}}
    tests:
      - {request: GET http://shop.example/v2/items, expect: {rule: old-api, body: version 2 is gone}}
      - {request: GET http://shop.example/v3/items, expect: {no_rule: old-api}}
"""
SCHEMA = {
    "description": "An RE2 regular expression, found anywhere in the path without the query; ^ and $ anchor it. "
                   "Groups are ${match.1} and ${match.name} in actions.",
    "$ref": "#/$defs/texts",
}


def build(node: Node, context: Context) -> PathLeaf | None:
    operator = build_regex(node, context)
    return None if operator is None else PathLeaf(node.pos, StringMatcher((Condition((operator,)),)))
