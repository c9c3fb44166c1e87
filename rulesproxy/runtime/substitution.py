"""Replacement of text in fields and bodies: RE2 expressions or plain text, linear time whatever traffic brings.

Works on bytes: what does not match keeps its bytes, also where they are not UTF-8.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import re2


@lru_cache(maxsize=4096)
def _compiled(pattern: str, ignore_case: bool) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = not ignore_case
    return re2.compile(pattern.encode(), options)


@dataclass(frozen=True, slots=True)
class Substitution:
    """Every match of `pattern` becomes the joined `parts`: texts, and numbers for the match's groups (0: all of it).

    With `plain` the pattern is text to find, not an expression, and has no groups but 0.
    """

    pattern: str
    parts: tuple[str | int, ...]
    ignore_case: bool = False
    plain: bool = False

    def apply(self, text: str) -> str:
        """For text with `surrogateescape`, as headers have it."""
        before = text.encode("utf-8", "surrogateescape")
        after = self.apply_bytes(before)
        return text if after is before else after.decode("utf-8", "surrogateescape")

    def apply_bytes(self, content: bytes) -> bytes:
        """The same object when nothing is found."""
        if self.plain and not self.ignore_case:
            pattern = self.pattern.encode()
            if pattern not in content:
                return content
            return content.replace(pattern, b"".join(_encoded(part, lambda _: pattern) for part in self.parts))
        return self._replace(content)

    def _replace(self, content: bytes) -> bytes:
        pattern = str(re2.escape(self.pattern)) if self.plain else self.pattern
        constant = self._constant()
        out: list[bytes] = []
        end = 0
        last = (-1, -1)
        for match in _compiled(pattern, self.ignore_case).finditer(content):
            start, stop = span = match.span()
            if span == last or (start == stop < len(content) and content[start] & 0xC0 == 0x80):
                continue  # an empty match that the wrapper found already, or one inside a character
            last = span
            out += content[end:start], self._expanded(match) if constant is None else constant
            end = stop
        if not out:
            return content
        out.append(content[end:])
        return b"".join(out)

    def _constant(self) -> bytes | None:
        """What every match becomes; None when that depends on the match."""
        if any(isinstance(part, int) for part in self.parts):
            return None
        return b"".join(_encoded(part, bytes) for part in self.parts)

    def _expanded(self, match: Any) -> bytes:
        return b"".join(_encoded(part, lambda group: match.group(group) or b"") for part in self.parts)


def _encoded(part: str | int, group: Callable[[int], bytes]) -> bytes:
    return part.encode("utf-8", "surrogateescape") if isinstance(part, str) else group(part)
