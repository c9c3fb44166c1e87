"""`path`: the canonical path, with wildcards and captures (rule-language 2.5)."""

from __future__ import annotations

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.source import Node
from rulesproxy.compiler.strings_build import build_strings
from rulesproxy.matchers._paths import PATHS, PathLeaf

KEY = "path"
SUMMARY = "The path: exact, with * and **, with captures {id} and {id:int}, or a string matcher."
EXAMPLE = """\
version: 1
rules:
  - name: item
    match: {host: shop.example, path: "/items/{id:int}"}
    action: {respond: {body: "item ${path.id}"}}
    tests:
      - {request: GET http://shop.example/items/42, expect: {rule: item, body: item 42}}
      - {request: GET http://shop.example/items/new, expect: {no_rule: item}}
"""
SCHEMA = {
    "description": "The path without the query. * is one segment or a part of one, {x} and {x:int} one whole segment "
                   "that actions may use, /** the path itself and everything below. Case counts. Or a string matcher; "
                   "{exact: …} takes * and { literally.",
    "$ref": "#/$defs/string_matcher",
}


def build(node: Node, context: Context) -> PathLeaf | None:
    matcher = build_strings(node, context, PATHS)
    return None if matcher is None else PathLeaf(node.pos, matcher)
