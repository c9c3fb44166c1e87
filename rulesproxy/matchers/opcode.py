"""`opcode`: text and binary messages of a WebSocket (rule-language 2)."""

from __future__ import annotations

from dataclasses import dataclass

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.source import Node, Scalar
from rulesproxy.matchers._choice import ChoiceLeaf, read_choices
from rulesproxy.runtime.phase import Phase

KEY = "opcode"
SUMMARY = "Whether a WebSocket message is text or binary."
EXAMPLE = """\
version: 1
rules:
  - name: no-files-in-the-chat
    match: {host: chat.example, opcode: binary}
    action: {websocket: {drop: true}}
    tests:
      - message: {on: GET http://chat.example/room, bytes: "89 50 4e 47"}
        expect: {rule: no-files-in-the-chat, sent: nothing}
      - message: {on: GET http://chat.example/room, text: hello}
        expect: {no_rule: no-files-in-the-chat, sent: {text: hello}}
"""
SCHEMA = {
    "description": "text or binary: what kind of WebSocket message it is (RFC 6455), whatever its content looks like.",
    "$ref": "#/$defs/texts",
}
#: The frame opcodes of RFC 6455 §5.2, for those who know them by number.
_NUMBERS = {"1": "text", "2": "binary"}


@dataclass(frozen=True, slots=True)
class OpcodeLeaf(ChoiceLeaf):
    PHASES = frozenset((Phase.WEBSOCKET,))
    FACT = "opcode"
    WORD = "opcode"


def build(node: Node, context: Context) -> OpcodeLeaf | None:
    choices = read_choices(node, context, _opcode)
    return None if choices is None else OpcodeLeaf(node.pos, choices)


def _opcode(text: str, node: Scalar, context: Context) -> str | None:
    name = _NUMBERS.get(text, text.lower())
    if name in ("text", "binary"):
        return name
    control = name in ("ping", "pong", "close", "8", "9", "10")
    context.error(node, f'"{text}" is not a kind of message: text or binary', code="bad-opcode",
                  help="rules see whole messages; ping, pong and close frames are the proxy's own" if control else "")
    return None
