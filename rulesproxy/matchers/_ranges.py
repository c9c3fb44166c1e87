"""Numbers and ranges of numbers: ports and status codes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.ir import Leaf, Test
from rulesproxy.compiler.operators import either
from rulesproxy.compiler.source import Node, Scalar
from rulesproxy.compiler.strings_build import all_of, texts_of
from rulesproxy.compiler.writer import Module, literal

Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class NumberLeaf(Leaf):
    """The fact is one of `numbers` or lies in one of `ranges`, both ends included."""

    #: The attribute of the facts, which is also what messages call it.
    FACT: ClassVar[str]

    numbers: frozenset[int]
    ranges: tuple[Range, ...] = ()

    def holds(self, x: Any) -> bool:
        number = getattr(x, self.FACT)
        return number in self.numbers or any(low <= number <= high for low, high in self.ranges)

    def emit(self, module: Module) -> Test:
        fact = f"x.{self.FACT}"
        tests = [Test(f"{low} <= {fact} <= {high}") for low, high in self.ranges]
        if len(self.numbers) == 1:
            (number,) = self.numbers
            tests.insert(0, Test(f"{fact} == {number}", f"{fact} != {number}"))
        elif self.numbers:
            name = module.const(literal(self.numbers))
            tests.insert(0, Test(f"{fact} in {name}", f"{fact} not in {name}"))
        return either(tests)

    def describe_miss(self, x: Any) -> str:
        wanted = [str(number) for number in sorted(self.numbers)] + [f"{low}-{high}" for low, high in self.ranges]
        return f"{self.FACT} is {getattr(x, self.FACT)}, wanted {' or '.join(wanted)}"


def read_ranges(node: Node, context: Context, read: Callable[[str, Scalar, Context], Range | None],
                ) -> tuple[frozenset[int], tuple[Range, ...]] | None:
    """`(numbers, ranges)` of a scalar or list. None after an error."""
    texts = texts_of(node, context)
    found = all_of([read(text, item, context) for text, item in texts]) if texts is not None else None
    if found is None:
        return None
    return (frozenset(low for low, high in found if low == high),
            tuple(sorted({(low, high) for low, high in found if low != high})))


def range_of(text: str) -> Range | None:
    """`80` and `8000-8999` as both ends; None for anything else."""
    low, dash, high = (part.strip() for part in text.partition("-"))
    ends = [low, high] if dash else [low, low]
    if not all(end.isascii() and end.isdigit() and len(end) <= 9 for end in ends):
        return None
    return int(ends[0]), int(ends[1])
