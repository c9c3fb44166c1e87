"""`upstream_proxy`: the same server, reached through another proxy (rule-language 3, the via slot of 4.3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.effects import REQUEST, effect
from rulesproxy.compiler.ir import Effect
from rulesproxy.compiler.source import Mapping, Node, Scalar
from rulesproxy.compiler.template import Place, Template, parse_template
from rulesproxy.model.effects import Via
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.via import BadVia, parse_auth, parse_via
from rulesproxy.runtime.decision import RuleInfo
from rulesproxy.runtime.destination import BadDestination
from rulesproxy.runtime.op import Op
from rulesproxy.runtime.phase import Phase, Slot

KEY = "upstream_proxy"
SUMMARY = "Reach the server through another HTTP or SOCKS5 proxy, or with `direct` through none."
EXAMPLE = """\
version: 1
rules:
  - name: intranet-stays-here
    match: {domain: intra.test}
    action: {upstream_proxy: direct}
    tests:
      - request: GET http://wiki.intra.test/
        expect: {rule: intranet-stays-here, server: "wiki.intra.test:80", via: direct}
  - name: out-through-the-office
    match: {domain: test}
    action: {upstream_proxy: {url: "http://proxy.office.test:3128", auth: "ada:secret"}}
    tests:
      - request: GET http://shop.test/
        expect: {rule: out-through-the-office, server: "shop.test:80", via: "http://proxy.office.test:3128"}
      - tls: {sni: shop.test}
        expect: {rule: out-through-the-office, tls: relay, via: "http://proxy.office.test:3128"}
"""
SCHEMA: dict[str, Any] = {
    "title": "upstream_proxy",
    "description": "`http://host:port`, `https://host:port` (TLS to the proxy), `socks5://host:port` or `direct`, or a "
                   "mapping.",
    "type": ["object", "string"],
    "properties": {
        "url": {"$ref": "#/$defs/text", "description": "http, https or socks5://host[:port]; direct or none: no proxy"},
        "auth": {"$ref": "#/$defs/text", "description": "The proxy's `user:password`."},
    },
    "required": ["url"],
    "additionalProperties": False,
}
_EARLY = frozenset((Phase.CONNECT, Phase.TLS))


@dataclass(frozen=True, slots=True)
class UpstreamProxy(Op):
    SLOT: ClassVar[Slot] = Slot.VIA

    url: str
    auth: str | None = field(default=None, repr=False)

    def apply(self, subject: HTTPFlow, rule: RuleInfo | None) -> None:
        subject.via = _via(self.url, self.auth, rule.name if rule is not None else "")


@lru_cache(maxsize=1024)
def _via(url: str, auth: str | None, rule: str) -> Via:
    """Raises BadDestination, for what a template came to."""
    try:
        return parse_via(url, None if auth is None else parse_auth(auth), rule)
    except BadVia as exc:
        raise BadDestination(str(exc)) from None


def build(node: Node, context: Context) -> list[Effect]:
    fields: dict[str, Node] = {key.text: value for key, value in node} if isinstance(node, Mapping) else {"url": node}
    url = _url(fields.get("url"), context)
    if url is None:
        return []
    args: dict[str, Any] = {"url": url}
    if "auth" in fields:
        args["auth"] = _auth(fields["auth"], context)
    # A tunnel goes its way unopened as long as nothing inside it says which.
    opaque = bool(isinstance(url, str) and context.visible & _EARLY)
    phases = _EARLY | REQUEST if opaque else REQUEST
    return [effect(context, node, UpstreamProxy, args, phases=phases, slot=Slot.VIA, needs_plaintext=not opaque)]


def _url(node: Node | None, context: Context) -> str | Template | None:
    """None after an error."""
    if not isinstance(node, Scalar):
        return None
    url = parse_template(node, context, place=Place.URL)
    if isinstance(url, str):
        try:
            parse_via(url)
        except BadVia as exc:
            help = 'the password goes beside it: {url: "http://host:port", auth: "user:password"}' if "@" in url else (
                "write http://host:port, https://host:port, socks5://host:port or direct")
            context.error(node, str(exc), help=help)
            return None
    return url


def _auth(node: Node, context: Context) -> str | None:
    """None after an error."""
    text = parse_template(node, context, place=Place.BODY) if isinstance(node, Scalar) else None
    if text is None:
        return None
    try:
        if not isinstance(text, str):
            raise BadVia("user and password are the same for every request; of ${…} only ${vars.…} can stand here")
        parse_auth(text)
    except BadVia as exc:
        context.error(node, str(exc), help='as auth: "user:password"')
        return None
    return text
