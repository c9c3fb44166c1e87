"""Did you mean: the known word closest to a mistyped one, also when it comes from another tool's vocabulary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

_LONGEST = 64


def did_you_mean(word: str, candidates: Iterable[str], foreign: Mapping[str, str] = {}) -> str:
    """`did you mean "x"?`, or an empty string when nothing is close.

    `foreign` maps words of other tools (compared without case, `-` and `_`) to ours; it is asked first, and only for
    answers that are among the candidates.
    """
    best = closest(word, candidates, foreign)
    return f'did you mean "{best}"?' if best else ""


def closest(word: str, candidates: Iterable[str], foreign: Mapping[str, str] = {}) -> str:
    """The candidate meant by `word`, or an empty string."""
    known = sorted(set(candidates))
    plain = _plain(word)
    for name in known:
        if _plain(name) == plain:
            return name
    translated = {_plain(theirs): ours for theirs, ours in foreign.items()}.get(plain, "")
    if translated in known:
        return translated
    if len(word) > _LONGEST:
        return ""
    allowed = 1 if len(plain) <= 4 else 2 if len(plain) <= 9 else 3
    ranked = sorted((distance(plain, _plain(name), allowed), name) for name in known)
    return ranked[0][1] if ranked and ranked[0][0] <= min(allowed, len(ranked[0][1]) - 1) else ""


def _plain(word: str) -> str:
    return word.lower().replace("-", "").replace("_", "")


def distance(a: str, b: str, limit: int) -> int:
    """Insertions, deletions, substitutions and swaps of neighbours from `a` to `b`; `limit + 1` when more."""
    if abs(len(a) - len(b)) > limit:
        return limit + 1
    before_last: list[int] = []
    last = list(range(len(b) + 1))
    for i, char in enumerate(a, 1):
        row = [i]
        for j, other in enumerate(b, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (char != other))
            if i > 1 and j > 1 and char == b[j - 2] and a[i - 2] == other:
                cost = min(cost, before_last[j - 2] + 1)
            row.append(cost)
        before_last, last = last, row
    return min(last[-1], limit + 1)
