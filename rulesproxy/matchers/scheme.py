"""`scheme`: http or https (rule-language 2)."""

from __future__ import annotations

from dataclasses import dataclass

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.source import Node, Scalar
from rulesproxy.compiler.suggest import did_you_mean
from rulesproxy.matchers._choice import ChoiceLeaf, read_choices
from rulesproxy.runtime.phase import REQUEST_PHASES, Phase

KEY = "scheme"
SUMMARY = "http or https."
EXAMPLE = """\
version: 1
rules:
  - name: https-only
    match: {scheme: http, host: shop.example}
    action: {redirect: {to: "https://shop.example/"}}
    tests:
      - {request: GET http://shop.example/, expect: {rule: https-only, status: 302}}
      - {request: GET https://shop.example/, expect: {no_rule: https-only}}
"""
SCHEMA = {
    "description": "http or https, in any case.",
    "$ref": "#/$defs/texts",
}
SCHEMES = ("http", "https")


@dataclass(frozen=True, slots=True)
class SchemeLeaf(ChoiceLeaf):
    PHASES = REQUEST_PHASES | {Phase.TLS}
    FACT = "scheme"
    WORD = "scheme"


def build(node: Node, context: Context) -> SchemeLeaf | None:
    schemes = read_choices(node, context, _scheme)
    return None if schemes is None else SchemeLeaf(node.pos, schemes)


def _scheme(text: str, node: Scalar, context: Context) -> str | None:
    scheme = text.lower().removesuffix("://")
    if scheme in SCHEMES:
        return scheme
    context.error(node, f'a scheme is http or https, not "{text}"', code="bad-scheme",
                  help=did_you_mean(scheme, SCHEMES))
    return None
