"""Edits and how they compose (rule-language 4.4).

A field is a header name, cookie, query key, method, path, status or body of one message. Its base is what the first
rule in order that sets, removes or files it says (else the message's own); then every replacement, top to bottom; then
every addition. A later `set` or `remove` of an owned field is dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.http import Request, Response
from rulesproxy.runtime.body_editor import BODY_FACTS, Body
from rulesproxy.runtime.fields import Cookies, FieldEditor, HeaderLines, Method, Path, Query, ResponseCookies, Status
from rulesproxy.runtime.op import Op

#: Operations that say what a field is, whatever it was.
_BASES = ("set", "remove", "file")


@dataclass(frozen=True, slots=True)
class Edit(Op):
    """One change of one field. `message` is `request`, `response` or `message`; `field` is the kind, `name` which one.

    `value` by operation: `set`, `add`: a tuple of texts (a body: bytes; a status: int); `file`: bytes; `remove`: None;
    `replace`: a tuple of `Substitution`; `json_merge`, `json_patch`: the document.
    """

    message: str
    field: str
    name: str
    op: str
    value: Any = None


def apply_request(edits: Sequence[Edit], flow: HTTPFlow) -> list[Edit]:
    """Compose and carry out the request edits; answers those that were dropped."""
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
    return _apply([edit for edit in edits if edit.message == "response"], response)


def _apply(edits: Sequence[Edit], message: Request | Response) -> list[Edit]:
    dropped: list[Edit] = []
    body: Body | None = None
    for (field, _), group in sorted(_by_field(edits).items(), key=lambda item: _ORDER[item[0][0]]):
        editor = _EDITORS[field](message, group[0].name)
        dropped += compose(group, editor)
        if isinstance(editor, Body):
            body = editor
        else:
            editor.write()
    if body is not None and body.changed:
        _write_body(body, message, {edit.name.lower().encode() for edit in edits if edit.field == "header"})
    return dropped


def _by_field(edits: Iterable[Edit]) -> dict[tuple[str, str], list[Edit]]:
    groups: dict[tuple[str, str], list[Edit]] = {}
    for edit in edits:
        groups.setdefault((edit.field, edit.name.lower() if edit.field == "header" else edit.name), []).append(edit)
    return groups


def compose(group: Sequence[Edit], editor: FieldEditor) -> list[Edit]:
    """Put the edits of one field, in rule order, through its editor; answers those that were dropped."""
    bases = [edit for edit in group if edit.op in _BASES]
    if bases:
        editor.set(bases[0].value)
    for edit in group:
        if edit.op == "replace":
            editor.replace(edit.value)
        elif isinstance(editor, Body) and edit.op in ("json_merge", "json_patch"):
            editor.change_json(edit.op, edit.value)
    for edit in group:
        if edit.op == "add":
            editor.add(edit.value)
    return bases[1:]


#: In the order in which fields are changed: the body is read before the headers that say how it is coded are, and
#: written after them; single cookies are changed in what the header was set to.
_EDITORS: dict[str, type[FieldEditor]] = {
    "body": Body, "header": HeaderLines, "cookie": Cookies, "response_cookie": ResponseCookies, "method": Method,
    "path": Path, "query": Query, "status": Status,
}
_ORDER = {field: number for number, field in enumerate(_EDITORS)}


def _write_body(body: Body, message: Request | Response, named: set[bytes]) -> None:
    """The body is another one: validators and digests lie now, and no cache may keep it (rule-language 5.2).

    `named` are the fields that rules say themselves.
    """
    body.write()
    headers = message.headers
    headers.fields = tuple(
        field for field in headers.fields if field[0].lower() not in BODY_FACTS or field[0].lower() in named)
    if isinstance(message, Response) and b"cache-control" not in named:
        headers["cache-control"] = "no-store"
