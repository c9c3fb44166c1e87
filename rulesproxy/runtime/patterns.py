"""Host and path patterns at run time: regular expressions made by the compiler, and the parts they are made of.

The expressions come from glob text that is escaped piece by piece. Runs before a fixed piece are atomic and stop at
its first occurrence, which is enough for globs, so matching never backtracks over them: time grows with the text
times the pattern, never faster.
"""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from functools import lru_cache


@lru_cache(maxsize=4096)
def pattern(source: str) -> re.Pattern[str]:
    """The compiled expression; always used with `fullmatch`."""
    return re.compile(source, re.DOTALL)


def glob_source(text: str, run: str = ".", star: str = "*") -> str:
    """An expression for `text` in which `star` is any run of the character class `run`, the empty run included."""
    first, *rest = text.split(star)
    if not rest:
        return re.escape(first)
    *middle, last = rest
    fixed = "".join(f"(?>{run}*?{re.escape(piece)})" for piece in middle if piece)
    return f"{re.escape(first)}{fixed}{run}*{re.escape(last)}"


def segments_source(blocks: Sequence[str], separator: str, least: int) -> str:
    """An expression for blocks of segments with `**` between them.

    A block is an expression for whole segments, each with `separator` (one character) before it; it may be empty at
    either end. `**` stands for `least` (0 or 1) or more segments.
    """
    sep = re.escape(separator)
    skip = f"(?:{sep}[^{sep}]++){'+' if least else '*'}?"
    first, *rest = blocks
    if not rest:
        return first
    *middle, last = rest
    fixed = "".join(f"(?>{skip}{block}(?={sep}|\\Z))" for block in middle)
    if last:
        return f"{first}{fixed}{skip}{last}"
    return f"{first}{fixed}{sep}.+" if least else f"{first}{fixed}(?:{sep}.*)?"


def group(match: re.Match[str] | None, name: str) -> str | None:
    """What the group matched, None when there is no match."""
    return match[name] if match is not None else None


def is_below(host: str, apexes: Set[str]) -> bool:
    """True if `host` is one of `apexes` or lies below one."""
    while host:
        if host in apexes:
            return True
        host = host.partition(".")[2]
    return False
