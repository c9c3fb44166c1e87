"""`redirect`: send the client elsewhere (rule-language 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import quote, urlsplit

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.effects import answer_phases, effect
from rulesproxy.compiler.ir import Effect
from rulesproxy.compiler.source import Mapping, Node, Scalar
from rulesproxy.compiler.template import Place, parse_template
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.http import Response
from rulesproxy.runtime.decision import RuleInfo
from rulesproxy.runtime.op import Op
from rulesproxy.runtime.phase import Slot
from rulesproxy.runtime.values import header_text

KEY = "redirect"
SUMMARY = "Answer with an HTTP redirect to another URL."
EXAMPLE = """\
version: 1
rules:
  - name: moved
    match: {host: old.test, path: "/docs/{page}"}
    action: {redirect: {to: "https://new.test/manual/${path.page}", status: 301}}
    tests:
      - request: GET http://old.test/docs/a%20b
        expect: {rule: moved, status: 301, headers: {location: "https://new.test/manual/a%20b"}, sent: nothing}
"""
SCHEMA: dict[str, Any] = {
    "title": "redirect",
    "description": "The URL to go to, or a mapping with `to` and `status`.",
    "type": ["object", "string"],
    "properties": {
        "to": {"$ref": "#/$defs/text", "description": "An absolute http(s) URL, or a path on the same host."},
        "status": {"description": "Default 302.", "enum": [301, 302, 303, 307, 308]},
    },
    "required": ["to"],
    "additionalProperties": False,
}
_URL_SAFE = "%/:?#[]@!$&'()*+,;=-._~"


@dataclass(frozen=True, slots=True)
class Redirect(Op):
    SLOT: ClassVar[Slot] = Slot.ANSWER

    to: str
    status: int = 302

    def apply(self, subject: HTTPFlow, rule: RuleInfo | None) -> None:
        location = quote(header_text(self.to), safe=_URL_SAFE)
        subject.response = Response.make(self.status, b"", {"location": location, "cache-control": "no-store"})


def build(node: Node, context: Context) -> list[Effect]:
    target = node.get("to") if isinstance(node, Mapping) else node
    status = node.get("status") if isinstance(node, Mapping) else None
    if not isinstance(target, Scalar):
        return []
    to = parse_template(target, context, place=Place.URL)
    start = to if isinstance(to, str) else to.parts[0]
    if isinstance(start, str) and not _is_target(start):
        context.error(target, "a redirect goes to an absolute http or https URL, or to a path that starts with /")
        return []
    args = {"to": to, "status": status.value if isinstance(status, Scalar) else 302}
    return [effect(context, node, Redirect, args, phases=answer_phases(context), slot=Slot.ANSWER,
                   needs_plaintext=True)]


def _is_target(start: str) -> bool:
    if start.startswith("/"):
        return True
    parts = urlsplit(start)
    return parts.scheme in ("http", "https") and start.startswith(f"{parts.scheme}://")
