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
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from watchfiles import Change, awatch

from rulesproxy.addons.errors import OptionsError
from rulesproxy.compiler.inputs import Disk
from rulesproxy.compiler.program import Compiler, Program
from rulesproxy.last_good import LastGood
from rulesproxy.rules_addon import Rules, option_value, without_digest
from rulesproxy.runtime.ruleset import RuleSet
from rulesproxy.settle import SettlingReader

log = logging.getLogger("rulesproxy.reload")

_QUIET = 0.02  # seconds of silence that end a burst of changes
_BURST_LIMIT = 0.25  # a burst that does not end is looked at all the same
_LOOK_ANYWAY = 2.0  # seconds: network file systems report nothing
_BUILD_SWITCH_INTERVAL = 0.0005  # seconds: the build thread gives way to traffic this often
_MOST_WARNINGS = 5  # shown when rules go live

#: A folder and what it is: the same path may lead to another folder after a swap.
_Folder = tuple[str, int, int]


@dataclass(slots=True)
class ReloadState:
    """For the status page and tests."""

    live: str = ""
    live_since: float = 0.0
    accepted: int = 0
    rejected: int = 0
    last_error: str = ""


@dataclass(frozen=True, slots=True)
class _Candidate:
    """What the build thread brings back."""

    program: Program
    folders: frozenset[_Folder]
    difference: str
    complaint: str  # what is wrong with it: text that takes a while to make


