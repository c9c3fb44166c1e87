"""`host`: the host by name, address, glob, or string matcher (rule-language 2.3)."""

from __future__ import annotations

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.source import Node
from rulesproxy.compiler.strings_build import build_strings
from rulesproxy.matchers._hosts import HOSTS, HostLeaf

KEY = "host"
SUMMARY = "The host: a name or address, a glob, a list of them, or a string matcher."
EXAMPLE = """\
version: 1
rules:
  - name: no-trackers
    match: {host: ["*.tracker.example", ads.example.com]}
    action: {block: {status: 403}}
    tests:
      - {request: GET http://eu.tracker.example/pixel, expect: {rule: no-trackers}}
      - {request: GET http://tracker.example/pixel, expect: {no_rule: no-trackers}}
"""
SCHEMA = {
    "description": "The host, without a port. * is one label or a part of one, ** one or more labels; case and a "
                   "trailing dot do not count, Unicode names are their xn-- form. Or a string matcher.",
    "$ref": "#/$defs/string_matcher",
}


def build(node: Node, context: Context) -> HostLeaf | None:
    matcher = build_strings(node, context, HOSTS)
    return None if matcher is None else HostLeaf(node.pos, matcher)
