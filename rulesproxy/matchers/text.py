"""`text`: the content of a message as text (rule-language 2, 2.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.ir import Leaf, Test
from rulesproxy.compiler.source import Node
from rulesproxy.compiler.strings import StringMatcher, describe_values
from rulesproxy.compiler.strings_build import build_strings
from rulesproxy.compiler.writer import Module
from rulesproxy.runtime.phase import MESSAGE_PHASES

KEY = "text"
SUMMARY = "The content of a message as text."
EXAMPLE = """\
version: 1
rules:
  - name: answer-pings
    match: {host: chat.example, direction: to_server, text: {regex: "^ping ([0-9]+)$"}}
    action: {websocket: {drop: true, send: {to: client, text: "pong ${match.1}"}}}
    tests:
      - message: {on: GET http://chat.example/room, text: ping 7}
        expect: {rule: answer-pings, sent: nothing, messages: {to_client: pong 7}}
      - message: {on: GET http://chat.example/room, text: hello}
        expect: {no_rule: answer-pings, sent: {text: hello}}
"""
SCHEMA = {
    "description": "The content of a message, as UTF-8 (invalid bytes count as U+FFFD), whatever kind of message it "
                   "is. What one TCP read brings is one message: a text may be cut anywhere.",
    "$ref": "#/$defs/string_matcher",
}


@dataclass(frozen=True, slots=True)
class ContentLeaf(Leaf):
    """One text, which is always there: an empty message has the empty text."""

    PHASES = MESSAGE_PHASES

    matcher: StringMatcher

    def holds(self, x: Any) -> bool:
        return self.matcher.holds(x.texts)

    def emit(self, module: Module) -> Test:
        return self.matcher.emit(module, "x.texts")

    def captures(self) -> frozenset[str]:
        return self.matcher.captures()

    def capture(self, x: Any, name: str) -> str | None:
        return self.matcher.capture(x.texts, name)

    def emit_capture(self, module: Module, name: str) -> str:
        return self.matcher.emit_capture(module, "x.texts", name)

    def describe_miss(self, x: Any) -> str:
        return f"text is {describe_values(x.texts)}, wanted {self.matcher.describe()}"


def build(node: Node, context: Context) -> ContentLeaf | None:
    matcher = build_strings(node, context)
    return None if matcher is None else ContentLeaf(node.pos, matcher)
