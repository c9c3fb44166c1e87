"""`map_remote`: another URL instead, its host, path and all (rule-language 3.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import quote

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.destination import checked, flag, path_bases
from rulesproxy.compiler.effects import effect
from rulesproxy.compiler.expression import Lookup
from rulesproxy.compiler.ir import Effect, Value
from rulesproxy.compiler.source import Mapping, Node, Scalar
from rulesproxy.compiler.template import Place, Template, parse_template
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.runtime.decision import RuleInfo
from rulesproxy.runtime.destination import continue_path, make_route, parse_destination
from rulesproxy.runtime.fields import PATH_SAFE
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
_END_OF_ORIGIN = re.compile("[/?]")
REQUEST_PATH = Lookup("path")


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
    text = parse_template(target, context, place=Place.URL)
    parts: tuple[str | Value, ...] = (text,) if isinstance(text, str) else text.parts
    start = parts[0]
    if not isinstance(start, str) or not start.startswith(("http://", "https://")):
        context.error(target, f"{target.text!r} is not an absolute http or https URL",
                      help="write it with its scheme: http://staging.test/base")
        return []
    if any("#" in part for part in parts if isinstance(part, str)):
        context.error(target, "a URL to fetch has no fragment")
        return []
    origin, rest = _split(parts)
    to = checked(_joined(origin), target, context)
    if to is None:
        return []
    if whole_path and (not rest or (isinstance(rest[0], str) and rest[0].startswith("?"))):
        rest = ("/", *rest)
    elif rest == ("/",) and not whole_path:
        rest = ()
    bases = () if whole_path or REQUEST_PATH in rest else path_bases(context.match)
    args = {"to": to, "path": _escaped(rest) if rest else None, "bases": bases, "keep_host": keep_host,
            "verify": verify}
    return [effect(context, target, MapRemote, args, phases=frozenset((Phase.REQUEST,)), slot=Slot.ROUTE,
                   needs_plaintext=True)]


_Parts = tuple[str | Value, ...]


def _split(parts: _Parts) -> tuple[_Parts, _Parts]:
    """Before and from the first `/` or `?` behind the scheme; `${request.path}` begins with one."""
    for number, part in enumerate(parts):
        if part == REQUEST_PATH:
            return parts[:number], parts[number:]
        if not isinstance(part, str):
            continue
        found = _END_OF_ORIGIN.search(part, part.index("://") + 3 if number == 0 else 0)
        if found is not None:
            before, after = part[:found.start()], part[found.start():]
            return (*parts[:number], *filter(None, [before])), (after, *parts[number + 1:])
    return parts, ()


def _escaped(parts: _Parts) -> str | Template:
    """Path and query as they are sent; what templates make is escaped already."""
    return _joined(tuple(quote(part, safe=PATH_SAFE + "?", errors="replace") if isinstance(part, str) else part
                         for part in parts))


def _joined(parts: _Parts) -> str | Template:
    if any(isinstance(part, Value) for part in parts):
        return Template(parts, Place.URL)
    return "".join(map(str, parts))
