"""Edits and how they compose (rule-language 4.4).

A field is a header name, cookie, query key, method, path, status or body of one message. Its base is what the first
rule in order that sets, removes or files it says (else the message's own); then every replacement, top to bottom; then
every addition. A later `set` or `remove` of an owned field is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.http import Request, Response, reason_phrase
from rulesproxy.runtime.fields import (
    Body,
    Cookies,
    FieldEditor,
    HeaderLines,
    Method,
    Path,
    Query,
    ResponseCookies,
    Status,
)
from rulesproxy.runtime.op import Op

#: Operations that say what a field is, whatever it was.
_BASES = ("set", "remove", "file")
#: Fields of a message that change its body or the meaning of validators for it.
_BODY_FACTS = (b"etag", b"content-digest", b"repr-digest", b"digest", b"content-md5", b"accept-ranges")


@dataclass(frozen=True, slots=True)
class Edit(Op):
    """One change of one field. `message` is `request` or `response`; `field` names the kind, `name` which one.

    `value` by operation: `set`, `add`: a tuple of texts (a body: bytes; a status: int); `remove`: None; `replace`: a
    tuple of `Substitution`; `json_merge`, `json_patch`: the document.
    """

    message: str
    field: str
    name: str
    op: str
    value: Any = None


def apply_request(edits: Sequence[Edit], flow: HTTPFlow) -> list[Edit]:
    """Compose and carry out the request edits; answers those that were dropped. Raises TemplateError."""
    if len(edits) == 1 and edits[0].field == "header" and edits[0].op == "set" and edits[0].message == "request":
        flow.request.headers.set_all(edits[0].name, edits[0].value)  # the common case, without the ceremony
        return []
    return _apply([edit for edit in edits if edit.message == "request"], flow.request)


def apply_response(edits: Sequence[Edit], flow: HTTPFlow) -> list[Edit]:
    """The same for the response."""
    response = flow.response
    if response is None:
        return []
    if len(edits) == 1 and edits[0].field == "header" and edits[0].op == "set" and edits[0].message == "response":
        response.headers.set_all(edits[0].name, edits[0].value)
        return []
    mine = [edit for edit in edits if edit.message == "response"]
    dropped = _apply(mine, response)
    if any(edit.field == "body" for edit in mine):
        _forget_body_facts(response, mine)
    return dropped


def _apply(edits: Sequence[Edit], message: Request | Response) -> list[Edit]:
    dropped: list[Edit] = []
    groups: dict[tuple[str, str], list[Edit]] = {}
    for edit in edits:
        groups.setdefault((edit.field, edit.name.lower() if edit.field == "header" else edit.name), []).append(edit)
    for (field, _), group in groups.items():
        dropped += _compose(group, _EDITORS[field](message, group[0].name))
    return dropped


def _compose(group: Sequence[Edit], editor: FieldEditor) -> list[Edit]:
    bases = [edit for edit in group if edit.op in _BASES]
    if bases:
        editor.set(bases[0].value)
    for edit in group:
        if edit.op == "replace":
            editor.replace(edit.value)
        elif edit.op in ("json_merge", "json_patch"):
            editor.change_json(edit.op, edit.value)
    for edit in group:
        if edit.op == "add":
            editor.add(edit.value)
    editor.write()
    return bases[1:]


_EDITORS: dict[str, type[FieldEditor]] = {
    "header": HeaderLines, "cookie": Cookies, "response_cookie": ResponseCookies, "query": Query, "method": Method,
    "path": Path, "status": Status, "body": Body,
}


def _forget_body_facts(response: Response, edits: Sequence[Edit]) -> None:
    """The body is another one: validators and digests lie now, and no cache may keep it (rule-language 5.2)."""
    named = {edit.name.lower().encode() for edit in edits if edit.field == "header"}
    fields = response.headers.fields
    response.headers.fields = tuple(
        field for field in fields if field[0].lower() not in _BODY_FACTS or field[0].lower() in named)
    if b"cache-control" not in named:
        response.headers["cache-control"] = "no-store"
    if not response.reason:
        response.reason = reason_phrase(response.status_code)
