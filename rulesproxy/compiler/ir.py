"""The intermediate representation: what a rule means, free of YAML and of any order of evaluation.

Built from nodes by `build` with the matcher and action units, read by `check`, `plan`, `emit` and the reference
interpreter. Everything is frozen and compares by value, so equal rule files give equal IR.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from rulesproxy.compiler.source import Position
from rulesproxy.runtime.op import Op
from rulesproxy.runtime.phase import Phase, Slot

if TYPE_CHECKING:
    from rulesproxy.compiler.writer import Module


@dataclass(frozen=True, slots=True)
class Test:
    """An emitted condition: a Python expression over `x`, and its negation where that reads better than `not (…)`."""

    __test__ = False  # not a pytest class

    yes: str
    no: str = ""

    @property
    def negated(self) -> Test:
        return Test(self.no or f"not ({self.yes})", self.yes)


@dataclass(frozen=True, slots=True)
class HostKeys:
    """Where an index finds a host predicate: exact names, and suffixes (`example.com` covers it and all below)."""

    exact: frozenset[str] = frozenset()
    suffixes: frozenset[str] = frozenset()

    def __or__(self, other: HostKeys) -> HostKeys:
        return HostKeys(self.exact | other.exact, self.suffixes | other.suffixes)


@dataclass(frozen=True, slots=True)
class PathKeys:
    """Where an index finds a path predicate: exact paths, and segment-aligned literal prefixes (`/a` covers `/a/b`)."""

    exact: frozenset[str] = frozenset()
    prefixes: frozenset[str] = frozenset()

    def __or__(self, other: PathKeys) -> PathKeys:
        return PathKeys(self.exact | other.exact, self.prefixes | other.prefixes)


@dataclass(frozen=True, slots=True)
class Leaf(ABC):
    """One matcher with its value. Subclasses live in `matchers/`, one file each.

    `holds` and `emit` say the same thing twice, for the interpreter and for the compiled code; they share run-time
    helpers where the test is more than one expression.
    """

    #: The phases in which the key can be seen.
    PHASES: ClassVar[frozenset[Phase]]
    #: True for keys that speak of the host alone (`host domain host_in`): the index evaluates them.
    IS_HOST: ClassVar[bool] = False

    pos: Position = field(compare=False)

    @abstractmethod
    def holds(self, x: Any) -> bool:
        """The truth, from facts `x` of a phase in PHASES."""

    @abstractmethod
    def emit(self, module: Module) -> Test:
        """The same truth as an expression over `x`; constants are hoisted with `module.const(...)`."""

    def host_keys(self) -> HostKeys | None:
        """Index keys that cover every host this leaf can hold for; None when it says nothing about hosts."""
        return None

    @property
    def names_hosts(self) -> bool:
        """True if it holds for some names of tunnels only, however they are written."""
        return self.IS_HOST or self.tunnel_keys() is not None

    def tunnel_keys(self) -> HostKeys | None:
        """`host_keys` for tunnels, where the SNI is the host."""
        return self.host_keys()

    def path_keys(self) -> PathKeys | None:
        """Index keys that cover every canonical path this leaf can hold for; None when it says nothing."""
        return None

    @property
    def bases(self) -> tuple[str, ...]:
        """The fixed paths it stands on (`path_prefix`, what is before `/**`), for actions that map the rest."""
        return ()

    def captures(self) -> frozenset[str]:
        """Names it gives to templates: `path.id`, `match.1`, `match.name`."""
        return frozenset()

    def capture(self, x: Any, name: str) -> str | None:
        """The value of one of `captures()`, None if the leaf does not hold."""
        return None

    def emit_capture(self, module: Module, name: str) -> str:
        """An expression for `capture`."""
        raise TypeError(f"{type(self).__name__} captures nothing")

    def describe_miss(self, x: Any) -> str:
        """For `explain`: what was wanted and what was there, one line."""
        return "did not match"


@dataclass(frozen=True, slots=True)
class All:
    items: tuple[Predicate, ...] = ()


@dataclass(frozen=True, slots=True)
class AnyOf:
    items: tuple[Predicate, ...] = ()


@dataclass(frozen=True, slots=True)
class Not:
    item: Predicate


Predicate = All | AnyOf | Not | Leaf

ALWAYS = All()


def leaves(predicate: Predicate) -> Iterator[Leaf]:
    """Every leaf, in the order written."""
    match predicate:
        case All(items) | AnyOf(items):
            for item in items:
                yield from leaves(item)
        case Not(item):
            yield from leaves(item)
        case _:
            yield predicate


def visible_phases(predicate: Predicate) -> frozenset[Phase]:
    """The phases in which every key of the predicate can be seen."""
    phases = frozenset(Phase)
    for leaf in leaves(predicate):
        phases &= leaf.PHASES
    return phases


# --- actions ------------------------------------------------------------------------------------------------------


class Value(ABC):
    """An argument of an operation that is known only at run time (a template). Constants stand for themselves.

    Values may sit anywhere inside tuples and dicts of an effect's arguments.
    """

    __slots__ = ()

    @abstractmethod
    def render(self, x: Any) -> Any:
        """The value, for the interpreter."""

    @abstractmethod
    def emit(self, module: Module) -> str:
        """An expression over `x` for the same value."""

    @property
    def is_constant(self) -> bool:
        """True if it is the same for every exchange, though not plain data."""
        return False

    #: True if it looks at a body (`request.json.P`, `response.json.P`)
    @property
    def reads_request_body(self) -> bool:
        return False

    @property
    def reads_response_body(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class Effect:
    """One operation of an action: its class and its arguments (constants, `Value`s, and tuples or dicts of them)."""

    op: type[Op]
    args: tuple[tuple[str, Any], ...]
    phases: frozenset[Phase]
    pos: Position = field(compare=False)
    #: The slot it competes for, None for edits and notes.
    slot: Slot | None = None
    #: `slot` competes, `edit` composes (its op is runtime.edits.Edit), `note` is delay, tag or log, `pass` ends
    kind: Literal["slot", "edit", "note", "pass"] = "slot"
    #: A condition of its own, beyond the rule's match (a file that must exist).
    requires: Predicate | None = None
    #: It cannot be carried out without plaintext (a page, an edit): its hosts are decrypted.
    needs_plaintext: bool = False
    reads_request_body: bool = False
    reads_response_body: bool = False
    #: Of the body it only needs the end: it puts another in its place, whatever is in there.
    replaces_body: bool = False
    #: Its phases follow the other effects of the rule (delay, tag, log), among those it can act in.
    companion: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, ready to be ordered, planned and emitted."""

    name: str
    pos: Position = field(compare=False)
    match: Predicate = ALWAYS
    unless: Predicate | None = None
    effects: tuple[Effect, ...] = ()
    priority: int = 0
    enabled: bool = True
    stop: bool = False
    on_error: str | None = None
    on_unreadable: str | None = None
    tags: tuple[str, ...] = ()
    description: str = ""
    owner: str = ""
    profile: str | None = None
    actions: tuple[str, ...] = ()  # the action keys, in the order written

    @property
    def predicate(self) -> Predicate:
        """`match` and not `unless`."""
        if self.unless is None:
            return self.match
        base = self.match.items if isinstance(self.match, All) else (self.match,)
        return All((*base, Not(self.unless)))

    def effects_in(self, phase: Phase) -> tuple[Effect, ...]:
        return tuple(effect for effect in self.effects if phase in effect.phases)

    @property
    def phases(self) -> frozenset[Phase]:
        return frozenset(phase for effect in self.effects for phase in effect.phases)
