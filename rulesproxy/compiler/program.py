"""The whole pipeline: rule files in, `RuleSet` or diagnostics out.

A `Compiler` remembers what it did per file (parsed nodes, verdicts, generated modules), so after an edit only what
changed is done again. It never raises for what users write: mistakes are diagnostics.
"""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rulesproxy.compiler.build import Build, BuildCache, RuleFile, build
from rulesproxy.compiler.check import check
from rulesproxy.compiler.diagnostics import Report
from rulesproxy.compiler.emit import emit_file
from rulesproxy.compiler.inputs import FileReader
from rulesproxy.compiler.link import Unit, link
from rulesproxy.runtime.ruleset import RuleSet

#: With more rules than this, looking for garbage among all objects would hold up traffic for a tenth of a second.
SEARCHED_RULES = 2000


@dataclass(frozen=True, slots=True)
class Program:
    """The result of one build. `rules` is None when the report has errors; the rest is there as far as it got."""

    build: Build
    rules: RuleSet | None

    @property
    def report(self) -> Report:
        return self.build.report

    @property
    def digest(self) -> str:
        """Empty without rules."""
        return self.rules.digest if self.rules is not None else ""


class Compiler:
    """Compiles a list of files and folders, again and again.

    `warn=False` leaves out the search for rules that are hardly meant: for who would not show what it finds.
    """

    def __init__(self, files: FileReader, *, warn: bool = True) -> None:
        self._files = files
        self._warn = warn
        self._cache = BuildCache()
        self._units: dict[str, tuple[RuleFile, Unit]] = {}
        self._last: Program | None = None
        self._inputs: object = None  # of the build before

    def compile(self, paths: Sequence[str], *, profile: str | None = None) -> Program:
        """Read, validate, build, check, emit and link. The last good program again if nothing changed since."""
        with _no_collections() as interrupted:
            program = self._compile(paths, profile)
            inputs = (profile, program.build.inputs)
            if interrupted and inputs != self._inputs:
                _set_apart(program, first=self._inputs is None)
            self._inputs = inputs
            return program

    def _compile(self, paths: Sequence[str], profile: str | None) -> Program:
        result = build(paths, profile=profile, files=self._files, cache=self._cache)
        if result.report.has_errors:
            return Program(result, None)
        digest = digest_of(result)
        if self._last is None or self._last.digest != digest:
            self._last = Program(result, self._link(result, digest))
        return self._last

    def _link(self, result: Build, digest: str) -> RuleSet:
        if self._warn:
            check(result)
        self._units = {file.path: (file, self._unit(file)) for file in result.files}
        return link([unit for _, unit in self._units.values()], digest, result.inputs)

    def _unit(self, file: RuleFile) -> Unit:
        """The file compiled; the unit from last time if nothing it depends on changed."""
        before, unit = self._units.get(file.path, (None, None))
        return unit if unit is not None and before is file else Unit(file.rules, emit_file(file.rules))


def _set_apart(program: Program, *, first: bool) -> None:
    """Have the garbage collector look at nothing that is here now.

    What was built stays. The first collection would look at all of it, and with 100,000 rules nothing else happens for
    ten seconds meanwhile. It has no cycles, and goes when it is dropped. What traffic has open just now is set apart
    with it, and may become garbage with cycles: the next time it is looked for, if that is not too much work.
    """
    if not first and program.rules is not None and len(program.rules.rules) <= SEARCHED_RULES:
        gc.unfreeze()
        gc.collect()
    gc.freeze()


@contextmanager
def _no_collections() -> Iterator[bool]:
    """Nearly all that a build allocates stays alive: looking for cycles among it takes a third of the time.

    False where nobody looked for them before.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield was_enabled
    finally:
        if was_enabled:
            gc.enable()


def digest_of(result: Build) -> str:
    """Names a rule set by everything it was made from, the profile included: equal inputs, equal digest."""
    state = hashlib.sha256((result.profile or "").encode())
    for path, digest in sorted(result.inputs.items()):
        state.update(f"\0{path}\0{digest}".encode())
    return state.hexdigest()[:16]
