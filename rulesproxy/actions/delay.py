"""`delay`: add latency (rule-language 3)."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import Any

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.effects import effect
from rulesproxy.compiler.ir import Effect
from rulesproxy.compiler.source import Mapping, Node, Scalar
from rulesproxy.model.dns import DNSFlow
from rulesproxy.model.effects import Pacing
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.runtime.decision import RuleInfo
from rulesproxy.runtime.op import Op
from rulesproxy.runtime.phase import MESSAGE_PHASES

KEY = "delay"
SUMMARY = "Add latency: a fixed time, a uniform range, or a normal distribution. Several delays add up."
EXAMPLE = """\
version: 1
rules:
  - name: slow-search
    match: {host: shop.test, path: /search}
    action: {delay: 200ms}
    tests:
      - request: GET http://shop.test/search?q=hat
        expect: {rule: slow-search}
"""
_TIME = r"^\s*([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m)\s*$"
_DURATION = {"description": "A time with its unit: 200ms, 1.5s, 1m.", "type": "string", "pattern": _TIME}
SCHEMA: dict[str, Any] = {
    "title": "delay",
    "description": "A time (200ms, 1.5s), or `uniform: [least, most]`, or `normal: {mean, deviation}`.",
    "type": ["object", "string"],
    "pattern": _TIME,
    "properties": {
        "uniform": {"description": "Any time between two.", "type": "array", "items": _DURATION,
                    "minItems": 2, "maxItems": 2},
        "normal": {"title": "normal", "description": "Normally distributed, never negative.", "type": "object",
                   "properties": {"mean": _DURATION, "deviation": _DURATION}, "required": ["mean", "deviation"],
                   "additionalProperties": False},
    },
    "minProperties": 1, "maxProperties": 1,
    "additionalProperties": False,
}
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}
MOST = 3600.0


@dataclass(frozen=True, slots=True)
class Delay(Op):
    """Seconds: `low` to `high` uniformly, or around `mean` with `deviation`."""

    low: float = 0.0
    high: float = 0.0
    mean: float | None = None
    deviation: float = 0.0

    def seconds(self) -> float:
        if self.mean is not None:
            return min(MOST, max(0.0, random.gauss(self.mean, self.deviation)))
        return self.low if self.low == self.high else random.uniform(self.low, self.high)

    def apply(self, subject: Any, rule: RuleInfo | None) -> None:
        if not isinstance(subject, (HTTPFlow, DNSFlow)):
            return
        pacing = subject.pacing or Pacing()
        if subject.response is None:
            pacing.request += self.seconds()
        else:
            pacing.response += self.seconds()
        subject.pacing = pacing


def build(node: Node, context: Context) -> list[Effect]:
    args = _arguments(node, context)
    if args is None:
        return []
    if max(args.values()) > MOST:
        context.error(node, "a delay is at most one hour")
        return []
    phases = context.visible - MESSAGE_PHASES
    if not phases:
        context.error(node, "messages cannot be delayed", help="delay the request, or leave the message keys out")
        return []
    return [effect(context, node, Delay, args, phases=phases, kind="note", companion=True)]


def _arguments(node: Node, context: Context) -> dict[str, float] | None:
    if isinstance(node, Scalar):
        return {"low": _seconds(node), "high": _seconds(node)}
    if not isinstance(node, Mapping):
        return None
    uniform, normal = node.get("uniform"), node.get("normal")
    if uniform is not None:
        low, high = (_seconds(item) for item in uniform.items)  # type: ignore[attr-defined]  # the schema says a list
        if low > high:
            context.error(uniform, "the first time is the smaller one")
            return None
        return {"low": low, "high": high}
    if isinstance(normal, Mapping):
        return {"mean": _seconds(normal.get("mean")), "deviation": _seconds(normal.get("deviation"))}
    return None


def _seconds(node: Node | None) -> float:
    found = re.match(_TIME, node.text) if isinstance(node, Scalar) else None
    return float(found[1]) * _UNITS[found[2]] if found else 0.0
