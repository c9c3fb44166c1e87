"""Turns generated text into functions: the one place where code is executed, and nothing is imported by path.

A module is registered in `linecache` under a name made of its digest, so tracebacks show generated lines although no
file exists; the entry and the code go when the last rule set that uses them does.
"""

from __future__ import annotations

import hashlib
import linecache
import weakref
from dataclasses import dataclass
from types import CodeType
from typing import Any

from rulesproxy.compiler.emit import Emitted
from rulesproxy.runtime.decision import RuleInfo

_users: dict[str, int] = {}
_codes: dict[str, CodeType] = {}


@dataclass(frozen=True, slots=True)
class Loaded:
    """An executed module: its functions by name, and the name it has in tracebacks."""

    name: str
    namespace: dict[str, Any]


def _compiled(text: str, name: str) -> CodeType:
    """An edit compiles one module: the code of the others is there as long as a rule set has them."""
    code = _codes.get(name)
    if code is None:
        code = _codes[name] = compile(text, name, "exec", dont_inherit=True)
    return code


def module_name(emitted: Emitted) -> str:
    return f"<rules {hashlib.sha256(emitted.text.encode()).hexdigest()[:16]}>"


def load(emitted: Emitted, rules: tuple[RuleInfo, ...]) -> Loaded:
    """Execute a generated module for one link: its `RULES` are the infos of this generation."""
    name = module_name(emitted)
    namespace: dict[str, Any] = {"__name__": name, "RULES": rules, "DATA": emitted.data}
    exec(_compiled(emitted.text, name), namespace)  # noqa: S102 — the one exec; the text is our own printer's
    linecache.cache[name] = (len(emitted.text), None, emitted.text.splitlines(keepends=True), name)
    return Loaded(name, namespace)


def keep_while_alive(owner: Any, modules: list[Loaded]) -> None:
    """Hold the modules, their code and linecache entries until `owner`, who alone calls their functions, is no more."""
    for module in modules:
        _users[module.name] = _users.get(module.name, 0) + 1
    weakref.finalize(owner, _release, modules).atexit = False


def _release(modules: list[Loaded]) -> None:
    for module in modules:
        # Functions and the namespace they live in hold each other, and nobody may come to look for such cycles.
        module.namespace.clear()
        name = module.name
        _users[name] -= 1
        if not _users[name]:
            del _users[name]
            _codes.pop(name, None)
            linecache.cache.pop(name, None)
