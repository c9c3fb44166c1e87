"""The life-cycle hooks, and the `Loader` that `load` receives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rulesproxy.addons.errors import AddonManagerError
from rulesproxy.addons.hooks import Hook
from rulesproxy.addons.options import Options
from rulesproxy.model.flow import Flow


class Loader:
    """Handed to `load`: declares what the addon brings along."""

    def __init__(self, options: Options, commands: dict[str, Callable[..., Any]], owner: str) -> None:
        self._options = options
        self._commands = commands
        self._owner = owner

    def add_option(self, name: str, typespec: Any, default: Any, help: str,
                   choices: Sequence[str] | None = None) -> None:
        """Declare an option; see `Options.add`. Raises OptionsError when the name is taken by somebody else."""
        self._options.add(name, typespec, default, help, choices, owner=self._owner)

    def add_command(self, path: str, func: Callable[..., Any]) -> None:
        """Make `func` callable by name for other addons. A script may replace its own command on reload."""
        if not callable(func):
            raise AddonManagerError(f"command {path!r} is not callable")
        self._commands[path] = func


@dataclass(slots=True)
class LoadHook(Hook):
    """The addon is being added."""

    loader: Loader


@dataclass(slots=True)
class ConfigureHook(Hook):
    """Options have changed; once at start-up with every name. Synchronous: OptionsError takes the change back."""

    updated: frozenset[str]


@dataclass(slots=True)
class RunningHook(Hook):
    """The listeners are up."""


@dataclass(slots=True)
class UpdateHook(Hook):
    """Flows were changed by something other than the event in hand."""

    flows: Sequence[Flow]


@dataclass(slots=True)
class DoneHook(Hook):
    """Shutdown or removal: the last event an addon sees."""


#: Entered whatever `active_hooks` says: an addon that is idle must still be told when to wake up.
LIFECYCLE = frozenset({"load", "configure", "running", "done"})
