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


def path_source(blocks: Sequence[str]) -> str:
    """An expression for blocks of path segments with `**` (zero or more segments) between them.

    A block is an expression for whole segments, each with `/` before it; it is empty where `**` stands at an end.
    """
    return _with_gaps(blocks, gaps=["(?:/[^/]++)*?"] * (len(blocks) - 1), rest="(?:/.*)?", separator="/")


def host_source(blocks: Sequence[str]) -> str:
    """The same for labels of host names with `.` before them, where `**` is one or more labels.

    The first label of a name has no dot before it, so the first block has none, and a leading `**` neither.
    """
    gap, first_gap = r"(?:\.[^.]++)+?", r"[^.]++(?:\.[^.]++)*?"
    leading = not blocks[0]
    gaps = [first_gap if leading and number == 0 else gap for number in range(len(blocks) - 1)]
    return _with_gaps(blocks, gaps, rest=".+" if leading and len(blocks) == 2 else r"\..+", separator=r"\.")


def _with_gaps(blocks: Sequence[str], gaps: Sequence[str], rest: str, separator: str) -> str:
    first, *others = blocks
    if not others:
        return first
    *middle, last = others
    # The first place where a block fits is as good as any later one: atomic, so that it is not tried again.
    fixed = "".join(f"(?>{gap}{block}(?={separator}|\\Z))" for gap, block in zip(gaps, middle, strict=False))
    return f"{first}{fixed}{gaps[-1]}{last}" if last else f"{first}{fixed}{rest}"


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
