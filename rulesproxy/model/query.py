"""Query strings: split at `&`, `%XX` and `+` decoded, invalid UTF-8 as U+FFFD (rule-language 2.5)."""

from __future__ import annotations

from urllib.parse import unquote_plus


def parse_query(text: str) -> dict[str, list[str]]:
    """Values by key, in order of appearance."""
    values: dict[str, list[str]] = {}
    for key, value in query_pairs(text):
        values.setdefault(key, []).append(value)
    return values


def query_pairs(text: str) -> list[tuple[str, str]]:
    """Decoded `(key, value)` pairs; a part without `=` has the empty value, an empty part is skipped."""
    pairs = []
    for part in text.split("&"):
        if part:
            key, _, value = part.partition("=")
            pairs.append((unquote_plus(key, errors="replace"), unquote_plus(value, errors="replace")))
    return pairs
