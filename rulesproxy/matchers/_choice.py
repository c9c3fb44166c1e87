"""The leaf for facts that are one of a few words: method, scheme, record type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.ir import Leaf, Test
from rulesproxy.compiler.operators import equals, quote
from rulesproxy.compiler.source import Node, Scalar
from rulesproxy.compiler.strings_build import all_of, texts_of
from rulesproxy.compiler.writer import Module


@dataclass(frozen=True, slots=True)
class ChoiceLeaf(Leaf):
    """The fact is one of `choices`."""

    #: The attribute of the facts, and what messages call it.
    FACT: ClassVar[str]
    WORD: ClassVar[str]

    choices: frozenset[str]

    def holds(self, x: Any) -> bool:
        return getattr(x, self.FACT) in self.choices

    def emit(self, module: Module) -> Test:
        return equals(module, f"x.{self.FACT}", self.choices)

    def describe_miss(self, x: Any) -> str:
        return f"{self.WORD} is {getattr(x, self.FACT) or 'unknown'}, wanted {quote(self.choices)}"


def read_choices(node: Node, context: Context,
                 read: Callable[[str, Scalar, Context], str | None]) -> frozenset[str] | None:
    """The words of a scalar or list, each in its canonical form. None after an error."""
    texts = texts_of(node, context)
    choices = all_of([read(text, item, context) for text, item in texts]) if texts is not None else None
    return None if choices is None else frozenset(choices)
