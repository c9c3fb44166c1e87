"""Finding the rules that may match, without asking the others: host → path → residual tests.

Rules are steps in precedence order. A step says which hosts and paths it can match at all (`HostKeys`, `PathKeys`);
the index merges the few lists that apply and keeps their order. The result for a host is remembered, with the host
tests already evaluated, so traffic pays one dictionary look-up; the cost does not grow with rules for other hosts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rulesproxy.runtime.decision import Decision, RuleInfo

RuleFunction = Callable[[Any, Decision], None]

_REMEMBERED_HOSTS = 4096
#: Below this many rules on one host, asking each is faster than another look-up by path.
_WORTH_A_PATH_INDEX = 8


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One rule in one phase."""

    rule: RuleInfo
    run: RuleFunction
    #: None: the rule says nothing about hosts (or paths) that an index could use.
    hosts: tuple[frozenset[str], frozenset[str]] | None = None  # exact names, suffixes
    paths: tuple[frozenset[str], frozenset[str]] | None = None  # exact paths, prefixes
    #: Whether the rule's host keys hold for a canonical host; None: they always do.
    host_test: Callable[[str], bool] | None = None


Steps = tuple[Step, ...]


class PathIndex:
    """The steps of one host, by canonical path."""

    __slots__ = ("_exact", "_prefixes", "_residual", "_steps")

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._exact: dict[str, list[int]] = {}
        self._prefixes: dict[str, list[int]] = {}
        self._residual: list[int] = []
        for number, step in enumerate(steps):
            if step.paths is None or "/" in step.paths[1]:
                self._residual.append(number)
                continue
            for path in step.paths[0]:
                self._exact.setdefault(path, []).append(number)
            for prefix in step.paths[1]:
                self._prefixes.setdefault(prefix, []).append(number)

    def find(self, path: str) -> Iterable[Step]:
        found = list(self._residual)
        found += self._exact.get(path, ())
        if self._prefixes:
            end = path.find("/", 1)
            while end >= 0:
                found += self._prefixes.get(path[:end], ())
                end = path.find("/", end + 1)
            found += self._prefixes.get(path, ())
        if len(found) > len(self._residual):
            found = sorted(set(found))
        steps = self._steps
        return [steps[number] for number in found]

    @property
    def worst(self) -> int:
        """The most steps one path can find."""
        widest = max((len(v) for v in self._exact.values()), default=0)
        return len(self._residual) + widest + sum(1 for v in self._prefixes.values() for _ in v)


class HostIndex:
    """The steps of one phase."""

    __slots__ = ("_by_name", "_by_suffix", "_remembered", "_residual", "steps")

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = tuple(steps)
        self._by_name: dict[str, list[int]] = {}
        self._by_suffix: dict[str, list[int]] = {}
        self._residual: list[int] = []
        self._remembered: dict[str, Steps | PathIndex] = {}
        for number, step in enumerate(self.steps):
            if step.hosts is None:
                self._residual.append(number)
                continue
            for name in step.hosts[0]:
                self._by_name.setdefault(name, []).append(number)
            for suffix in step.hosts[1]:
                self._by_suffix.setdefault(suffix, []).append(number)

    def find(self, host: str, path: str | None = None) -> Iterable[Step]:
        """The steps whose host keys hold, in order; without those that cannot match `path`, where one is given."""
        found = self._remembered.get(host)
        if found is None:
            found = self._remember(host)
        if isinstance(found, tuple):
            return found
        return found.find(path) if path is not None else found._steps

    def _remember(self, host: str) -> Steps | PathIndex:
        steps = self._matching(host)
        indexed = len(steps) > _WORTH_A_PATH_INDEX and any(step.paths is not None for step in steps)
        found: Steps | PathIndex = PathIndex(steps) if indexed else steps
        if len(self._remembered) >= _REMEMBERED_HOSTS:
            self._remembered.clear()  # clients choose the names: bounded, and the next look-up refills it
        self._remembered[host] = found
        return found

    def _matching(self, host: str) -> Steps:
        numbers = set(self._residual)
        numbers.update(self._by_name.get(host, ()))
        if self._by_suffix:
            name = host
            while name:
                numbers.update(self._by_suffix.get(name, ()))
                name = name.partition(".")[2]
        steps = (self.steps[number] for number in sorted(numbers))
        return tuple(step for step in steps if step.host_test is None or step.host_test(host))

    def statistics(self) -> dict[str, int]:
        """For `plan`: how many steps there are, and how many no index helps to find."""
        return {"rules": len(self.steps), "names": len(self._by_name), "suffixes": len(self._by_suffix),
                "not_indexed": len(self._residual)}
