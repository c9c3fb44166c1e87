"""`tls`: say what happens to TLS, whatever other rules need (rule-language 3, 5.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.effects import effect
from rulesproxy.compiler.ir import Effect
from rulesproxy.compiler.source import Node, Scalar
from rulesproxy.runtime.op import Op
from rulesproxy.runtime.phase import Phase, Slot

KEY = "tls"
SUMMARY = "Decrypt TLS (intercept), leave it alone (passthrough), or refuse it."
EXAMPLE = """\
version: 1
rules:
  - name: pinned-app
    match: {sni: api.pinned.test}
    action: {tls: passthrough}
    tests:
      - tls: {sni: api.pinned.test}
        expect: {rule: pinned-app, tls: relay}
  - name: look-into-shop
    match: {domain: shop.test}
    action: {tls: intercept}
    tests:
      - tls: {sni: www.shop.test}
        expect: {rule: look-into-shop, tls: intercept}
"""
SCHEMA: dict[str, Any] = {
    "description": "What happens when a client starts TLS.",
    "enum": ["intercept", "passthrough", "refuse"],
}


@dataclass(frozen=True, slots=True)
class Tls(Op):
    """`verdict`: `intercept`, `relay` or `refuse` (model/policy.py)."""

    SLOT: ClassVar[Slot] = Slot.TLS

    verdict: str


def build(node: Node, context: Context) -> list[Effect]:
    if not isinstance(node, Scalar):
        return []
    verdict = "relay" if node.text == "passthrough" else node.text
    return [effect(context, node, Tls, {"verdict": verdict}, phases=frozenset((Phase.TLS,)), slot=Slot.TLS)]
