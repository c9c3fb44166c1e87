"""`dns_type`: the record type a DNS query asks for (rule-language 2)."""

from __future__ import annotations

from dataclasses import dataclass

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.source import Node, Scalar
from rulesproxy.compiler.suggest import did_you_mean
from rulesproxy.matchers._choice import ChoiceLeaf, read_choices
from rulesproxy.model.dns_types import types
from rulesproxy.runtime.phase import Phase

KEY = "dns_type"
SUMMARY = "The record type of a DNS query: A, AAAA, TXT, HTTPS, TYPE65400, …"
EXAMPLE = """\
version: 1
rules:
  - name: no-ipv6
    match: {domain: legacy.example, dns_type: AAAA}
    action: {spoof_dns: {rcode: NOERROR}}
    tests:
      - {dns: {name: www.legacy.example, type: AAAA}, expect: {rule: no-ipv6, dns: {rcode: NOERROR}}}
      - {dns: {name: www.legacy.example, type: A}, expect: {no_rule: no-ipv6}}
"""
SCHEMA = {
    "description": "The record type by its mnemonic, in any case, or as TYPE and a number.",
    "$ref": "#/$defs/texts",
}


@dataclass(frozen=True, slots=True)
class DnsTypeLeaf(ChoiceLeaf):
    PHASES = frozenset((Phase.DNS,))
    FACT = "dns_type"
    WORD = "record type"


def build(node: Node, context: Context) -> DnsTypeLeaf | None:
    names = read_choices(node, context, _record_type)
    return None if names is None else DnsTypeLeaf(node.pos, names)


def _record_type(text: str, node: Scalar, context: Context) -> str | None:
    try:
        return types.to_str(types.from_str(text))  # TYPE1 is A
    except ValueError:
        context.error(node, f'"{text}" is not a DNS record type', code="bad-dns-type",
                      help=did_you_mean(text.upper(), types.codes) or "a type without a name is TYPE and its number")
        return None
