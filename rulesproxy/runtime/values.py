"""Run-time values of templates: look-ups, text, filters, and the places text may stand in (rule-language 3.4)."""

from __future__ import annotations

import base64 as _base64
import html as _html
import json as _json
import math
import random as _random
import re
import uuid as _uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
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
    """The value below keys and list indexes (`items.0` is `items[0]`), None where the path leads nowhere."""
    for step in path:
        if isinstance(document, list):
            index = step if isinstance(step, int) else int(step) if step.isascii() and step.isdecimal() else None
            document = document[index] if index is not None and -len(document) <= index < len(document) else None
        elif isinstance(document, dict):
            document = document.get(str(step))
        else:
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
            # repr is the shortest text that is this number; Decimal writes it without an exponent.
            return f"{Decimal(repr(value)):f}".removesuffix(".0") if math.isfinite(value) else ""
        case datetime():
            return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        case dict() | list():
            return json_text(value, (",", ":"))
    return str(value)


# --- places -------------------------------------------------------------------------------------------------------


def url_part(value: Any) -> str:
    """Into a URL: percent-encoded, nothing it says can change the URL's structure."""
    return quote(text(value), safe="", errors="replace")


def url_path(value: Any) -> str:
    """Path text (the request path, what a path key captured) into a URL: its slashes and escapes stay."""
    return quote(_STRAY_PERCENT.sub("%25", text(value)), safe="/%", errors="replace")


def url_host(value: Any) -> str:
    """A host into a URL: an IPv6 address in brackets."""
    host = text(value)
    return f"[{host}]" if ":" in host else url_part(host)


_STRAY_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")
# RFC 9110 §5.5: what no field value holds. CR, LF and NUL would end the field or the head.
_NOT_IN_FIELDS = re.compile("[\x00-\x08\x0a-\x1f\x7f]")


def header_text(value: str) -> str:
    """Into a header field. Raises TemplateError for what would end it."""
    if _NOT_IN_FIELDS.search(value):
        raise TemplateError("a header value made by a template contains a line break, NUL or another control")
    return value.strip(" \t")


def cookie_text(value: str) -> str:
    """Into the value of a cookie. Raises TemplateError for what would end it (RFC 6265 §4.1.1)."""
    if ";" in value:
        raise TemplateError("a cookie value made by a template contains a semicolon")
    return header_text(value)


class NotASegment(TemplateError):
    """A template in a local path made more, or less, than one plain segment: answered with 404."""

    status = 404


def segment(value: Any) -> str:
    """Into a local path: exactly one plain segment."""
    name = text(value)
    if name in ("", ".", "..") or any(char in name for char in "/\\\0"):
        raise NotASegment("a template in a file name must make one plain segment")
    return name


def path_segment(value: Any) -> str:
    """Path text into a local path. Of the escapes that canonical paths keep, only that of `%` stands for a name."""
    return segment(text(value).replace("%25", "%"))


# --- filters ------------------------------------------------------------------------------------------------------


_NUMBER = re.compile(r"\s*([-+]?[0-9]{1,400}(?:\.[0-9]{1,400})?)\s*")


def _float(value: Any) -> float | None:
    """A finite number, None for everything else."""
    if isinstance(value, str):
        found = _NUMBER.fullmatch(value)
        value = float(found[1]) if found else None
    elif isinstance(value, datetime):
        value = value.timestamp()
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _int(value: Any) -> int | None:
    """The whole part of a number, None for everything that is none."""
    if isinstance(value, str):
        found = _NUMBER.fullmatch(value)
        return int(found[1].partition(".")[0]) if found else None
    if isinstance(value, int):
        return int(value)
    number = _float(value)
    return None if number is None else int(number)


def _date(value: Any, pattern: str = "%Y-%m-%d") -> str | None:
    """Seconds since the epoch, ISO 8601 text or a time, by a strftime pattern, in UTC unless it has a zone."""
    try:
        if isinstance(value, str) and not _NUMBER.fullmatch(value):
            value = datetime.fromisoformat(value)
        elif not isinstance(value, datetime):
            seconds = _float(value)
            value = None if seconds is None else datetime.fromtimestamp(seconds, UTC)
        return None if value is None else value.strftime(pattern)
    except (ValueError, OverflowError, OSError):
        return None


def _base64_text(value: Any) -> str:
    return _base64.b64encode(text(value).encode("utf-8", "replace")).decode("ascii")


#: Every filter by name: function and how many arguments it takes at least and at most.
FILTERS: dict[str, tuple[Callable[..., Any], int, int]] = {
    "default": (lambda value, other: other if value is None or value == "" else value, 1, 1),
    "int": (_int, 0, 0),
    "float": (_float, 0, 0),
    "lower": (lambda value: text(value).lower(), 0, 0),
    "upper": (lambda value: text(value).upper(), 0, 0),
    "trim": (lambda value: text(value).strip(), 0, 0),
    "urlencode": (url_part, 0, 0),
    "json": (lambda value: json_text(value), 0, 0),
    "html": (lambda value: _html.escape(text(value), quote=True), 0, 0),
    "base64": (_base64_text, 0, 0),
    "date": (_date, 0, 1),
}


def filtered(name: str, value: Any, *arguments: Any) -> Any:
    """Apply the filter `name`."""
    return FILTERS[name][0](value, *arguments)


def json_text(value: Any, separators: tuple[str, str] = (", ", ": ")) -> str:
    """A JSON document. What JSON has no form for (a time, NaN) becomes text or null."""
    return _json.dumps(_finite(value), ensure_ascii=False, separators=separators, default=text)


def _finite(value: Any) -> Any:
    """The document with null for every number that is none."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: _finite(item) for key, item in value.items()}
        case list() | tuple():
            return [_finite(item) for item in value]
    return value


def json_bytes(value: Any) -> bytes:
    """A JSON document as a body."""
    return json_text(value).encode("utf-8", "replace")
