"""Which handlers an addon has, under which name, and whether they can be called as hooks are called."""

from __future__ import annotations

import difflib
import inspect
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from rulesproxy.addons.errors import AddonManagerError
from rulesproxy.addons.hooks import ALL_HOOKS, Hook
from rulesproxy.addons.lifecycle import LIFECYCLE

logger = logging.getLogger("rulesproxy.addons")

#: The questions of model/policy.py and what they are asked with.
POLICY_METHODS = {"tls_decision": ("tunnel",), "tunnel_decision": ("tunnel",), "needs_body": ("flow", "phase"),
                  "needs_messages": ("flow",),
                  "resolve": ("name", "client")}

_SYNCHRONOUS = frozenset({"load", "configure", *POLICY_METHODS})

#: How alike a name has to be to that of a hook (difflib's ratio): one letter more, less or other, or an underscore.
_MISTYPED = 0.88

_REMOVED = {
    "clientconnect": "use client_connected",
    "clientdisconnect": "use client_disconnected",
    "serverconnect": "use server_connect (before dialling) or server_connected",
    "serverdisconnect": "use server_disconnected",
    "add_log": "add a logging.Handler to the root logger",
    "next_layer": "not offered: protocols are detected by the proxy",
}


@dataclass(frozen=True, slots=True)
class Handler:
    """One addon's function for one hook. `call` may be synchronous or return an awaitable."""

    addon_name: str
    call: Callable[..., Any]


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """An addon in the chain, with the name logs use: `counter.py` or `counter.py/Counter`."""

    addon: Any
    name: str

    def handler(self, name: str) -> Handler | None:
        """The handler of that name, if the addon defines it and currently wants to be entered there."""
        call = _function(self.addon, name)
        if call is None:
            return None
        if name not in LIFECYCLE:
            wanted = getattr(self.addon, "active_hooks", None)
            if wanted is not None and name not in wanted:
                return None
        return Handler(self.name, call)

    @property
    def prefix(self) -> str:
        """What the names of the addons it carries begin with: nothing for a mere container."""
        return self.name[:self.name.rfind("/") + 1] if getattr(self.addon, "container", False) else self.name + "/"

    def policy(self, method: str) -> Callable[..., Any] | None:
        return _function(self.addon, method)


def traverse(addons: Iterable[Any], prefix: str = "") -> Iterator[Member]:
    """Each addon before the addons it carries in `addons`, in order."""
    for addon in addons:
        member = Member(addon, prefix + addon_name(addon))
        yield member
        children = getattr(addon, "addons", None)
        if isinstance(children, list | tuple):
            yield from traverse(children, member.prefix)


def addon_name(addon: Any) -> str:
    if isinstance(addon, ModuleType):
        return os.path.basename(getattr(addon, "__file__", None) or addon.__name__)
    name = getattr(addon, "name", None)
    if isinstance(name, str) and name:
        return name
    return addon.__qualname__ if isinstance(addon, type) else type(addon).__qualname__


def check(member: Member) -> None:
    """Refuse handlers that cannot be called as hooks are, and say what became of hooks that no longer exist.

    Raises AddonManagerError with the addon, the hook and the signature it should have.
    """
    for name, hook_type in ALL_HOOKS.items():
        _check_signature(member, name, _parameters(hook_type))
    for name, parameters in POLICY_METHODS.items():
        _check_signature(member, name, parameters)
    _report_removed(member)
    _report_mistyped(member)


def _parameters(hook_type: type[Hook]) -> tuple[str, ...]:
    return hook_type.__match_args__


def _check_signature(member: Member, name: str, parameters: tuple[str, ...]) -> None:
    call = _function(member.addon, name)
    if call is None:
        return
    expected = f"{name}({', '.join(parameters)})"
    if name in _SYNCHRONOUS and inspect.iscoroutinefunction(call):
        raise AddonManagerError(f"addon {member.name}: {name} must not be async; write `def {expected}`")
    try:
        signature = inspect.signature(call)
    except ValueError:
        return  # a callable written in C does not tell
    try:
        signature.bind(*parameters)
    except TypeError as exc:
        raise AddonManagerError(
            f"addon {member.name}: {name}{signature} cannot handle the hook: {exc}; expected {expected}"
        ) from None


def _report_removed(member: Member) -> None:
    names = [name for name in dir(member.addon) if name in _REMOVED or name.startswith("quic_")]
    notes = [f"{name} ({_REMOVED.get(name, 'not offered: QUIC is not intercepted')})"
             for name in names if _function(member.addon, name) is not None]
    if notes:
        logger.warning("addon %s defines hooks that are never called: %s", member.name, "; ".join(notes))


def _report_mistyped(member: Member) -> None:
    """Warn of `reqest(flow)` and `request_headers(flow)`: Python has no quarrel with a function nobody calls."""
    for name in dir(member.addon):
        if name.startswith("_") or name in ALL_HOOKS or name in POLICY_METHODS or name in _REMOVED:
            continue
        near = difflib.get_close_matches(name, ALL_HOOKS, n=1, cutoff=_MISTYPED)
        if near and inspect.isroutine(getattr(member.addon, name, None)):
            logger.warning("addon %s: %s is no hook and is never called; did you mean %s?", member.name, name, near[0])


def _function(addon: Any, name: str) -> Callable[..., Any] | None:
    """The addon's callable of that name. Data attributes and classes that share a hook's name are not handlers."""
    value = getattr(addon, name, None)
    return value if callable(value) and not isinstance(value, type) else None
