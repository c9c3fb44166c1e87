"""One editor per kind of field: read it from the message, change it step by step, write it back once.

What no edit changed is not written: its bytes stay as they came.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, unquote_plus

from rulesproxy.model.headers import to_bytes, to_text
from rulesproxy.model.http import Request, Response, reason_phrase
from rulesproxy.model.names import canonical_path
from rulesproxy.runtime.substitution import Substitution

#: What may stand in a path as it is (RFC 3986 §3.3); `%` because canonical paths keep some escapes.
PATH_SAFE = "/%:@!$&'()*+,;=-._~"
_STRAY_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")


def path_for_wire(path: str) -> str:
    """Canonical path text as it is sent: escapes stay, everything else that may not stand in a path is escaped."""
    return quote(_STRAY_PERCENT.sub("%25", path), safe=PATH_SAFE, errors="replace")


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


class _Lines(FieldEditor):
    """Fields that are a list of texts."""

    def __init__(self, message: Any, name: str, values: list[str]) -> None:
        super().__init__(message, name)
        self.before = values
        self.values = values

    def set(self, value: Any) -> None:
        self.values = list(value or ())

    def replace(self, substitutions: Sequence[Substitution]) -> None:
        for substitution in substitutions:
            self.values = [substitution.apply(value) for value in self.values]

    def add(self, value: Any) -> None:
        self.values = [*self.values, *value]

    def write(self) -> None:
        if self.values != self.before:
            self.write_values()

    @abstractmethod
    def write_values(self) -> None: ...

    def merged(self, parts: Sequence[tuple[str, str, str]]) -> list[str]:
        """Parts `(name, value, as it stands)` with this field's values in place of its parts, more of them at the end.

        A part that keeps its value keeps its bytes, and so does every other.
        """
        pending = list(self.values)
        out = []
        for name, value, written in parts:
            if name != self.name:
                out.append(written)
            elif pending:
                new = pending.pop(0)
                out.append(written if new == value else self.part(new))
        return out + [self.part(value) for value in pending]

    def part(self, value: str) -> str:
        """One value with the name in front."""
        return f"{self.name}={value}"


class HeaderLines(_Lines):
    def __init__(self, message: Any, name: str) -> None:
        super().__init__(message, name, message.headers.get_all(name))

    def write_values(self) -> None:
        self.message.headers.set_all(self.name, self.values)


class Cookies(_Lines):
    """Cookies of a request with one name, in the Cookie fields."""

    message: Request

    def __init__(self, message: Request, name: str) -> None:
        self.parts = [_named(part.strip()) for line in message.headers.get_all("cookie") for part in line.split(";")]
        super().__init__(message, name, [value for key, value, _ in self.parts if key == name])

    def write_values(self) -> None:
        line = "; ".join(part for part in self.merged(self.parts) if part)
        self.message.headers.set_all("cookie", [line] if line else [])


class ResponseCookies(_Lines):
    """Set-Cookie lines of a response for one cookie; a value is all that stands behind `name=`, attributes too."""

    message: Response

    def __init__(self, message: Response, name: str) -> None:
        self.parts = [_named(line) for line in message.headers.get_all("set-cookie")]
        super().__init__(message, name, [value for key, value, _ in self.parts if key == name])

    def write_values(self) -> None:
        self.message.headers.set_all("set-cookie", self.merged(self.parts))


def _named(part: str) -> tuple[str, str, str]:
    """`name=value` in three: a part without a name has the empty one, which no rule can give."""
    name, equals, value = part.partition("=")
    return (name.strip(), value.strip(), part) if equals else ("", part, part)


class Query(_Lines):
    """Values of one query key; the other parts of the query keep their bytes."""

    message: Request

    def __init__(self, message: Request, name: str) -> None:
        query = message.path.partition("?")[2]
        self.parts = [(*_decoded(part), part) for part in query.split("&") if part]
        super().__init__(message, name, [value for key, value, _ in self.parts if key == name])

    def write_values(self) -> None:
        query = "&".join(self.merged(self.parts))
        path = self.message.path.partition("?")[0]
        self.message.path = f"{path}?{query}" if query else path

    def part(self, value: str) -> str:
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
        self.before = self.value = to_text(to_bytes(canonical_path(message.path)))

    def write(self) -> None:
        if self.value == self.before:
            return
        _, mark, query = self.message.path.partition("?")
        self.message.path = path_for_wire("/" + self.value.removeprefix("/")) + mark + query


class Status(FieldEditor):
    message: Response

    def set(self, value: Any) -> None:
        self.message.status_code = value
        self.message.reason = reason_phrase(value)

    def replace(self, substitutions: Sequence[Substitution]) -> None:
        raise TypeError("a status is set, not replaced")

    def write(self) -> None:
        """`set` did it."""
