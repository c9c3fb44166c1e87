"""One editor per kind of field: read it from the message, change it step by step, write it back once."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, unquote_plus

import jsonpatch
import jsonpointer

from rulesproxy.model.http import Message, Request, Response, reason_phrase
from rulesproxy.model.names import canonical_path
from rulesproxy.runtime.substitution import Substitution

#: What may stand in a path as it is (RFC 3986 §3.3); `%` because canonical paths keep some escapes.
PATH_SAFE = "/%:@!$&'()*+,;=-._~"


class FieldEditor(ABC):
    """The life of one field during composition: `set` (None removes), then replacements, then additions, `write`."""

    def __init__(self, message: Any, name: str) -> None:
        self.message: Any = message
        self.name = name

    @abstractmethod
    def set(self, value: Any) -> None: ...

    @abstractmethod
    def replace(self, substitutions: Sequence[Substitution]) -> None: ...

    @abstractmethod
    def write(self) -> None: ...

    def add(self, value: Any) -> None:
        raise TypeError(f"nothing can be added to {self.name}")

    def change_json(self, op: str, document: Any) -> None:
        raise TypeError(f"{self.name} is not JSON")


class _Lines(FieldEditor):
    """Fields that are a list of texts."""

    values: list[str]

    def set(self, value: Any) -> None:
        self.values = list(value or ())

    def replace(self, substitutions: Sequence[Substitution]) -> None:
        for substitution in substitutions:
            self.values = [substitution.apply(value) for value in self.values]

    def add(self, value: Any) -> None:
        self.values += value


class HeaderLines(_Lines):
    message: Message

    def __init__(self, message: Message, name: str) -> None:
        super().__init__(message, name)
        self.values = message.headers.get_all(name)

    def write(self) -> None:
        self.message.headers.set_all(self.name, self.values)


class Cookies(_Lines):
    """Cookies of a request with one name, in the Cookie field."""

    message: Request

    def __init__(self, message: Request, name: str) -> None:
        super().__init__(message, name)
        self.values = [value for key, value in message.cookies if key == name]

    def write(self) -> None:
        pending = list(self.values)
        pairs = []
        for key, value in self.message.cookies:
            if key != self.name:
                pairs.append((key, value))
            elif pending:
                pairs.append((key, pending.pop(0)))
        pairs += [(self.name, value) for value in pending]
        line = "; ".join(f"{key}={value}" for key, value in pairs)
        self.message.headers.set_all("cookie", [line] if line else [])


class ResponseCookies(_Lines):
    """Set-Cookie lines of a response for one cookie; values are whole lines behind `name=`."""

    message: Response

    def __init__(self, message: Response, name: str) -> None:
        super().__init__(message, name)
        self.values = [rest for key, rest in map(_cookie_line, message.headers.get_all("set-cookie")) if key == name]

    def write(self) -> None:
        others = [line for line in self.message.headers.get_all("set-cookie") if _cookie_line(line)[0] != self.name]
        self.message.headers.set_all("set-cookie", [*others, *(f"{self.name}={value}" for value in self.values)])


def _cookie_line(line: str) -> tuple[str, str]:
    name, _, rest = line.partition("=")
    return name.strip(), rest.strip()


class Query(_Lines):
    """Values of one query key; the other parts of the query keep their bytes."""

    message: Request

    def __init__(self, message: Request, name: str) -> None:
        super().__init__(message, name)
        query = message.path.partition("?")[2]
        self.parts = [part for part in query.split("&") if part]
        self.values = [_decoded(part)[1] for part in self.parts if _decoded(part)[0] == name]

    def write(self) -> None:
        pending = list(self.values)
        parts = []
        for part in self.parts:
            if _decoded(part)[0] != self.name:
                parts.append(part)
            elif pending:
                value = pending.pop(0)
                parts.append(part if value == _decoded(part)[1] else self._encoded(value))
        parts += [self._encoded(value) for value in pending]
        path = self.message.path.partition("?")[0]
        self.message.path = f"{path}?{'&'.join(parts)}" if parts else path

    def _encoded(self, value: str) -> str:
        return f"{quote(self.name, safe='', errors='replace')}={quote(value, safe='', errors='replace')}"


def _decoded(part: str) -> tuple[str, str]:
    key, _, value = part.partition("=")
    return unquote_plus(key, errors="replace"), unquote_plus(value, errors="replace")


class _Single(FieldEditor):
    """Fields that are one text."""

    value: str

    def set(self, value: Any) -> None:
        self.value = value[0]

    def replace(self, substitutions: Sequence[Substitution]) -> None:
        for substitution in substitutions:
            self.value = substitution.apply(self.value)


class Method(_Single):
    message: Request

    def __init__(self, message: Request, name: str) -> None:
        super().__init__(message, name)
        self.value = message.method

    def write(self) -> None:
        self.message.method = self.value


class Path(_Single):
    """The path without the query. Replacements see the canonical path, which is what rules match."""

    message: Request

    def __init__(self, message: Request, name: str) -> None:
        super().__init__(message, name)
        self.value = canonical_path(message.path)

    def write(self) -> None:
        _, mark, query = self.message.path.partition("?")
        path = quote(self.value if self.value.startswith("/") else f"/{self.value}", safe=PATH_SAFE, errors="replace")
        self.message.path = path + mark + query


class Status(FieldEditor):
    message: Response

    def set(self, value: Any) -> None:
        self.message.status_code = value
        self.message.reason = reason_phrase(value)

    def replace(self, substitutions: Sequence[Substitution]) -> None:
        raise TypeError("a status is set, not replaced")

    def write(self) -> None:
        """`set` did it."""


class Body(FieldEditor):
    """The decoded body, coded again as it was."""

    message: Message

    def __init__(self, message: Message, name: str) -> None:
        super().__init__(message, name)
        self.content: bytes = message.get_content(strict=True) or b""

    def set(self, value: Any) -> None:
        self.content = value or b""

    def replace(self, substitutions: Sequence[Substitution]) -> None:
        for substitution in substitutions:
            self.content = substitution.apply_bytes(self.content)

    def change_json(self, op: str, document: Any) -> None:
        """A body that is not JSON, or a patch that does not fit it, is left as it is."""
        try:
            current = json.loads(self.content)
            changed = merge(current, document) if op == "json_merge" else jsonpatch.apply_patch(current, document)
        except (ValueError, jsonpatch.JsonPatchException, jsonpointer.JsonPointerException):
            return
        self.content = json.dumps(changed, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")

    def write(self) -> None:
        self.message.set_content(self.content)


def merge(target: Any, patch: Any) -> Any:
    """JSON Merge Patch (RFC 7396 §2)."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


