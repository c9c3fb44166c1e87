"""The composition of edits (rule-language 4.4) a second time: on plain lists, one field after the other.

Shares nothing with `runtime.edits` but the edits themselves and RE2.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl

import jsonpatch
import re2

from rulesproxy.model.http import Request, Response
from rulesproxy.model.names import canonical_path
from rulesproxy.runtime.edits import Edit

State = dict[tuple[str, str], Any]


def state_of(message: Request | Response) -> State:
    """Every field of a message: lists of values for fields that have names, else the value."""
    state: State = {("body", ""): message.get_content()}
    for name, value in message.headers.fields:
        state.setdefault(("header", name.decode().lower()), []).append(value.decode())
    if isinstance(message, Request):
        state["method", ""] = message.method
        state["path", ""] = canonical_path(message.path)
        for key, value in parse_qsl(message.path.partition("?")[2], keep_blank_values=True):
            state.setdefault(("query", key), []).append(value)
        for part in (part for line in state.get(("header", "cookie"), ()) for part in line.split("; ")):
            key, _, value = part.partition("=")
            state.setdefault(("cookie", key), []).append(value)
    else:
        state["status", ""] = message.status_code
        for line in state.get(("header", "set-cookie"), ()):
            key, equals, value = line.partition("=")
            if equals:
                state.setdefault(("response_cookie", key), []).append(value)
    return state


def compose(state: State, edits: Sequence[Edit]) -> State:
    """What the fields named in edits come to."""
    result: State = {}
    keys = {(edit.field, edit.name.lower() if edit.field == "header" else edit.name) for edit in edits}
    for key in keys:
        mine = [e for e in edits if (e.field, e.name.lower() if e.field == "header" else e.name) == key]
        value = state.get(key, [])
        for edit in mine:
            if edit.op in ("set", "remove", "file"):
                value = _base(key[0], edit.value)
                break
        for edit in mine:
            value = _changed(value, edit)
        for edit in mine:
            if edit.op == "add":
                value = [*value, *edit.value]
        result[key] = value
    return result


def _base(field: str, value: Any) -> Any:
    if field in ("method", "path"):
        return value[0]
    if field in ("status", "body", "content"):
        return value
    return list(value or ())


def _changed(value: Any, edit: Edit) -> Any:
    match edit.op:
        case "replace" if isinstance(value, list):
            return [_replaced(item, edit.value) for item in value]
        case "replace" if isinstance(value, bytes):
            # As text that keeps what is none: RE2 has no lone surrogates.
            return _replaced(value.decode("latin-1") if b"\xff" in value else value.decode(), edit.value).encode(
                "latin-1" if b"\xff" in value else "utf-8")
        case "replace":
            return _replaced(value, edit.value)
        case "json_merge" | "json_patch":
            try:
                document = json.loads(value)
                document = (_merged(document, edit.value) if edit.op == "json_merge"
                            else jsonpatch.apply_patch(document, edit.value))
            except (ValueError, jsonpatch.JsonPatchException, jsonpatch.JsonPointerException):
                return value
            return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    return value


def _replaced(text: str, substitutions: Sequence[Any]) -> str:
    for substitution in substitutions:
        pattern = ("(?i)" if substitution.ignore_case else "") + substitution.pattern
        out, at = [], 0
        for found in re2.finditer(pattern, text):
            out.append(text[at:found.start()])
            out += [part if isinstance(part, str) else found.group(part) or "" for part in substitution.parts]
            at = found.end()
        text = "".join([*out, text[at:]])
    return text


def _merged(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    result = {key: value for key, value in target.items() if patch.get(key, key) is not None} \
        if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is not None:
            result[key] = _merged(result.get(key), value)
    return result
