"""Reload: files change → a candidate is compiled off the loop → it goes live, or the running rules stay.

The only place where rules change (rule-language 6). The walk of one edit:

1. `watchfiles` reports something in a watched folder, or a look every few seconds finds it;
2. after a short silence the compiler builds a candidate in a thread, reading each file once;
3. same digest: nothing happened; errors: they are printed, counted, and the running set stays;
4. otherwise the `rules` option takes the new digest, `configure` runs on every addon (each may veto), and the Rules
   addon assigns the prepared set. One log line says what is live.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from watchfiles import Change, awatch

from rulesproxy.addons.errors import OptionsError
from rulesproxy.compiler.program import Compiler, Program
from rulesproxy.last_good import LastGood
from rulesproxy.rules_addon import Rules, option_value
from rulesproxy.settle import SettlingReader

log = logging.getLogger("rulesproxy.reload")

_QUIET = 0.02  # seconds of silence that end a burst of changes
_BURST_LIMIT = 0.25  # a burst that does not end is looked at all the same
_LOOK_ANYWAY = 2.0  # seconds: network file systems and swapped mounts report nothing
_BUILD_SWITCH_INTERVAL = 0.0005  # seconds: the build thread gives way to traffic this often


@dataclass(slots=True)
class ReloadState:
    """For the status page and tests."""

    live: str = ""
    live_since: float = 0.0
    accepted: int = 0
    rejected: int = 0
    last_error: str = ""
    names: dict[str, Any] = field(default_factory=dict)


class Reloader:
    """Keeps the running rules in step with the files.

    `paths` are what the user named. `changed` is called on the loop after every swap and answers how many tunnels
    are closed because the new rules decide them differently.
    """

    def __init__(self, paths: Sequence[str], options: Any, rules: Rules, last_good: LastGood | None = None,
                 changed: Callable[[], int] = lambda: 0) -> None:
        self.paths = tuple(paths)
        self.state = ReloadState()
        self.program: Program | None = None
        self._options = options
        self._rules = rules
        self._last_good = last_good
        self._changed = changed
        self._files = SettlingReader()
        self._compiler = Compiler(self._files)
        self._watched: frozenset[str] = frozenset()
        self._rejected_inputs: object = None
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()

    # --- building ------------------------------------------------------------------------------------------------

    def build(self) -> Program:
        """Compile the files as they are now. Blocks; used inline at start-up and in a thread afterwards."""
        return self._compiler.compile(self.paths, profile=self._options.profile)

    def start(self, program: Program) -> None:
        """Make a program that compiled the first one. Raises OptionsError if an addon vetoes it."""
        self._install(program)
        self._watched = frozenset(program.build.watched)

    async def reload(self) -> bool:
        """Look at the files once. True if other rules are live now."""
        program = await self._build_off_loop()
        self._watched = frozenset(program.build.watched)
        if program.rules is None:
            self._reject(program)
            return False
        if program.rules.digest == self.state.live:
            if self._rejected_inputs is not None:
                log.info("rules are as before the last rejected change")
            self._rejected_inputs = None
            return False
        try:
            self._install(program)
        except OptionsError as exc:
            self.state.rejected += 1
            self.state.last_error = str(exc)
            log.error("rules not changed: %s", exc)
            return False
        return True

    async def _build_off_loop(self) -> Program:
        before = sys.getswitchinterval()
        sys.setswitchinterval(_BUILD_SWITCH_INTERVAL)
        try:
            return await asyncio.to_thread(self.build)
        finally:
            sys.setswitchinterval(before)

    def _install(self, program: Program) -> None:
        rules = program.rules
        assert rules is not None
        self._rules.prepare(rules)
        self._options.update(rules=option_value(self.paths, rules))
        before, self.program = self.program, program
        old = self.state.live
        self.state.live, self.state.live_since = rules.digest, time.time()
        self.state.accepted += 1
        self.state.last_error = ""
        self._rejected_inputs = None
        closed = self._changed()
        if old:
            log.info("rules live: %s (was %s)%s%s", rules.digest, old, _difference(before, program),
                     f"; closing {closed} tunnels they decide differently" if closed else "")
        if self._last_good is not None:
            self._last_good.save_later(program)

    def _reject(self, program: Program) -> None:
        seen = (tuple(sorted(program.build.inputs.items())), program.report.render())
        if seen == self._rejected_inputs:
            return  # said already
        self._rejected_inputs = seen
        self.state.rejected += 1
        self.state.last_error = program.report.render()
        log.error("rules not changed, %s stays live:\n%s", self.state.live, self.state.last_error.rstrip())

    # --- watching ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Start watching. Call on the loop."""
        self._task = asyncio.get_running_loop().create_task(self._watch(), name="rules reload")

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        if self._last_good is not None:
            await self._last_good.aclose()

    def look(self) -> None:
        """Look at the files soon, whatever the watcher says: a profile changed."""
        self._wake.set()

    async def _watch(self) -> None:
        while True:
            watched = self._watched
            async with _Watch(watched, self._wake) as watch:
                while watched == self._watched:
                    await watch.next_burst(self._next_look())
                    try:
                        await self.reload()
                    except Exception:  # a bug in the compiler must not end reloading
                        log.exception("rules not changed: the reload failed")

    def _next_look(self) -> float:
        unsettled = self._files.unsettled_for
        return _LOOK_ANYWAY if unsettled is None else min(unsettled + 0.01, _LOOK_ANYWAY)


class _Watch:
    """Changes in some folders as bursts."""

    def __init__(self, folders: frozenset[str], wake: asyncio.Event) -> None:
        self._folders = folders
        self._wake = wake
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> _Watch:
        self._task = asyncio.get_running_loop().create_task(self._pump(), name="rules watch")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _pump(self) -> None:
        try:
            async for _ in self._changes():
                self._wake.set()
        except (OSError, RuntimeError) as exc:
            log.warning("cannot watch the rule folders (%s); looking every %g s instead", exc, _LOOK_ANYWAY)

    def _changes(self) -> AsyncIterator[set[tuple[Change, str]]]:
        return awatch(*sorted(self._folders), stop_event=self._stop, recursive=False, debounce=50, step=10,
                      rust_timeout=500, yield_on_timeout=False, ignore_permission_denied=True, watch_filter=None)

    async def next_burst(self, at_most: float) -> None:
        """Wait for a change, then for silence; or for `at_most` seconds."""
        try:
            async with asyncio.timeout(at_most):
                await self._wake.wait()
        except TimeoutError:
            return
        began = time.monotonic()
        while self._wake.is_set() and time.monotonic() - began < _BURST_LIMIT:
            self._wake.clear()
            await asyncio.sleep(_QUIET)
        self._wake.clear()


def _difference(before: Program | None, after: Program) -> str:
    """Names added, changed and removed, as they stand in the log line."""
    old = {rule.name: rule for rule in before.build.all_rules} if before is not None else {}
    new = {rule.name: rule for rule in after.build.all_rules}
    groups = (
        ("added", [name for name in new if name not in old]),
        ("changed", [name for name in new if name in old and new[name] != old[name]]),
        ("removed", [name for name in old if name not in new]),
    )
    return "".join(f"; {word} {_some(names)}" for word, names in groups if names)


def _some(names: list[str], limit: int = 8) -> str:
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


