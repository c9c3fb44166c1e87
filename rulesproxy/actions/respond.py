"""`respond`: a mock. The origin is not touched (rule-language 3)."""

from __future__ import annotations

import mimetypes
from dataclasses import dataclass
from typing import Any, ClassVar

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.effects import answer_phases, effect
from rulesproxy.compiler.header_text import build_headers
from rulesproxy.compiler.ir import Effect
from rulesproxy.compiler.source import Mapping, Node, Scalar
from rulesproxy.compiler.template import Encoded, Place, parse_json, parse_template, parse_text, values_in
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.headers import Headers
from rulesproxy.model.http import Response, reason_phrase
from rulesproxy.runtime.decision import RuleInfo
from rulesproxy.runtime.op import Op
from rulesproxy.runtime.phase import Slot
from rulesproxy.runtime.values import json_bytes

KEY = "respond"
SUMMARY = "Answer with a mock: status, headers and a body given as text, JSON or a file. The origin is not touched."
EXAMPLE = """\
version: 1
rules:
  - name: one-user
    match: {host: api.test, path: "/users/{id:int}"}
    action:
      respond:
        json: {id: "${path.id | int}", name: Ada}
    tests:
      - request: GET http://api.test/users/7
        expect: {rule: one-user, status: 200, json: {id: 7, name: Ada}, sent: nothing}
      - request: GET http://api.test/users/ada
        expect: {no_rule: one-user}
"""
SCHEMA: dict[str, Any] = {
    "title": "respond",
    "description": "A mock. A plain text is the body of a 200.",
    "type": ["object", "string", "number"],
    "properties": {
        "status": {"description": "The status; default 200.", "type": "integer", "minimum": 200, "maximum": 599},
        "headers": {"description": "Name → value, or a list of values for several lines.", "type": "object",
                    "additionalProperties": {"$ref": "#/$defs/texts"}},
        "body": {"$ref": "#/$defs/text", "description": "The body as text."},
        "json": {"description": "The body as a JSON document. A text that is exactly one ${…} keeps its type."},
        "file": {"$ref": "#/$defs/text", "description": "The body is the content of this file."},
        "template": {"description": "Expand ${…} in the file's content.", "type": "boolean"},
    },
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Respond(Op):
    """Answer with this. Header values may have several lines of one name."""

    SLOT: ClassVar[Slot] = Slot.ANSWER

    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""

    def apply(self, subject: HTTPFlow, rule: RuleInfo | None) -> None:
        response = Response(self.status, reason_phrase(self.status), Headers(self.headers))
        response.set_content(self.body)
        subject.response = response


def build(node: Node, context: Context) -> list[Effect]:
    if isinstance(node, Scalar):
        text = parse_template(node, context, place=Place.BODY)
        return [_effect(node, context, 200, (), _encode(text), "text/plain; charset=utf-8")]
    if not isinstance(node, Mapping):
        return []
    bodies = [key for key in ("body", "json", "file") if key in node]
    if len(bodies) > 1:
        context.error(node.key(bodies[1]) or node, f'"{bodies[0]}" and "{bodies[1]}" both give the body; one can')
        return []
    status_node, headers_node = node.get("status"), node.get("headers")
    status = status_node.value if isinstance(status_node, Scalar) else 200
    headers = build_headers(headers_node, context) if isinstance(headers_node, Mapping) else ()
    body, content_type = _body(node, context)
    if body and status in (204, 205, 304):
        context.error(node.key(bodies[0]) or node, f"an answer with status {status} has no body")
        return []
    return [_effect(node, context, status, headers, body, content_type)]


def _effect(node: Node, context: Context, status: int, headers: tuple[Any, ...], body: Any,
            content_type: str) -> Effect:
    named = {name.lower() for name, _ in headers}
    fields = list(headers)
    if content_type and b"content-type" not in named:
        fields.insert(0, (b"content-type", content_type.encode("ascii")))
    if b"cache-control" not in named:
        fields.append((b"cache-control", b"no-store"))  # made here: no cache may keep it (rule-language 5.2)
    return effect(context, node, Respond, {"status": status, "headers": tuple(fields), "body": body},
                  phases=answer_phases(context), slot=Slot.ANSWER, needs_plaintext=True)


def _body(node: Mapping, context: Context) -> tuple[Any, str]:
    """The body and its content type."""
    text, json, file = node.get("body"), node.get("json"), node.get("file")
    if isinstance(text, Scalar):
        return _encode(parse_template(text, context, place=Place.BODY)), "text/plain; charset=utf-8"
    if json is not None:
        document = parse_json(json, context)
        constant = not list(values_in(document))
        return json_bytes(document) if constant else Encoded(document, json=True), "application/json"
    if isinstance(file, Scalar):
        return _file(file, node, context)
    return b"", ""


def _file(file: Scalar, node: Mapping, context: Context) -> tuple[Any, str]:
    content = context.read_file(file)
    if content is None:
        return b"", ""
    template = node.get("template")
    body: Any = content
    if isinstance(template, Scalar) and template.value is True:
        try:
            body = _encode(parse_text(content.decode("utf-8"), file, context, place=Place.BODY))
        except UnicodeDecodeError:
            context.error(file, "a template file must be UTF-8 text")
    return body, guess_type(file.text)


def guess_type(name: str) -> str:
    """The media type of a file by its extension, text in UTF-8."""
    guessed = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return f"{guessed}; charset=utf-8" if guessed.startswith("text/") else guessed


def _encode(text: Any) -> Any:
    return text.encode("utf-8", "replace") if isinstance(text, str) else Encoded(text, json=False)
