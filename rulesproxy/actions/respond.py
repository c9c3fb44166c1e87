"""`respond`: a mock. The origin is not touched (rule-language 3)."""

from __future__ import annotations

import mimetypes
from dataclasses import dataclass
from typing import Any, ClassVar

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.effects import answer_phases, effect
from rulesproxy.compiler.header_text import build_headers, text_bytes, with_no_store
from rulesproxy.compiler.ir import Effect
from rulesproxy.compiler.source import Mapping, Node, Scalar
from rulesproxy.compiler.template import Place, document_bytes, parse_template, parse_text
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.headers import Headers
from rulesproxy.model.http import Response, reason_phrase
from rulesproxy.runtime.decision import RuleInfo
from rulesproxy.runtime.op import Op
from rulesproxy.runtime.phase import Slot

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
    "type": ["object", "string"], "minProperties": 1,
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
    """Answer with this. `coded`: the body is as it goes out, whatever Content-Encoding says (a file of that kind)."""

    SLOT: ClassVar[Slot] = Slot.ANSWER

    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    coded: bool = False

    def apply(self, subject: HTTPFlow, rule: RuleInfo | None) -> None:
        response = Response(self.status, reason_phrase(self.status), Headers(self.headers), self.body)
        if self.status in _BODILESS:
            pass  # RFC 9110 §8.6: no Content-Length either
        elif self.coded:
            response.headers.add(b"content-length", b"%d" % len(self.body))
        else:
            response.set_content(self.body)
        subject.response = response


_BODILESS = (204, 304)


def build(node: Node, context: Context) -> list[Effect]:
    if isinstance(node, Scalar):
        node = Mapping(node.pos, ((Scalar(node.pos, "body", plain=True), node),))
    if not isinstance(node, Mapping):
        return []
    bodies = [key for key in ("body", "json", "file") if key in node]
    if len(bodies) > 1:
        context.error(node.key(bodies[1]) or node, f'"{bodies[0]}" and "{bodies[1]}" both give the body; one can')
        return []
    template = node.get("template")
    if template is not None and "file" not in node:
        context.error(node.key("template") or node, '"template" is for "file"; other bodies are templates anyway')
    status = node.get("status")
    args: dict[str, Any] = {"status": status.value if isinstance(status, Scalar) else 200}
    if bodies and args["status"] in (*_BODILESS, 205):
        context.error(node.key(bodies[0]) or node, f"an answer with status {args['status']} has no body")
        return []
    args["body"], content_type = _body(node, context)
    args["coded"] = "file" in node and not (isinstance(template, Scalar) and template.value)
    headers = build_headers(node.get("headers"), context)
    if content_type and not any(name.lower() == b"content-type" for name, _ in headers):
        headers = ((b"content-type", content_type.encode("ascii")), *headers)
    args["headers"] = with_no_store(headers)
    return [effect(context, node, Respond, args, phases=answer_phases(context), slot=Slot.ANSWER,
                   needs_plaintext=True)]


def _body(node: Mapping, context: Context) -> tuple[Any, str]:
    """The body and its content type."""
    text, json, file = node.get("body"), node.get("json"), node.get("file")
    if isinstance(text, Scalar):
        return text_bytes(parse_template(text, context, place=Place.BODY)), "text/plain; charset=utf-8"
    if json is not None:
        return document_bytes(json, context), "application/json"
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
            body = text_bytes(parse_text(content.decode("utf-8"), file, context, place=Place.BODY))
        except UnicodeDecodeError:
            context.error(file, "a template file must be UTF-8 text")
    return body, guess_type(context.file_path(file))


def guess_type(name: str) -> str:
    """The media type of a file by its extension, text in UTF-8. The same on every machine."""
    guessed = _TYPES.guess_type(name)[0] or "application/octet-stream"
    return f"{guessed}; charset=utf-8" if guessed.startswith("text/") else guessed


_TYPES = mimetypes.MimeTypes()  # the built-in table, not the machine's