class Reloader:
    """Keeps the running rules in step with the files.

    `paths` are what the user named. `changed` is called on the loop after every swap and answers how many tunnels
    are closed because the new rules decide them differently. Call `build`, `start`, on the loop `run`, and `aclose`.
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
        self._compiler = Compiler(self._files, warn=False)
        self._folders: frozenset[_Folder] = frozenset()
        self._rejected_inputs: object = None
        self._vetoed_digest = ""
        self._installing = False
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._judged = asyncio.Event()
        options.observe(self._option_changed)

    # --- building ------------------------------------------------------------------------------------------------

    def build(self) -> Program:
        """Compile the files as they are now. Blocks; used inline at start-up and in a thread afterwards."""
        return self._compiler.compile(self.paths, profile=self._options.profile)

    def start(self, program: Program, broken: Program | None = None) -> None:
        """Make a program that compiled the first one. `broken` is what the files said, if the program is not theirs.

        Raises OptionsError if an addon vetoes it.
        """
        self._install(program, "")
        self._folders = frozenset(_folders(broken or program))
        if broken is not None:
            self._reject(broken, broken.build.render().rstrip())

    async def reload(self) -> bool:
        """Look at the files once. True if other rules are live now."""
        candidate = await self._build_off_loop()
        self._folders = candidate.folders
        swapped = self._take(candidate)
        self._judged.set()
        self._judged = asyncio.Event()
        return swapped

    async def judged(self) -> None:
        """Wait until the files were looked at once more; `state` then says what came of it."""
        await self._judged.wait()

    def _take(self, candidate: _Candidate) -> bool:
        program = candidate.program
        if program.rules is None:
            self._reject(program, candidate.complaint)
        elif program.digest == self.state.live:
            self._as_before()
        elif program.digest != self._vetoed_digest:
            try:
                self._install(program, candidate.difference)
            except OptionsError as exc:
                self._vetoed(program, exc)
            else:
                return True
        return False

    async def _build_off_loop(self) -> _Candidate:
        before = sys.getswitchinterval()
        sys.setswitchinterval(_BUILD_SWITCH_INTERVAL)
        try:
            return await asyncio.to_thread(self._candidate)
        finally:
            sys.setswitchinterval(before)

    def _candidate(self) -> _Candidate:
        program = self.build()
        difference = "" if program is self.program else _difference(self.program, program)
        complaint = program.build.render().rstrip() if program.rules is None else ""
        return _Candidate(program, frozenset(_folders(program)), difference, complaint)

    def _install(self, program: Program, difference: str) -> None:
        rules = program.rules
        assert rules is not None
        self._rules.prepare(rules)
        self._installing = True
        try:
            self._options.update(rules=option_value(self.paths, rules))
        finally:
            self._installing = False
        before, self.program = self.program, program
        old = self.state.live
        self.state.live, self.state.live_since = rules.digest, time.time()
        self.state.accepted += 1
        self.state.last_error = ""
        self._rejected_inputs, self._vetoed_digest = None, ""
        closed = self._changed()
        if old:
            log.info("rules live: %s (was %s)%s%s", rules.digest, old, difference, _closing(closed))
        _warn(program, before)
        if self._last_good is not None:
            self._last_good.save_later(program)

    # --- refusing ------------------------------------------------------------------------------------------------

    def _reject(self, program: Program, complaint: str) -> None:
        seen = (tuple(sorted(program.build.inputs.items())), complaint)
        if seen == self._rejected_inputs:
            return  # said already
        self._rejected_inputs = seen
        self._refused(complaint)
        log.error("rules not changed, %s stays live:\n%s", self.state.live, self.state.last_error)

    def _vetoed(self, program: Program, exc: OptionsError) -> None:
        self._vetoed_digest = program.digest
        self._refused(str(exc))
        log.error("rules not changed, %s stays live: %s", self.state.live, exc)

    def _refused(self, why: str) -> None:
        self.state.rejected += 1
        self.state.last_error = why

    def _as_before(self) -> None:
        if self.state.last_error:
            log.info("rules are again as they were before the rejected change: %s stays live", self.state.live)
        self._rejected_inputs, self._vetoed_digest = None, ""
        self.state.last_error = ""

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
        """Look at the files soon, whatever the watcher says."""
        self._wake.set()

    def _option_changed(self, updated: frozenset[str]) -> None:
        """A profile was chosen, or an addon named other rules: what is live no longer follows from the files."""
        if "rules" in updated and not self._installing:
            self.paths = without_digest(self._options.rules)
            self.look()
        elif "profile" in updated:
            self.look()

    async def _watch(self) -> None:
        while True:
            folders = self._folders
            async with _Watch(sorted({path for path, _, _ in folders}), self._wake) as watch:
                self._wake.set()  # what changed before the watch began was not reported
                while folders == self._folders:
                    await watch.next_burst(self._next_look())
                    try:
                        await self.reload()
                    except Exception:  # a bug in the compiler must not end reloading
                        log.exception("rules not changed: the reload failed")

    def _next_look(self) -> float:
        unsettled = self._files.unsettled_for
        return _LOOK_ANYWAY if unsettled is None else min(unsettled + 0.01, _LOOK_ANYWAY)


def build_inline(options: Any) -> Callable[[tuple[str, ...]], RuleSet]:
    """For the Rules addon: a rule set for paths that nothing was prepared for."""

    def build(paths: tuple[str, ...]) -> RuleSet:
        program = Compiler(Disk(), warn=False).compile(paths, profile=options.profile)
        if program.rules is None:
            raise OptionsError("the rules do not compile\n" + program.build.render().rstrip())
        return program.rules

    return build


class _Watch:
    """Changes in some folders as bursts."""

    def __init__(self, folders: Sequence[str], wake: asyncio.Event) -> None:
        self._folders = folders
        self._wake = wake
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> _Watch:
        self._task = asyncio.get_running_loop().create_task(self._pump(), name="rules watch")
        try:
            await asyncio.sleep(0)  # the first step of the task is what starts to watch
        except asyncio.CancelledError:  # the end of the reloader; nobody calls __aexit__ then
            await self.__aexit__()
            raise
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
        return awatch(*self._folders, stop_event=self._stop, recursive=False, debounce=50, step=10,
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


def _folders(program: Program) -> Iterator[_Folder]:
    """Every existing folder in which something may happen that changes what is read."""
    for path in sorted(_places(program)):
        with suppress(OSError):
            status = os.stat(path)
            yield path, status.st_dev, status.st_ino


def _places(program: Program) -> Iterable[str]:
    """The folders of the inputs; where links lead there, also those of the links and of what they lead to."""
    places: set[str] = set()
    pending = {os.path.abspath(folder) for folder in program.build.watched}
    pending |= {os.path.dirname(os.path.realpath(path)) for path in program.build.inputs}
    while pending:
        folder = pending.pop()
        if folder in places:
            continue
        places.add(folder)
        if not os.path.isdir(folder):  # not there yet: it appears in the nearest one that is
            pending.add(os.path.dirname(folder))
        pending |= {os.path.dirname(step) for step in _steps(folder) if os.path.islink(step)}
    return places


def _steps(path: str) -> Iterator[str]:
    """The path and everything above it, without the root."""
    while path != os.path.dirname(path):
        yield path
        path = os.path.dirname(path)


def _warn(program: Program, before: Program | None) -> None:
    """Say what looks wrong in the new rules and was not said of those before."""
    known = Counter((warning.pos.file, warning.message) for warning in before.report.warnings) if before else Counter()
    new = []
    for warning in program.report.warnings:  # their lines may have moved, so they are told by what they say
        said = (warning.pos.file, warning.message)
        if known[said]:
            known[said] -= 1
        else:
            new.append(warning)
    for warning in new[:_MOST_WARNINGS]:
        log.warning("%s: %s%s", warning.pos, warning.message, f"; {warning.help}" if warning.help else "")
    if len(new) > _MOST_WARNINGS:
        log.warning("and %d more such warnings: `rulesproxy check` shows them", len(new) - _MOST_WARNINGS)


def _difference(before: Program | None, after: Program) -> str:
    """Names added, changed and removed, as they stand in the log line."""
    old = {rule.name: rule for rule in before.build.rules} if before is not None else {}
    new = {rule.name: rule for rule in after.build.rules}
    groups = (
        ("added", [name for name in new if name not in old]),
        ("changed", [name for name in new if name in old and new[name] is not old[name] and new[name] != old[name]]),
        ("removed", [name for name in old if name not in new]),
    )
    return "".join(f"; {word} {_some(names)}" for word, names in groups if names)


def _closing(tunnels: int) -> str:
    if not tunnels:
        return ""
    return f"; closing {tunnels} {'tunnel' if tunnels == 1 else 'tunnels'} they decide differently"


def _some(names: list[str], limit: int = 8) -> str:
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
