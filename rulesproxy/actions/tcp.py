"""`tcp`: change, drop, answer what a raw TCP connection brings, or end it (rule-language 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from rulesproxy.actions._messages import DROP, REPLACE, SEND, build_common
from rulesproxy.compiler.context import Context
from rulesproxy.compiler.effects import TCP, effect
from rulesproxy.compiler.ir import Effect
from rulesproxy.compiler.source import Mapping, Node, Scalar
from rulesproxy.model.effects import Drop
from rulesproxy.model.tcp import TCPFlow
from rulesproxy.runtime.decision import RuleInfo
from rulesproxy.runtime.op import Op
from rulesproxy.runtime.phase import Phase, Slot

KEY = "tcp"
SUMMARY = "Raw TCP: other bytes, none at all, bytes of one's own, or the end of the connection."
EXAMPLE = """\
version: 1
rules:
  - name: read-only-redis
    match: {host: cache.test, port: 6379, direction: to_server, text: {contains: FLUSHALL, ignore_case: true}}
    action:
      tcp: {drop: true, send: {to: client, text: "-ERR not here\\r\\n"}}
    tests:
      - message: {on: "tcp://cache.test:6379", text: "FLUSHALL\\r\\n"}
        expect: {rule: read-only-redis, sent: nothing, messages: {to_client: "-ERR not here\\r\\n"}}
  - name: no-smtp-out
    match: {host: mail.test, port: 25}
    action: {tcp: {close: reset}}
    tests:
      - message: {on: "tcp://mail.test:25", direction: to_client, text: "220 mail.test\\r\\n"}
        expect: {rule: no-smtp-out, closed: true}
"""
SCHEMA: dict[str, Any] = {
    "title": "tcp", "type": "object", "minProperties": 1,
    "description": "What happens to what one read of a raw TCP connection brings, at most 64 KiB and cut anywhere. "
                   "TLS is decrypted for it.",
    "properties": {
        "replace": REPLACE, "drop": DROP, "send": SEND,
        "close": {"description": "End both sides: close (or true) after the message and what is sent, or reset at "
                                 "once.",
                  "enum": ["close", "reset", True]},
    },
    "additionalProperties": False,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class CloseTcp(Op):
    """`how` is `close` or `reset`."""

    SLOT: ClassVar[Slot] = Slot.CLOSE

    how: str = "close"

    def apply(self, subject: TCPFlow, rule: RuleInfo | None) -> None:
        if self.how == "reset":
            subject.drop = Drop.RESET
        else:
            subject.close()
        if rule is not None:
            subject.rule = rule.name


def build(node: Node, context: Context) -> list[Effect]:
    effects = build_common(node, context, Phase.TCP, plaintext=True)
    close = node.get("close") if isinstance(node, Mapping) else None
    if isinstance(close, Scalar):
        how = "reset" if close.text == "reset" else "close"
        effects.append(effect(context, close, CloseTcp, {"how": how}, phases=TCP, slot=Slot.CLOSE,
                              needs_plaintext=True))
    return effects
