"""Leaves that ask a string matcher: about one text of the facts, or about all values of a name."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from rulesproxy.compiler.ir import Leaf, Test
from rulesproxy.compiler.strings import StringMatcher, describe_values
from rulesproxy.compiler.writer import Module, literal


@dataclass(frozen=True, slots=True)
class TextLeaf(Leaf):
    """One text that is always there, or empty: `x.host`, `x.path`, `x.sni`."""

    #: The attribute of the facts, which is also what messages call it.
    FACT: ClassVar[str]

    matcher: StringMatcher

    def holds(self, x: Any) -> bool:
        return self.matcher.holds_one(getattr(x, self.FACT))

    def emit(self, module: Module) -> Test:
        return self.matcher.emit_one(module, f"x.{self.FACT}")

    def captures(self) -> frozenset[str]:
        return self.matcher.captures()

    def capture(self, x: Any, name: str) -> str | None:
        return self.matcher.capture_one(getattr(x, self.FACT), name)

    def emit_capture(self, module: Module, name: str) -> str:
        return self.matcher.emit_capture_one(module, f"x.{self.FACT}", name)

    def describe_miss(self, x: Any) -> str:
        value = getattr(x, self.FACT)
        there = describe_values((value,) if value else ())
        return f"{self.FACT} is {there}, wanted {self.matcher.describe()}"


@dataclass(frozen=True, slots=True)
class ValuesLeaf(Leaf):
    """All values of a name: field lines, query values, cookies."""

    #: The function of the facts that gives the values, and what messages call them.
    FACT: ClassVar[str]
    WORD: ClassVar[str]

    name: str
    matcher: StringMatcher

    @property
    @abstractmethod
    def key(self) -> str | bytes:
        """The argument of the function."""

    def _values(self, x: Any) -> list[str]:
        values: list[str] = getattr(x, self.FACT)(self.key)
        return values

    def _expression(self) -> str:
        return f"x.{self.FACT}({literal(self.key)})"

    def holds(self, x: Any) -> bool:
        return self.matcher.holds(self._values(x))

    def emit(self, module: Module) -> Test:
        return self.matcher.emit(module, self._expression())

    def captures(self) -> frozenset[str]:
        return self.matcher.captures()

    def capture(self, x: Any, name: str) -> str | None:
        return self.matcher.capture(self._values(x), name)

    def emit_capture(self, module: Module, name: str) -> str:
        return self.matcher.emit_capture(module, self._expression(), name)

    def describe_miss(self, x: Any) -> str:
        return f"{self.WORD} {self.name} is {describe_values(self._values(x))}, wanted {self.matcher.describe()}"
