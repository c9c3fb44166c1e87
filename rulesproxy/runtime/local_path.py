"""Request paths as paths of local files."""

from __future__ import annotations


def path_below(path: str, bases: tuple[str, ...]) -> str:
    """The canonical request path below the longest base it stands on, without a leading slash.

    Of the escapes that the canonical form keeps, `%25` is decoded: a percent sign can be part of a file name.
    Separators and controls (`%2F`, `%5C`, `%00`) cannot: they stay as written.
    """
    rest = path
    for base in bases:
        stem = base.rstrip("/")
        if path == stem or path.startswith(stem + "/"):
            rest = path[len(stem):]
            break
    rest = rest.lstrip("/")
    return rest.replace("%25", "%")
