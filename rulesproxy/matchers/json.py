"""`json`: a message that contains this JSON (rule-language 2)."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.ir import Leaf, Test
from rulesproxy.compiler.source import Mapping, Node, Scalar, Sequence
from rulesproxy.compiler.writer import Module, literal
from rulesproxy.runtime.json_values import NO_JSON, fits
from rulesproxy.runtime.phase import MESSAGE_PHASES

KEY = "json"
SUMMARY = "A message that is JSON and contains this document."
EXAMPLE = """\
version: 1
rules:
  - name: no-admin-commands
    match: {host: api.example, json: {type: command, user: {role: admin}}}
    action: {websocket: {drop: true}}
    tests:
      - message:
          on: GET http://api.example/live
          json: {type: command, id: 7, user: {role: admin, name: eve}}
        expect: {rule: no-admin-commands, sent: nothing}
      - message: {on: GET http://api.example/live, json: {type: command, user: {role: guest}}}
        expect: {no_rule: no-admin-commands}
"""
SCHEMA: dict[str, Any] = {
    "description": "All of this is in the message: the keys of a mapping with values that fit, the entries of a list "
                   "in any order, other values as they are. What else the message has does not matter. Messages of "
                   "more than a million characters are not looked at.",
}


@dataclass(frozen=True, slots=True)
class JsonLeaf(Leaf):
    """`pattern` is kept as JSON text, so that leaves can be compared."""

    PHASES = MESSAGE_PHASES

    pattern: str

    def holds(self, x: Any) -> bool:
        return fits(json.loads(self.pattern), x.document)

    def emit(self, module: Module) -> Test:
        pattern = module.const(literal(json.loads(self.pattern)))
        call = f"{module.use('rulesproxy.runtime.json_values', 'fits')}({pattern}, x.document)"
        return Test(call, f"not {call}")

    def describe_miss(self, x: Any) -> str:
        if x.document is NO_JSON:
            return "the message is no JSON"
        there = json.dumps(x.document, ensure_ascii=False)
        return f"json is {_cut(there)}, wanted {_cut(self.pattern)} in it"


def _cut(text: str) -> str:
    return text if len(text) <= 200 else text[:197] + "..."


def build(node: Node, context: Context) -> JsonLeaf | None:
    before = context.report.error_count
    pattern = _document(node, context)
    if context.report.error_count > before:
        return None
    return JsonLeaf(node.pos, json.dumps(pattern, ensure_ascii=False, sort_keys=True))


def _document(node: Node, context: Context) -> Any:
    match node:
        case Mapping():
            return {key.text: _document(value, context) for key, value in node}
        case Sequence(items=items):
            return [_document(item, context) for item in items]
        case Scalar() if isinstance(node.value, str):
            return context.match_text(node)
        case Scalar() if isinstance(node.value, float) and not math.isfinite(node.value):
            context.error(node, f"{node.text} is no number in JSON", help="quote it if it is a text")
            return None
        case Scalar():
            return node.value
    raise TypeError(type(node).__name__)
