"""Tests of text that generated rules call: RE2 expressions, decimal comparison, elements of comma lists.

Every function takes any text at all and answers in linear time: the text is the traffic's.
"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache

import re2

_DECIMAL = re.compile(r"[-+]?[0-9]+(?:\.[0-9]+)?")
# RFC 9110 §5.6.4: a comma inside a quoted string separates nothing.
_ELEMENT = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+', re.DOTALL)


class BadRegex(ValueError):
    """The text is not an RE2 expression; the message is RE2's reason."""


class Regex:
    """An RE2 expression that is searched for. `groups` are the names of its groups: `1`, `2`, … and given names."""

    __slots__ = ("_search", "groups", "pattern")

    def __init__(self, pattern: str, ignore_case: bool = False) -> None:
        options = re2.Options()
        options.log_errors = False  # RE2 would print to stderr
        options.case_sensitive = not ignore_case
        try:
            # From bytes: the wrapper's translation of offsets for str costs more than the search.
            compiled = re2.compile(pattern.encode(), options)
        except re2.error as exc:
            reason = exc.args[0] if exc.args else "not understood"
            raise BadRegex(reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)) from None
        except UnicodeEncodeError:
            raise BadRegex("lone surrogates are not text") from None
        self.pattern = pattern
        self._search = compiled.search
        named = {name.decode(): number for name, number in compiled.groupindex.items()}
        self.groups: dict[str, int] = {str(number): number for number in range(1, compiled.groups + 1)} | named

    def test(self, text: str) -> bool:
        """True if the expression is found somewhere in `text`."""
        return self._search(text.encode("utf-8", "replace")) is not None

    def group(self, text: str, name: str) -> str | None:
        """What group `name` matched; None when nothing did."""
        match = self._search(text.encode("utf-8", "replace"))
        found: bytes | None = match.group(self.groups[name]) if match is not None else None
        return found.decode("utf-8", "replace") if found is not None else None


@lru_cache(maxsize=4096)
def regex(pattern: str, ignore_case: bool = False) -> Regex:
    """The compiled expression. Raises BadRegex."""
    return Regex(pattern, ignore_case)


def elements(value: str) -> list[str]:
    """The elements of a comma list (RFC 9110 §5.6.1), trimmed, parameters included."""
    parts = _ELEMENT.findall(value) if '"' in value else value.split(",")
    return [part.strip(" \t") for part in parts]


def decimal(text: str) -> Decimal | None:
    """The number, None unless the whole text is a decimal number without an exponent."""
    return Decimal(text) if _DECIMAL.fullmatch(text) else None


def greater(text: str, limit: Decimal) -> bool:
    number = decimal(text)
    return number is not None and number > limit


def at_least(text: str, limit: Decimal) -> bool:
    number = decimal(text)
    return number is not None and number >= limit


def less(text: str, limit: Decimal) -> bool:
    number = decimal(text)
    return number is not None and number < limit


def at_most(text: str, limit: Decimal) -> bool:
    number = decimal(text)
    return number is not None and number <= limit


def lines(data: bytes) -> frozenset[str]:
    """A large set of texts, kept out of the generated source: one per line."""
    return frozenset(data.decode().split("\n"))


def first_of(*values: str | None) -> str | None:
    """The first value that is there."""
    return next((value for value in values if value is not None), None)
