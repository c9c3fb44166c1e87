"""The string matcher S (rule-language 2.1): what it means and how it is printed.

A matcher is a list of conditions of which any may hold. A condition has operators that must all hold for one and the
same value, `present` that counts values, and an exclusion (`not`) that no value may meet. The same matcher is asked
about a list of values (fields, query, cookies) or about one text whose empty value means absent (host, path, SNI).
Reading it from YAML is in `strings_build`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rulesproxy.compiler.ir import Test
from rulesproxy.compiler.operators import (
    TEXT,
    GlobOperator,
    Operator,
    RegexOperator,
    TextOperator,
    any_equals,
    both,
    either,
    first,
)
from rulesproxy.compiler.writer import Module
from rulesproxy.runtime.text import first_of


@dataclass(frozen=True, slots=True)
class Condition:
    """One alternative. `present`: True wants a value, False wants none, None does not ask."""

    operators: tuple[Operator, ...] = ()
    present: bool | None = None
    excluded: StringMatcher | None = None

    def fits(self, value: str) -> bool:
        return all(operator.holds(value) for operator in self.operators)

    def holds(self, values: Sequence[str]) -> bool:
        if not self._allowed(values):
            return False
        return not self.operators or any(self.fits(value) for value in values)

    def _allowed(self, values: Sequence[str]) -> bool:
        if self.present is not None and bool(values) is not self.present:
            return False
        return self.excluded is None or not self.excluded.holds(values)

    def emit(self, module: Module, values: str) -> Test:
        tests = self._emit_presence(values)
        match self.operators:
            case ():
                pass
            case (TextOperator(kind="exact", texts=texts, fold=False),):
                tests.append(any_equals(module, values, texts))
            case _:
                tests.append(Test(f"any({self._emit_fits(module, 'v')} for v in {values})"))
        if self.excluded is not None:
            tests.append(self.excluded.emit(module, values).negated)
        return both(tests)

    def emit_one(self, module: Module, value: str) -> Test:
        tests = self._emit_presence(value)
        if not tests and self.operators and self.fits(""):
            tests = [Test(value, f"not {value}")]  # an absent value meets no operator
        tests += [operator.emit(module, value) for operator in self.operators]
        if self.excluded is not None:
            tests.append(self.excluded.emit_one(module, value).negated)
        return both(tests)

    def _emit_presence(self, subject: str) -> list[Test]:
        if self.present is None:
            return []
        there = Test(subject, f"not {subject}")
        return [there if self.present else there.negated]

    def _emit_fits(self, module: Module, value: str) -> str:
        return both([operator.emit(module, value) for operator in self.operators]).yes

    def captures(self) -> frozenset[str]:
        return frozenset(name for operator in self._capturing for name in operator.captures())

    @property
    def _capturing(self) -> tuple[GlobOperator | RegexOperator, ...]:
        return tuple(item for item in self.operators if isinstance(item, (GlobOperator, RegexOperator)))

    def capture(self, values: Sequence[str], name: str) -> str | None:
        if not self._allowed(values):
            return None
        return first_of(*(operator.capture(value, name) for value in values if self.fits(value)
                          for operator in self._capturing if name in operator.captures()))

    def emit_capture(self, module: Module, values: str, name: str) -> str:
        expression = self._emit_first(module, values, name)
        excluded = self.excluded.emit(module, values) if self.excluded is not None else None
        return _guarded(expression, self._emit_presence(values), excluded)

    def emit_capture_one(self, module: Module, value: str, name: str) -> str:
        if len(self.operators) > 1:
            expression = self._emit_first(module, f"({value},)", name)
        else:
            expression = self._emit_wanted(module, value, name)
        guards = self._emit_presence(value) or ([Test(value)] if self.fits("") else [])
        excluded = self.excluded.emit_one(module, value) if self.excluded is not None else None
        return _guarded(expression, guards, excluded)

    def _emit_first(self, module: Module, values: str, name: str) -> str:
        wanted = self._emit_wanted(module, "v", name)
        fits = f" if {self._emit_fits(module, 'v')}" if len(self.operators) > 1 else ""
        return f"{module.use(TEXT, 'first_of')}(*({wanted} for v in {values}{fits}))"

    def _emit_wanted(self, module: Module, value: str, name: str) -> str:
        return first(module, [operator.emit_capture(module, value, name) for operator in self._capturing
                              if name in operator.captures()])

    def describe(self) -> str:
        parts = [operator.describe() for operator in self.operators]
        if self.present is not None:
            parts.insert(0, "present" if self.present else "absent")
        if self.excluded is not None:
            parts.append(f"not ({self.excluded.describe()})")
        return " and ".join(parts)


def _guarded(expression: str, guards: list[Test], excluded: Test | None) -> str:
    if excluded is not None:
        guards = [*guards, excluded.negated]
    return f"({expression} if {both(guards).yes} else None)" if guards else expression


@dataclass(frozen=True, slots=True)
class StringMatcher:
    """Any of the conditions."""

    conditions: tuple[Condition, ...]

    def holds(self, values: Sequence[str]) -> bool:
        """For several values, or none."""
        return any(condition.holds(values) for condition in self.conditions)

    def holds_one(self, value: str) -> bool:
        """For one text; empty means absent."""
        return self.holds((value,) if value else ())

    def emit(self, module: Module, values: str) -> Test:
        """`holds` of the list expression `values`."""
        return either([condition.emit(module, values) for condition in self.conditions])

    def emit_one(self, module: Module, value: str) -> Test:
        """`holds_one` of the text expression `value`."""
        return either([condition.emit_one(module, value) for condition in self.conditions])

    def captures(self) -> frozenset[str]:
        """Captures (`match.1`, `path.id`) that every condition gives."""
        return frozenset.intersection(*(condition.captures() for condition in self.conditions))

    def capture(self, values: Sequence[str], name: str) -> str | None:
        """What was captured in the first value that meets a condition; None when none does."""
        return first_of(*(condition.capture(values, name) for condition in self.conditions))

    def emit_capture(self, module: Module, values: str, name: str) -> str:
        """`capture` of the list expression `values`."""
        return first(module, [condition.emit_capture(module, values, name) for condition in self.conditions])

    def capture_one(self, value: str, name: str) -> str | None:
        """`capture` of one text; empty means absent."""
        return self.capture((value,) if value else (), name)

    def emit_capture_one(self, module: Module, value: str, name: str) -> str:
        """`capture_one` of the text expression `value`."""
        return first(module, [condition.emit_capture_one(module, value, name) for condition in self.conditions])

    def describe(self) -> str:
        """What is wanted, for `explain`."""
        return " or ".join(condition.describe() for condition in self.conditions)


def describe_values(values: Sequence[str]) -> str:
    """What is there, for `explain`."""
    if not values:
        return "absent"
    shown = [f'"{value if len(value) <= 60 else value[:57] + "..."}"' for value in values[:3]]
    return ", ".join(shown) + (f" and {len(values) - 3} more" if len(values) > 3 else "")
