"""Regular-expression replacement on RE2: linear time, whatever traffic brings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import re2


@lru_cache(maxsize=4096)
def _compiled(pattern: str, ignore_case: bool) -> Any:
    return re2.compile(f"(?i){pattern}" if ignore_case else pattern)


@lru_cache(maxsize=1024)
def _compiled_bytes(pattern: str, ignore_case: bool) -> Any:
    return re2.compile((f"(?i){pattern}" if ignore_case else pattern).encode())


@dataclass(frozen=True, slots=True)
class Substitution:
    """Every match of `pattern` becomes the joined `parts`: texts, and numbers for the match's groups (0: all of it)."""

    pattern: str
    parts: tuple[str | int, ...]
    ignore_case: bool = False

    def apply(self, text: str) -> str:
        safe = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")  # RE2 refuses surrogates
        result: str = _compiled(self.pattern, self.ignore_case).sub(self._expand, safe)
        return result

    def apply_bytes(self, content: bytes) -> bytes:
        """On UTF-8 as text; on anything else byte by byte, so that no other byte changes."""
        try:
            return self.apply(content.decode("utf-8")).encode("utf-8")
        except UnicodeDecodeError:
            result: bytes = _compiled_bytes(self.pattern, self.ignore_case).sub(self._expand_bytes, content)
            return result

    def _expand(self, match: Any) -> str:
        return "".join(part if isinstance(part, str) else match.group(part) or "" for part in self.parts)

    def _expand_bytes(self, match: Any) -> bytes:
        return b"".join(part.encode() if isinstance(part, str) else match.group(part) or b"" for part in self.parts)
