"""`direction`: which way a message goes (rule-language 2)."""

from __future__ import annotations

from dataclasses import dataclass

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.source import Node, Scalar
from rulesproxy.compiler.suggest import did_you_mean
from rulesproxy.matchers._choice import ChoiceLeaf, read_choices
from rulesproxy.runtime.phase import MESSAGE_PHASES

KEY = "direction"
SUMMARY = "Which way a message goes: to_server or to_client."
EXAMPLE = """\
version: 1
rules:
  - name: clients-may-not-shout
    match: {host: chat.example, direction: to_server}
    action: {websocket: {replace: {text: "!!!", with: "!"}}}
    tests:
      - message: {on: GET http://chat.example/room, direction: to_server, text: hello!!!}
        expect: {rule: clients-may-not-shout, sent: {text: hello!}}
      - message: {on: GET http://chat.example/room, direction: to_client, text: hello!!!}
        expect: {no_rule: clients-may-not-shout, sent: {text: hello!!!}}
"""
SCHEMA = {
    "description": "The way a message goes: to_server (the client sent it) or to_client (the server did).",
    "$ref": "#/$defs/texts",
}
_DIRECTIONS = ("to_server", "to_client")
_WORDS = {
    "in": "to_client", "incoming": "to_client", "inbound": "to_client", "receive": "to_client", "received": "to_client",
    "from_server": "to_client", "server_to_client": "to_client", "response": "to_client", "client": "to_client",
    "out": "to_server", "outgoing": "to_server", "outbound": "to_server", "send": "to_server", "sent": "to_server",
    "from_client": "to_server", "client_to_server": "to_server", "request": "to_server", "server": "to_server",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class DirectionLeaf(ChoiceLeaf):
    PHASES = MESSAGE_PHASES
    FACT = "direction"
    WORD = "direction"


def build(node: Node, context: Context) -> DirectionLeaf | None:
    choices = read_choices(node, context, _direction)
    return None if choices is None else DirectionLeaf(node.pos, choices)


def _direction(text: str, node: Scalar, context: Context) -> str | None:
    if text in _DIRECTIONS:
        return text
    context.error(node, f'"{text}" is not a direction: to_server or to_client', code="bad-direction",
                  help=did_you_mean(text, _DIRECTIONS, _WORDS))
    return None
