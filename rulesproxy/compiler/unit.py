"""What a matcher or an action file provides, and how the compiler finds them.

A unit is a module in `rulesproxy/matchers/` or `rulesproxy/actions/` with these names:

* `KEY`: the key in the rule file; `SUMMARY`: one line for people; `EXAMPLE`: a rule in YAML, executed by the tests.
* `SCHEMA`: the JSON Schema fragment of the key's value, with descriptions; references to shared definitions
  (`{"$ref": "#/$defs/string_matcher"}`) are resolved by `schema.py`.
* `build(node, context)`: a matcher answers a `Predicate`, an action a list of `Effect`s. The node already has the
  shape the schema says. Mistakes beyond shape go to `context.error(node, ...)`; then return `None` (`[]`).
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rulesproxy.compiler.context import Context
    from rulesproxy.compiler.ir import Effect, Predicate
    from rulesproxy.compiler.source import Node


@dataclass(frozen=True, slots=True)
class MatcherUnit:
    key: str
    summary: str
    example: str
    schema: dict[str, Any]
    build: Callable[[Node, Context], Predicate | None]


@dataclass(frozen=True, slots=True)
class ActionUnit:
    key: str
    summary: str
    example: str
    schema: dict[str, Any]
    build: Callable[[Node, Context], list[Effect]]


def _modules(package_name: str) -> list[Any]:
    package = importlib.import_module(package_name)
    names = sorted(info.name for info in pkgutil.iter_modules(package.__path__) if not info.name.startswith("_"))
    return [importlib.import_module(f"{package_name}.{name}") for name in names]


@cache
def matchers() -> dict[str, MatcherUnit]:
    """Every matcher by key."""
    return {m.KEY: MatcherUnit(m.KEY, m.SUMMARY, m.EXAMPLE, m.SCHEMA, m.build)
            for m in _modules("rulesproxy.matchers")}


@cache
def actions() -> dict[str, ActionUnit]:
    """Every action by key."""
    return {m.KEY: ActionUnit(m.KEY, m.SUMMARY, m.EXAMPLE, m.SCHEMA, m.build)
            for m in _modules("rulesproxy.actions")}
