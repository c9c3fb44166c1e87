"""`domain`: a name and everything below it (rule-language 2.3)."""

from __future__ import annotations

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.operators import Operator, TextOperator, TreeOperator
from rulesproxy.compiler.source import Node, Scalar
from rulesproxy.compiler.strings_build import all_of, texts_of
from rulesproxy.matchers._hosts import HOSTS, HostLeaf, one_of
from rulesproxy.model.names import is_ip

KEY = "domain"
SUMMARY = "A domain: the name itself and every name below it."
EXAMPLE = """\
version: 1
rules:
  - name: shop-is-closed
    match: {domain: shop.example}
    action: {block: {status: 451}}
    tests:
      - {request: GET http://shop.example/, expect: {rule: shop-is-closed}}
      - {request: GET http://img.eu.shop.example/, expect: {rule: shop-is-closed}}
      - {request: GET http://myshop.example/, expect: {no_rule: shop-is-closed}}
"""
SCHEMA = {
    "description": "The name itself and every name below it; a list means any of them.",
    "$ref": "#/$defs/texts",
}


def build(node: Node, context: Context) -> HostLeaf | None:
    texts = texts_of(node, context)
    names = all_of([_name(text, item, context) for text, item in texts]) if texts is not None else None
    if not names:
        return None
    addresses = frozenset(name for name in names if is_ip(name))
    operators: list[Operator] = [TextOperator("exact", addresses)] if addresses else []
    if domains := frozenset(names) - addresses:
        operators.append(TreeOperator(".", domains))
    return HostLeaf(node.pos, one_of(operators))


def _name(text: str, node: Scalar, context: Context) -> str | None:
    if "*" in text:
        plain = text.removeprefix("**.").removeprefix("*.")
        context.error(node, "a domain has no wildcards: it covers every name below it anyway", code="bad-host",
                      help="use host for globs" if "*" in plain else f"write domain: {plain}, or host: \"{text}\"")
        return None
    return HOSTS.exact(text.removeprefix("."), node, context)
