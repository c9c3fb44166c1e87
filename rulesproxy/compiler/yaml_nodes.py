"""Nodes of a rule file: YAML's scalars, sequences and mappings, each knowing where it was written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rulesproxy.compiler.yaml_scalars import core_value


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a rule file; line and column count from 1, columns in characters."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """Base of nodes. Nodes compare by identity: the same text in two places is two nodes."""

    pos: Position

    def __bool__(self) -> bool:
        """Always true: an empty list that was written is there."""
        return True


@dataclass(frozen=True, slots=True, eq=False)
class Scalar(Node):
    """One value as its source text. `plain` is true when it was written without quotes and not as a block."""

    text: str
    plain: bool

    @property
    def value(self) -> Any:
        """What YAML 1.2's core schema makes of it: None, bool, int or float when plain, else the text."""
        return core_value(self.text) if self.plain else self.text

    @property
    def is_null(self) -> bool:
        return self.plain and core_value(self.text) is None


@dataclass(frozen=True, slots=True, eq=False)
class Sequence(Node):
    items: tuple[Node, ...]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True, slots=True, eq=False)
class Mapping(Node):
    """Entries in the order written; keys are scalars, and no two are equal."""

    entries: tuple[tuple[Scalar, Node], ...]

    def get(self, key: str) -> Node | None:
        """The value under `key`, None when it is not there."""
        for name, value in self.entries:
            if name.text == key:
                return value
        return None

    def key(self, key: str) -> Scalar | None:
        """The key's own node, for its position."""
        for name, _ in self.entries:
            if name.text == key:
                return name
        return None

    def __contains__(self, key: object) -> bool:
        return any(name.text == key for name, _ in self.entries)

    def __iter__(self) -> Iterator[tuple[Scalar, Node]]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


def to_data(node: Node) -> Any:
    """Plain Python for a node: dict, list, str, bool, int, float, None. Keys are always text."""
    match node:
        case Scalar():
            return node.value
        case Sequence(items=items):
            return [to_data(item) for item in items]
        case Mapping(entries=entries):
            return {key.text: to_data(value) for key, value in entries}
    raise TypeError(f"not a node: {type(node).__name__}")


def describe(node: Node) -> str:
    """What a node is, for messages: `a mapping`, `the number 5`, `nothing`."""
    match node:
        case Sequence():
            return "a list"
        case Mapping():
            return "a mapping"
        case Scalar():
            value = node.value
            match value:
                case None:
                    return "nothing"
                case bool():
                    return f"the boolean {node.text}"
                case int() | float():
                    return f"the number {node.text}"
            shown = node.text if len(node.text) <= 40 else node.text[:37] + "..."
            return f'the text "{shown}"'
    raise TypeError(f"not a node: {type(node).__name__}")
