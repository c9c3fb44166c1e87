"""`tag`: mark the flow (rule-language 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.effects import effect
from rulesproxy.compiler.ir import Effect
from rulesproxy.compiler.source import Node, Scalar, Sequence
from rulesproxy.compiler.template import Place, parse_template
from rulesproxy.model.flow import Flow
from rulesproxy.runtime.decision import RuleInfo
from rulesproxy.runtime.op import Op

KEY = "tag"
SUMMARY = "Mark the flow with words that scripts and logs can see in `flow.metadata[\"tags\"]`."
EXAMPLE = """\
version: 1
rules:
  - name: mark-checkout
    match: {host: shop.test, path: /checkout/**}
    action: {tag: [checkout, "user-${request.headers.x-user | default(\\"nobody\\")}"]}
    tests:
      - request: GET http://shop.test/checkout/pay
        expect: {rule: mark-checkout}
"""
SCHEMA: dict[str, Any] = {"$ref": "#/$defs/texts", "description": "One tag or a list of them."}


@dataclass(frozen=True, slots=True)
class Tag(Op):
    tags: tuple[str, ...]

    def apply(self, subject: Flow, rule: RuleInfo | None) -> None:
        present = subject.metadata.setdefault("tags", [])
        for tag in self.tags:
            if tag not in present:
                present.append(tag)


def build(node: Node, context: Context) -> list[Effect]:
    items = node.items if isinstance(node, Sequence) else (node,)
    tags = tuple(parse_template(item, context, place=Place.TEXT) for item in items if isinstance(item, Scalar))
    return [effect(context, node, Tag, {"tags": tags}, phases=context.visible, kind="note", companion=True)]
