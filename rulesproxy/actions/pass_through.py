"""`pass`: leave alone, and ask no lower rule (rule-language 4.5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.effects import effect
from rulesproxy.compiler.ir import Effect
from rulesproxy.compiler.source import Node
from rulesproxy.runtime.op import Op

KEY = "pass"
SUMMARY = "Leave alone: no lower rule acts on this, in any phase where the keys are seen. TLS is relayed."
EXAMPLE = """\
version: 1
rules:
  - name: leave-the-bank-alone
    match: {domain: bank.test}
    action: {pass: {}}
    tests:
      - tls: {sni: www.bank.test}
        expect: {rule: leave-the-bank-alone, tls: relay}
  - name: no-cookies
    match: {domain: test}
    action: {rewrite: {headers: {remove: [cookie]}}}
    tests:
      - request: {method: GET, url: "http://www.bank.test/", headers: {cookie: a=1}}
        expect: {no_rule: no-cookies, sent: {headers: {cookie: a=1}}}
      - request: {method: GET, url: "http://shop.test/", headers: {cookie: a=1}}
        expect: {rule: no-cookies, sent: {headers: {cookie: null}}}
"""
SCHEMA: dict[str, Any] = {
    "title": "pass", "description": "Nothing to say: `pass: {}` or `pass: true`.",
    "type": ["object", "boolean", "null"], "maxProperties": 0,
}


@dataclass(frozen=True, slots=True)
class Pass(Op):
    """Leaves nothing to apply: a decision notes it by `leave`."""


def build(node: Node, context: Context) -> list[Effect]:
    return [effect(context, node, Pass, {}, phases=context.visible, kind="pass")]
