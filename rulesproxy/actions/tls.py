"""`tls`: say what happens to TLS, whatever other rules need (rule-language 3, 5.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.destination import flag
from rulesproxy.compiler.effects import REQUEST, effect
from rulesproxy.compiler.ir import Effect
from rulesproxy.compiler.source import Mapping, Node, Scalar
from rulesproxy.model.effects import TlsDemands
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.runtime.decision import RuleInfo
from rulesproxy.runtime.op import Op
from rulesproxy.runtime.phase import Phase, Slot

KEY = "tls"
SUMMARY = ("Decrypt TLS (intercept), leave it alone (passthrough), or refuse it; with fields, decrypt it and say what "
           "holds for TLS with the server.")
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
  - name: old-printer
    match: {host: printer.test}
    action: {tls: {verify: false, min_version: TLS1}}
    tests:
      - tls: {sni: printer.test}
        expect: {rule: old-printer, tls: intercept}
"""
SCHEMA: dict[str, Any] = {
    "description": "intercept, passthrough or refuse the TLS that a client starts; or, with fields, intercept it and "
                   "say what holds for TLS with the server.",
    "anyOf": [
        {"enum": ["intercept", "passthrough", "refuse"]},
        {
            "title": "tls",
            "type": "object",
            "properties": {
                "client_cert": {"$ref": "#/$defs/text", "description":
                                "A PEM file with certificate and key, shown to the server when it asks for one."},
                "min_version": {"description": "The oldest TLS that the server may speak, whatever the option says.",
                                "enum": ["TLS1", "TLS1_1", "TLS1_2", "TLS1_3"]},
                "verify": {"description": "Check the server's certificate; default true.", "type": "boolean"},
            },
            "minProperties": 1,
            "additionalProperties": False,
        },
    ],
}


@dataclass(frozen=True, slots=True)
class Tls(Op):
    """`verdict`: `intercept`, `relay` or `refuse` (model/policy.py)."""

    SLOT: ClassVar[Slot] = Slot.TLS

    verdict: str
    client_cert: str | None = None
    min_version: str | None = None
    verify: bool = True

    def apply(self, subject: HTTPFlow, rule: RuleInfo | None) -> None:
        """Of several rules each says what those before it left open."""
        before = subject.server_tls or TlsDemands()
        subject.server_tls = TlsDemands(
            before.client_cert or self.client_cert, before.min_version or self.min_version,
            before.verify and self.verify, before.rule or (rule.name if rule is not None else ""))


def build(node: Node, context: Context) -> list[Effect]:
    if isinstance(node, Scalar):
        verdict = "relay" if node.text == "passthrough" else node.text
        return [effect(context, node, Tls, {"verdict": verdict}, phases=frozenset((Phase.TLS,)), slot=Slot.TLS)]
    if not isinstance(node, Mapping):
        return []
    version = node.get("min_version")
    args = {"verdict": "intercept", "client_cert": _client_certificate(node.get("client_cert"), context),
            "min_version": version.text if isinstance(version, Scalar) else None,
            "verify": flag(node.get("verify"), True)}
    # Per request, for that is how servers are chosen; and once for the tunnel, for what is not HTTP inside.
    effects = [effect(context, node, Tls, args, phases=REQUEST, kind="note", needs_plaintext=True)]
    if Phase.TLS in context.visible:
        effects.append(effect(context, node, Tls, args, phases=frozenset((Phase.TLS,)), slot=Slot.TLS))
    return effects


def _client_certificate(node: Node | None, context: Context) -> str | None:
    """The absolute path of a file with a certificate and a key; a change of it is a change of the rules."""
    if not isinstance(node, Scalar):
        return None
    content = context.read_file(node)
    if content is None:
        return None
    if b"-----BEGIN CERTIFICATE-----" not in content or b"PRIVATE KEY-----" not in content:
        context.error(node, "this file does not hold a certificate and its private key in PEM form",
                      help="put both into one file; the key must not be encrypted")
    return context.file_path(node)
