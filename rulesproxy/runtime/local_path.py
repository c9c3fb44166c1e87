"""Request paths as paths of local files."""

from __future__ import annotations

from urllib.parse import unquote


def path_below(path: str, bases: tuple[str, ...]) -> str:
    """The canonical request path below the longest base it stands on, without a leading slash.

    Escapes the canonical form keeps (`%2F`, `%5C`, `%25`, controls) are decoded except the separators and controls,
    which cannot be part of a file name here: they stay as written and find nothing.
    """
    rest = path
    for base in bases:
        stem = base.rstrip("/")
        if path == stem or path.startswith(stem + "/"):
            rest = path[len(stem):]
            break
    rest = rest.lstrip("/")
    return rest.replace("%25", "%") if "%" in rest and unquote(rest) != rest else rest
