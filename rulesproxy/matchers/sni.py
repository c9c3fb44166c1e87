"""`sni`: the server name of the ClientHello, read like a host (rule-language 2.3)."""

from __future__ import annotations

from dataclasses import dataclass

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.ir import HostKeys
from rulesproxy.compiler.source import Node
from rulesproxy.compiler.strings_build import build_strings
from rulesproxy.matchers._hosts import HOSTS, matcher_keys
from rulesproxy.matchers._leaves import TextLeaf
from rulesproxy.runtime.phase import PLAINTEXT_PHASES, Phase

KEY = "sni"
SUMMARY = "The server name in the TLS ClientHello: names, globs or a string matcher."
EXAMPLE = """\
version: 1
rules:
  - name: leave-the-bank-alone
    match: {sni: "**.bank.example"}
    action: {tls: passthrough}
    tests:
      - {tls: {sni: www.bank.example}, expect: {rule: leave-the-bank-alone, tls: relay}}
      - {tls: {sni: www.example.com}, expect: {no_rule: leave-the-bank-alone}}
"""
SCHEMA = {
    "description": "The server name the client asks for in TLS, as in host. {absent: true}: it names none.",
    "$ref": "#/$defs/string_matcher",
}


@dataclass(frozen=True, slots=True)
class SniLeaf(TextLeaf):
    """Not a host key: with `identity=warn` a request's host may be another name than its SNI. Before a tunnel is opened
    it is one."""

    PHASES = PLAINTEXT_PHASES | {Phase.TLS}
    FACT = "sni"

    @property
    def names_hosts(self) -> bool:
        return not self.matcher.holds_one("")  # which any host without SNI would be

    def tunnel_keys(self) -> HostKeys | None:
        return matcher_keys(self.matcher) if self.names_hosts else None


def build(node: Node, context: Context) -> SniLeaf | None:
    matcher = build_strings(node, context, HOSTS)
    return None if matcher is None else SniLeaf(node.pos, matcher)
