"""Run-time values of templates: look-ups, text, filters, and the places text may stand in (rule-language 3.4)."""

from __future__ import annotations

import base64 as _base64
import html as _html
import json as _json
import random as _random
import uuid as _uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from rulesproxy.runtime.ruleset import TemplateError


class Sources:
    """Where `now`, `uuid` and `random` come from. Tests and `rulesproxy test --seed` put fixed ones in its place."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def uuid(self) -> str:
        return str(_uuid.uuid4())

    def random(self, low: int, high: int) -> int:
        return _random.randint(low, high)


class FixedSources(Sources):
    """Repeatable values: the clock stands, the rest follows a seed."""

    def __init__(self, seed: int = 0, now: datetime | None = None) -> None:
        self._random = _random.Random(seed)
        self._now = now if now is not None else datetime(2026, 1, 1, tzinfo=UTC)

    def stand(self, now: datetime) -> None:
        """Put the clock to another time."""
        self._now = now

    def now(self) -> datetime:
        return self._now

    def uuid(self) -> str:
        return str(_uuid.UUID(int=self._random.getrandbits(128), version=4))

    def random(self, low: int, high: int) -> int:
        return self._random.randint(low, high)


_sources = Sources()


def use_sources(sources: Sources) -> Sources:
    """Replace the sources; answers those before."""
    global _sources
    before, _sources = _sources, sources
    return before


def now() -> datetime:
    return _sources.now()


def uuid() -> str:
    return _sources.uuid()


def random(low: int, high: int) -> int:
    return _sources.random(low, high)


# --- look-ups -----------------------------------------------------------------------------------------------------


def first(values: Sequence[str]) -> str | None:
    """The first of several values, None when there is none."""
    return values[0] if values else None


def json_at(document: Any, path: tuple[str | int, ...]) -> Any:
    """The value below keys and list indexes, None where the path leads nowhere."""
    for step in path:
        try:
            document = document[step]
        except (KeyError, IndexError, TypeError):
            return None
    return document


def body_text(message: Any) -> str | None:
    """The decoded body of a message as text, None when it was not read."""
    try:
        text: str | None = message.get_text(strict=False)
    except (ValueError, AttributeError):
        return None
    return text


def text(value: Any) -> str:
    """A value in running text: absent is empty, numbers are decimal, JSON is compact."""
    match value:
        case str():
            return value
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float():
            return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
        case datetime():
            return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        case dict() | list():
            return _json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return str(value)


# --- places -------------------------------------------------------------------------------------------------------


def url_part(value: Any) -> str:
    """Into a URL: percent-encoded, nothing it says can change the URL's structure."""
    return quote(text(value), safe="", errors="replace")


def header_text(value: str) -> str:
    """Into a header field. Raises TemplateError for what would end it."""
    if any(char in value for char in "\r\n\0"):
        raise TemplateError("a header value made by a template contains a line break or NUL")
    return value.strip(" \t")


class NotASegment(TemplateError):
    """A template in a local path made more, or less, than one plain segment: answered with 404."""

    status = 404


def segment(value: Any) -> str:
    """Into a local path: exactly one plain segment."""
    name = text(value)
    if name in ("", ".", "..") or any(char in name for char in "/\\\0"):
        raise NotASegment("a template in a file name must make one plain segment")
    return name


# --- filters ------------------------------------------------------------------------------------------------------


def _number(value: Any, convert: Callable[[Any], Any]) -> Any:
    try:
        return convert(value.timestamp() if isinstance(value, datetime) else value)
    except (TypeError, ValueError, OverflowError):
        return None


def _date(value: Any, pattern: str = "%Y-%m-%d") -> str | None:
    if isinstance(value, (int, float)):
        value = _number(value, lambda seconds: datetime.fromtimestamp(seconds, UTC))
    elif isinstance(value, str):
        value = _number(value, datetime.fromisoformat)
    return value.strftime(pattern) if isinstance(value, datetime) else None


def _base64_text(value: Any) -> str:
    return _base64.b64encode(text(value).encode("utf-8", "replace")).decode("ascii")


#: Every filter by name: function and how many arguments it takes at least and at most.
FILTERS: dict[str, tuple[Callable[..., Any], int, int]] = {
    "default": (lambda value, other: other if value is None or value == "" else value, 1, 1),
    "int": (lambda value: _number(value, lambda v: int(float(v)) if isinstance(v, str) and "." in v else int(v)), 0, 0),
    "float": (lambda value: _number(value, float), 0, 0),
    "lower": (lambda value: text(value).lower(), 0, 0),
    "upper": (lambda value: text(value).upper(), 0, 0),
    "trim": (lambda value: text(value).strip(), 0, 0),
    "urlencode": (url_part, 0, 0),
    "json": (lambda value: _json.dumps(value, ensure_ascii=False, default=text), 0, 0),
    "html": (lambda value: _html.escape(text(value), quote=True), 0, 0),
    "base64": (_base64_text, 0, 0),
    "date": (_date, 0, 1),
}


def filtered(name: str, value: Any, *arguments: Any) -> Any:
    """Apply the filter `name`."""
    return FILTERS[name][0](value, *arguments)


def json_bytes(value: Any) -> bytes:
    """A JSON document as a body."""
    return _json.dumps(value, ensure_ascii=False, default=text).encode("utf-8", "replace")
