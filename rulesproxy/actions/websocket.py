"""`websocket`: change, drop, answer WebSocket messages, or close (rule-language 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from rulesproxy.actions._messages import DROP, REPLACE, SEND, build_common
from rulesproxy.compiler.context import Context
from rulesproxy.compiler.effects import WEBSOCKET, effect
from rulesproxy.compiler.ir import Effect
from rulesproxy.compiler.source import Mapping, Node, Scalar
from rulesproxy.compiler.template import Place, parse_template
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.websocket import LONGEST_REASON, may_be_sent
from rulesproxy.runtime.decision import RuleInfo
from rulesproxy.runtime.messages import close_websocket
from rulesproxy.runtime.op import Op
from rulesproxy.runtime.phase import Phase, Slot

KEY = "websocket"
SUMMARY = "WebSocket messages: other content, none at all, messages of one's own, or the end of the conversation."
EXAMPLE = """\
version: 1
rules:
  - name: mask-cards
    match: {host: chat.test, path: /room/**, direction: to_server}
    action:
      websocket: {replace: {regex: "[0-9]{12}([0-9]{4})", with: "****${match.1}"}}
    tests:
      - message: {on: GET https://chat.test/room/7, text: "card 4111111111111111"}
        expect: {rule: mask-cards, sent: {text: card ****1111}}
  - name: no-bots
    match: {host: chat.test, json: {type: hello, client: bot}}
    action:
      websocket: {drop: true, send: {to: client, json: {error: no bots}}, close: {code: 4403, reason: no bots}}
    tests:
      - message: {on: GET https://chat.test/room/7, json: {type: hello, client: bot}}
        expect: {rule: no-bots, sent: nothing, messages: {to_client: '{"error": "no bots"}'}, closed: true}
      - message: {on: GET https://chat.test/room/7, json: {type: hello, client: browser}}
        expect: {no_rule: no-bots, closed: false}
"""
_CODES = {"type": "integer", "minimum": 1000, "maximum": 4999}
SCHEMA: dict[str, Any] = {
    "title": "websocket", "type": "object", "minProperties": 1,
    "description": "What happens to a WebSocket message; its hosts are decrypted.",
    "properties": {
        "replace": REPLACE, "drop": DROP, "send": SEND,
        "close": {
            "title": "close", "type": ["object", "integer", "boolean"], "minimum": 1000, "maximum": 4999,
            "description": "Close both sides after the message: true (code 1000), a code, or a mapping.",
            "properties": {
                "code": {"description": "The close code: 1000 unless given; 4000 to 4999 are free.", **_CODES},
                "reason": {"$ref": "#/$defs/text", "description": "Why, in at most 123 bytes."},
            },
            "additionalProperties": False,
        },
    },
    "additionalProperties": False,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class CloseWebSocket(Op):
    SLOT: ClassVar[Slot] = Slot.CLOSE

    code: int = 1000
    reason: str = ""

    def apply(self, subject: HTTPFlow, rule: RuleInfo | None) -> None:
        close_websocket(subject, self.code, self.reason)


def build(node: Node, context: Context) -> list[Effect]:
    effects = build_common(node, context, Phase.WEBSOCKET, plaintext=True)
    close = node.get("close") if isinstance(node, Mapping) else None
    args = _close(close, context) if close is not None else None
    if args is not None and close is not None:
        effects.append(effect(context, close, CloseWebSocket, args, phases=WEBSOCKET, slot=Slot.CLOSE,
                              needs_plaintext=True))
    return effects


def _close(node: Node, context: Context) -> dict[str, Any] | None:
    code: Node | None = node
    args: dict[str, Any] = {}
    if isinstance(node, Mapping):
        code, reason = node.get("code"), node.get("reason")
        if isinstance(reason, Scalar):
            args["reason"] = parse_template(reason, context, place=Place.TEXT)
            if isinstance(args["reason"], str) and len(args["reason"].encode()) > LONGEST_REASON:
                context.error(reason, f"a close reason has at most {LONGEST_REASON} bytes", code="close-reason")
    if isinstance(code, Scalar) and isinstance(code.value, bool):
        if not code.value:
            context.error(node, "close: false closes nothing", help="leave it out")
            return None
    elif isinstance(code, Scalar):
        args["code"] = code.value
        if not may_be_sent(code.value):
            context.error(code, f"the close code {code.text} is never sent", code="close-code",
                          help="1000 normal, 1001 going away, 1008 policy, 1011 error, or 4000 to 4999")
            return None
    return args
