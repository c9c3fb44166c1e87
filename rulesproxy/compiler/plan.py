"""The plan: rules in their one order, and for each phase where the index finds them.

Optimisation happens here and nowhere else: what is said about hosts and paths becomes index keys (data), what is left
becomes code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from rulesproxy.compiler.emit import emitted_phases
from rulesproxy.compiler.ir import All, AnyOf, HostKeys, Leaf, Not, PathKeys, Predicate, Rule
from rulesproxy.runtime.phase import Phase


@dataclass(frozen=True, slots=True)
class Placed:
    """A rule with its place: the file's index, its index in the file, its position in the one list."""

    rule: Rule
    file: int
    index: int
    order: int


def in_order(files: Iterable[tuple[Rule, ...]]) -> tuple[Placed, ...]:
    """Priority first (higher wins), then position (rule-language 4.1). Disabled rules keep no place."""
    placed = [(rule, f, i) for f, rules in enumerate(files) for i, rule in enumerate(rules) if rule.enabled]
    placed.sort(key=lambda item: (-item[0].priority, item[1], item[2]))
    return tuple(Placed(rule, f, i, order) for order, (rule, f, i) in enumerate(placed))


@dataclass(frozen=True, slots=True, eq=False)
class Planned:
    """What can be said of a rule whatever other rules there are: done once, kept as long as its file is unchanged."""

    phases: frozenset[Phase]
    hosts: HostKeys | None
    host_test: Callable[[str], bool] | None
    paths: PathKeys | None
    tunnels: HostKeys | None
    tunnel_test: Callable[[str], bool] | None
    names_hosts: bool


def plan_rule(rule: Rule) -> Planned:
    predicate = rule.predicate
    return Planned(emitted_phases(rule), host_keys(predicate), host_test(predicate), path_keys(predicate),
                   tunnel_keys(predicate), tunnel_test(predicate), names_hosts(predicate))


# --- index keys ---------------------------------------------------------------------------------------------------


def host_keys(predicate: Predicate) -> HostKeys | None:
    """Keys that cover every host the predicate can hold for; None when any host is possible."""
    keys: HostKeys | None = _keys(predicate, lambda leaf: leaf.host_keys())
    return keys


def tunnel_keys(predicate: Predicate) -> HostKeys | None:
    """Keys that cover every tunnel the predicate can hold for, by the SNI or else the CONNECT host."""
    keys: HostKeys | None = _keys(predicate, lambda leaf: leaf.tunnel_keys())
    return keys


def path_keys(predicate: Predicate) -> PathKeys | None:
    """The same for canonical paths."""
    keys: PathKeys | None = _keys(predicate, lambda leaf: leaf.path_keys())
    return keys


def _keys(predicate: Predicate, of_leaf: Callable[[Leaf], Any]) -> Any:
    match predicate:
        case All(items):
            # Any conjunct's keys are enough; the one with the fewest finds the fewest rules.
            found = [keys for item in items if (keys := _keys(item, of_leaf)) is not None]
            return min(found, key=_size, default=None)
        case AnyOf(items):
            parts = [_keys(item, of_leaf) for item in items]
            if not parts or any(part is None for part in parts):
                return None
            union = parts[0]
            for part in parts[1:]:
                union = union | part
            return union
        case Not():
            return None
        case _:
            return of_leaf(predicate)


def _size(keys: HostKeys | PathKeys) -> int:
    return len(keys.exact) + 1000 * len(keys.suffixes if isinstance(keys, HostKeys) else keys.prefixes)


class _HostOnly:
    """Facts with nothing but a host, which for a tunnel is its SNI."""

    __slots__ = ("host", "sni")

    def __init__(self, host: str) -> None:
        self.host = self.sni = host


def host_test(predicate: Predicate) -> Callable[[str], bool] | None:
    """The rule's host keys as a test of a canonical host; None when it has none at the top of its match."""
    return _test(predicate, lambda leaf: leaf.IS_HOST)


def tunnel_test(predicate: Predicate) -> Callable[[str], bool] | None:
    """The same for the name of a tunnel."""
    return _test(predicate, lambda leaf: leaf.names_hosts)


def _test(predicate: Predicate, is_about_host: Callable[[Leaf], bool]) -> Callable[[str], bool] | None:
    conjuncts = predicate.items if isinstance(predicate, All) else (predicate,)
    tests = tuple(item for item in conjuncts if isinstance(item, Leaf) and is_about_host(item))
    if not tests:
        return None
    return lambda host: all(leaf.holds(_HostOnly(host)) for leaf in tests)


def names_hosts(predicate: Predicate) -> bool:
    """True if the rule confines itself to some tunnels by their name, however it is written."""
    match predicate:
        case All(items):
            return any(names_hosts(item) for item in items)
        case AnyOf(items):
            return bool(items) and all(names_hosts(item) for item in items)
        case Not():
            return False
        case _:
            return predicate.names_hosts
