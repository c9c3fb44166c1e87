"""Finds the files that come along: `rules/` and `schemas/`, in a checkout and in an installed wheel."""

from __future__ import annotations

from pathlib import Path

from rulesproxy.errors import StartupError

_PACKAGE = Path(__file__).parent
#: Where the wheel puts them (pyproject.toml), then where a checkout has them.
_PLACES = (_PACKAGE / "_data", _PACKAGE.parent)


def starter_rules() -> Path:
    """The folder of the starter rules."""
    return _find("rules")


def rule_schema() -> Path:
    """The JSON Schema of rule files."""
    return _find("schemas/rules.schema.json")


def _find(name: str) -> Path:
    for place in _PLACES:
        if (place / name).exists():
            return place / name
    raise StartupError(f"the packaged {name} is missing from {_PACKAGE}; install rulesproxy again")
