"""`udp`: change, drop, answer datagrams, or end their flow (rule-language 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from rulesproxy.actions._messages import DROP, REPLACE, SEND, build_common
from rulesproxy.compiler.context import Context
from rulesproxy.compiler.effects import UDP, effect
from rulesproxy.compiler.ir import Effect
from rulesproxy.compiler.source import Mapping, Node
from rulesproxy.model.udp import UDPFlow
from rulesproxy.runtime.decision import RuleInfo
from rulesproxy.runtime.op import Op
from rulesproxy.runtime.phase import Phase, Slot

KEY = "udp"
SUMMARY = "Datagrams: other content, none at all, datagrams of one's own, or the end of the flow."
EXAMPLE = """\
version: 1
rules:
  - name: no-debug-lines
    match: {host: logs.test, port: 514, text: {regex: "^<[0-9]*7>"}}
    action: {udp: {drop: true}}
    tests:
      - message: {on: "udp://logs.test:514", text: "<7>checkpoint"}
        expect: {rule: no-debug-lines, sent: nothing}
      - message: {on: "udp://logs.test:514", text: "<3>disk full"}
        expect: {no_rule: no-debug-lines, sent: {text: "<3>disk full"}}
"""
SCHEMA: dict[str, Any] = {
    "title": "udp", "type": "object", "minProperties": 1,
    "description": "What happens to a datagram.",
    "properties": {
        "replace": REPLACE, "drop": DROP, "send": SEND,
        "close": {"description": "true: the flow ends after the datagram, and nobody is told.", "const": True},
    },
    "additionalProperties": False,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class CloseUdp(Op):
    SLOT: ClassVar[Slot] = Slot.CLOSE

    def apply(self, subject: UDPFlow, rule: RuleInfo | None) -> None:
        subject.close()
        if rule is not None:
            subject.rule = rule.name


def build(node: Node, context: Context) -> list[Effect]:
    effects = build_common(node, context, Phase.UDP, plaintext=False)
    close = node.get("close") if isinstance(node, Mapping) else None
    if close is not None:
        effects.append(effect(context, close, CloseUdp, {}, phases=UDP, slot=Slot.CLOSE))
    return effects
