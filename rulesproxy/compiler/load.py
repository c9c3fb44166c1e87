"""Turns generated text into functions: the one place where code is executed, and nothing is imported by path.

A module is registered in `linecache` under a name made of its digest, so tracebacks show generated lines although no
file exists; the entry goes when the last rule set that uses it does.
"""

from __future__ import annotations

import hashlib
import linecache
import weakref
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType
from typing import Any

from rulesproxy.compiler.emit import Emitted
from rulesproxy.runtime.decision import RuleInfo

_users: dict[str, int] = {}


@dataclass(frozen=True, slots=True)
class Loaded:
    """An executed module: its functions by name, and the name it has in tracebacks."""

    name: str
    namespace: dict[str, Any]


@lru_cache(maxsize=2048)
def _compiled(text: str, name: str) -> CodeType:
    return compile(text, name, "exec", dont_inherit=True)


def module_name(emitted: Emitted) -> str:
    return f"<rules {hashlib.sha256(emitted.text.encode()).hexdigest()[:16]}>"


def load(emitted: Emitted, rules: tuple[RuleInfo, ...]) -> Loaded:
    """Execute a generated module for one link: its `RULES` are the infos of this generation."""
    name = module_name(emitted)
    namespace: dict[str, Any] = {"__name__": name, "RULES": rules, "DATA": emitted.data}
    exec(_compiled(emitted.text, name), namespace)  # noqa: S102 — the one exec; the text is our own printer's
    linecache.cache[name] = (len(emitted.text), None, emitted.text.splitlines(keepends=True), name)
    return Loaded(name, namespace)


def keep_while_alive(owner: Any, names: list[str]) -> None:
    """Hold the linecache entries until `owner` is collected."""
    for name in names:
        _users[name] = _users.get(name, 0) + 1
    weakref.finalize(owner, _release, names).atexit = False


def _release(names: list[str]) -> None:
    for name in names:
        _users[name] -= 1
        if not _users[name]:
            del _users[name]
            linecache.cache.pop(name, None)
