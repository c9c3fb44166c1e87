"""`map_remote`: another URL instead, its host, path and all (rule-language 3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.destination import destination, flag, path_bases
from rulesproxy.compiler.effects import effect
from rulesproxy.compiler.ir import Effect
from rulesproxy.compiler.source import Mapping, Node, Position, Scalar
from rulesproxy.compiler.template import Place, Template, parse_template
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.runtime.decision import RuleInfo
from rulesproxy.runtime.destination import continue_path, make_route, parse_destination
from rulesproxy.runtime.op import Op
from rulesproxy.runtime.phase import Phase, Slot

KEY = "map_remote"
SUMMARY = "Fetch from another URL: its scheme, host and port, and its path in place of the matched part."
EXAMPLE = """\
version: 1
rules:
  - name: assets-from-staging
    match: {host: cdn.shop.test, path: /assets/**}
    action: {map_remote: "http://staging.test:8080/build"}
    tests:
      - request: GET http://cdn.shop.test/assets/app.js?v=2
        expect: {rule: assets-from-staging, server: "staging.test:8080",
                 sent: {url: "http://staging.test:8080/build/app.js?v=2"}}
"""
SCHEMA: dict[str, Any] = {
    "title": "map_remote",
    "description": "The URL, or a mapping with `to`.",
    "type": ["object", "string"],
    "properties": {
        "to": {"$ref": "#/$defs/text", "description": "An absolute http(s) URL. Without a path, path and query stay."},
        "keep_host": {"description": "Keep Host as the client sent it; default false.", "type": "boolean"},
        "verify": {"description": "Check the server's certificate; default true.", "type": "boolean"},
    },
    "required": ["to"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class MapRemote(Op):
    """`to` is scheme, host and port; `path` (None: keep) replaces the longest of `bases` the request path is below."""

    SLOT: ClassVar[Slot] = Slot.ROUTE

    to: str
    path: str | None = None
    bases: tuple[str, ...] = ()
    keep_host: bool = False
    verify: bool = True

    def apply(self, subject: HTTPFlow, rule: RuleInfo | None) -> None:
        to = parse_destination(self.to)
        subject.route = make_route(subject, to, keep_host=self.keep_host, sni=to.host, verify=self.verify,
                                   rule=rule.name if rule is not None else "")
        if self.path is not None:
            subject.request.path = continue_path(subject.request.path, self.bases, self.path)


def build(node: Node, context: Context) -> list[Effect]:
    fields: dict[str, Node] = {key.text: value for key, value in node} if isinstance(node, Mapping) else {"to": node}
    target = fields.get("to")
    if not isinstance(target, Scalar):
        return []
    return map_to(target, context, keep_host=flag(fields.get("keep_host"), False),
                  verify=flag(fields.get("verify"), True))


def map_to(target: Scalar, context: Context, *, keep_host: bool, verify: bool = True,
           whole_path: bool = False) -> list[Effect]:
    """The effect for a URL. `whole_path`: its path replaces the request's, whatever the match says."""
    scheme, mark, rest = target.text.partition("://")
    if not mark or (scheme not in ("http", "https") and "$" not in scheme):
        context.error(target, f"{target.text!r} is not an absolute http or https URL",
                      help="write it with its scheme: http://staging.test/base")
        return []
    cut = min((at for sign in "/?#" if (at := rest.find(sign)) >= 0), default=len(rest))
    if "#" in rest:
        context.error(target, "a URL to fetch has no fragment")
        return []
    to = destination(_part(target, f"{scheme}://{rest[:cut]}"), context)
    if to is None:
        return []
    path: str | Template | None = None
    if cut < len(rest) and (rest[cut:] != "/" or whole_path):
        path = parse_template(_part(target, rest[cut:] if rest[cut] == "/" else "/" + rest[cut:]), context,
                              place=Place.URL)
    bases = () if whole_path else path_bases(context.match)
    args = {"to": to, "path": path, "bases": bases, "keep_host": keep_host, "verify": verify}
    return [effect(context, target, MapRemote, args, phases=frozenset((Phase.REQUEST,)), slot=Slot.ROUTE,
                   needs_plaintext=True)]


def _part(node: Scalar, text: str) -> Scalar:
    """A piece of a scalar, at the scalar's place."""
    return Scalar(Position(node.pos.file, node.pos.line, node.pos.column), text, node.plain)


