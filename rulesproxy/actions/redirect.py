"""`redirect`: send the client elsewhere (rule-language 3)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import quote

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
_CONTROL = re.compile("[\x00-\x1f\x7f]")
# References to groups as other tools write them.
_OTHER_TOOLS = re.compile(r"\$([0-9])|\\([0-9])")


@dataclass(frozen=True, slots=True)
class Redirect(Op):
    SLOT: ClassVar[Slot] = Slot.ANSWER

    to: str
    status: int = 302

    def apply(self, subject: HTTPFlow, rule: RuleInfo | None) -> None:
        location = quote(self.to, safe=_URL_SAFE, errors="replace")
        subject.response = Response.make(self.status, b"", {"location": location, "cache-control": "no-store"})


def build(node: Node, context: Context) -> list[Effect]:
    target = node.get("to") if isinstance(node, Mapping) else node
    status = node.get("status") if isinstance(node, Mapping) else None
    if not isinstance(target, Scalar):
        return []
    to = parse_template(target, context, place=Place.URL)
    start = to if isinstance(to, str) else to.parts[0]
    if not (isinstance(start, str) and _is_target(start)):
        context.error(target, "a redirect goes to an absolute http or https URL, or to a path that starts with /",
                      help="what stands before the first ${…} says which: https://${…}")
        return []
    if any(_CONTROL.search(part) for part in ((to,) if isinstance(to, str) else to.parts) if isinstance(part, str)):
        context.error(target, "a URL has no line breaks and no other controls")
        return []
    foreign = _OTHER_TOOLS.search(target.text)
    if foreign is not None and any(name.startswith("match.") for name in context.captures):
        context.error(target, f"{foreign[0]} is not a group here",
                      help=f"did you mean ${{match.{foreign[1] or foreign[2]}}}?")
        return []
    args = {"to": to, "status": status.value if isinstance(status, Scalar) else 302}
    return [effect(context, node, Redirect, args, phases=answer_phases(context), slot=Slot.ANSWER,
                   needs_plaintext=True)]


def _is_target(start: str) -> bool:
    return start.startswith("/") or re.match(r"https?://(?!/)", start) is not None
