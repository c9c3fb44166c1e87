"""`redirect_server`: the same request to another server (rule-language 3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.destination import destination, flag
from rulesproxy.compiler.destination import server_name as build_server_name
from rulesproxy.compiler.effects import REQUEST, effect
from rulesproxy.compiler.ir import Effect
from rulesproxy.compiler.source import Mapping, Node, Scalar
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.runtime.decision import RuleInfo
from rulesproxy.runtime.destination import make_route, parse_destination, server_name
from rulesproxy.runtime.op import Op
from rulesproxy.runtime.phase import Phase, Slot

KEY = "redirect_server"
SUMMARY = "Send the request to another server, the client none the wiser. Host is kept unless `keep_host: false`."
EXAMPLE = """\
version: 1
rules:
  - name: api-to-staging
    match: {host: api.shop.test, path: /v2/**}
    action: {redirect_server: {to: "http://staging.shop.test:8080", keep_host: false}}
    tests:
      - request: GET http://api.shop.test/v2/items
        expect: {rule: api-to-staging, server: "staging.shop.test:8080",
                 sent: {headers: {host: "staging.shop.test:8080"}}}
"""
SCHEMA: dict[str, Any] = {
    "title": "redirect_server",
    "description": "Where to: `host`, `host:port`, `:port` or `http(s)://host[:port]`, or a mapping.",
    "type": ["object", "string"],
    "properties": {
        "to": {"$ref": "#/$defs/text", "description": "host, host:port, :port or http(s)://host[:port]"},
        "keep_host": {"description": "Keep Host as the client sent it; default true.", "type": "boolean"},
        "sni": {"$ref": "#/$defs/text", "description": "The name for TLS and certificate verification."},
        "verify": {"description": "Check the server's certificate; default true.", "type": "boolean"},
    },
    "required": ["to"],
    "additionalProperties": False,
}
_EARLY = frozenset((Phase.CONNECT, Phase.TLS))


@dataclass(frozen=True, slots=True)
class RedirectServer(Op):
    SLOT: ClassVar[Slot] = Slot.ROUTE

    to: str
    keep_host: bool = True
    sni: str | None = None
    verify: bool = True

    def apply(self, subject: HTTPFlow, rule: RuleInfo | None) -> None:
        subject.route = make_route(subject, parse_destination(self.to), keep_host=self.keep_host,
                                   sni=None if self.sni is None else server_name(self.sni), verify=self.verify,
                                   rule=rule.name if rule is not None else "")


def build(node: Node, context: Context) -> list[Effect]:
    fields: dict[str, Node] = {key.text: value for key, value in node} if isinstance(node, Mapping) else {"to": node}
    target = fields.get("to")
    to = destination(target, context) if isinstance(target, Scalar) else None
    if to is None:
        return []
    name = fields.get("sni")
    sni = build_server_name(name, context) if isinstance(name, Scalar) else None
    args = {"to": to, "keep_host": flag(fields.get("keep_host"), True), "sni": sni,
            "verify": flag(fields.get("verify"), True)}
    # A tunnel can go elsewhere unopened as long as nothing inside it has to change (rule-language 3.2).
    opaque = bool(args["keep_host"] and sni is None and args["verify"] and isinstance(to, str)
                  and parse_destination(to).scheme is None and context.visible & _EARLY)
    phases = _EARLY | REQUEST if opaque else REQUEST
    return [effect(context, node, RedirectServer, args, phases=phases, slot=Slot.ROUTE, needs_plaintext=not opaque)]
