"""The operators of a string matcher: tests of one value, for the interpreter and as printed expressions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, assert_never

from rulesproxy.compiler.ir import Test
from rulesproxy.compiler.writer import Module, literal
from rulesproxy.runtime.patterns import group, is_below, pattern
from rulesproxy.runtime.text import at_least, at_most, elements, first_of, greater, less, regex

TEXT = "rulesproxy.runtime.text"
PATTERNS = "rulesproxy.runtime.patterns"
#: More texts than this do not stand in the source as a literal.
_LARGE_SET = 200

TextKind = Literal["exact", "prefix", "suffix", "contains", "has"]
CompareKind = Literal["gt", "ge", "lt", "le"]

_COMPARE = {"gt": greater, "ge": at_least, "lt": less, "le": at_most}
_WORDS = {"exact": "", "prefix": "starting with ", "suffix": "ending with ", "contains": "containing ",
          "has": "with the element ", "gt": "greater than ", "ge": "at least ", "lt": "less than ", "le": "at most "}


def print_set(module: Module, values: frozenset[str]) -> str:
    """The name of a hoisted set of texts."""
    if len(values) > _LARGE_SET and not any("\n" in value for value in values):
        data = "\n".join(sorted(values)).encode()
        return module.const(f"{module.use(TEXT, 'lines')}({module.value(data)})")
    return module.const(literal(values))


def first(module: Module, expressions: Sequence[str]) -> str:
    """An expression for the first of `expressions` that is not None."""
    return expressions[0] if len(expressions) == 1 else f"{module.use(TEXT, 'first_of')}({', '.join(expressions)})"


def both(tests: Sequence[Test]) -> Test:
    """All of the tests."""
    return _joined(tests, "and")


def either(tests: Sequence[Test]) -> Test:
    """Any of the tests."""
    return _joined(tests, "or")


def _joined(tests: Sequence[Test], word: str) -> Test:
    if len(tests) == 1:
        return tests[0]
    return Test(f" {word} ".join(parenthesized(test.yes) for test in tests))


def parenthesized(expression: str) -> str:
    """The expression as an operand of `and`, `or` and `not`."""
    compound = any(word in expression for word in (" and ", " or ", " if ", " for "))
    return f"({expression})" if compound else expression


def _call(expression: str) -> Test:
    return Test(expression, f"not {expression}")


def equals(module: Module, value: str, texts: frozenset[str]) -> Test:
    """The text expression `value` is one of `texts`."""
    if len(texts) == 1:
        (text,) = texts
        return Test(f"{value} == {literal(text)}", f"{value} != {literal(text)}")
    name = print_set(module, texts)
    return Test(f"{value} in {name}", f"{value} not in {name}")


def _one_or_more(texts: Iterable[str]) -> str:
    """A text, or a tuple of them, as `startswith` and `endswith` take it."""
    ordered = sorted(texts)
    return literal(ordered[0] if len(ordered) == 1 else tuple(ordered))


def any_equals(module: Module, values: str, texts: frozenset[str]) -> Test:
    """One of the list expression `values` is one of `texts`."""
    if len(texts) == 1:
        (text,) = texts
        return Test(f"{literal(text)} in {values}", f"{literal(text)} not in {values}")
    disjoint = f"{print_set(module, texts)}.isdisjoint({values})"
    return Test(f"not {disjoint}", disjoint)


def quote(texts: Iterable[str]) -> str:
    """Texts for a message: `"a" or "b"`, a few of them, none of them long."""
    shown = sorted(texts)
    words = [f'"{text if len(text) <= 60 else text[:57] + "..."}"' for text in shown[:3]]
    if len(shown) > 3:
        words.append(f"one of {len(shown) - 3} more")
    return " or ".join(words)


@dataclass(frozen=True, slots=True)
class TextOperator:
    """The value equals, starts with, ends with, contains or lists one of `texts`.

    With `fold` the texts are folded already and the value is folded first.
    """

    kind: TextKind
    texts: frozenset[str]
    fold: bool = False

    def holds(self, value: str) -> bool:
        if self.fold:
            value = value.casefold()
        match self.kind:
            case "exact":
                return value in self.texts
            case "prefix":
                return value.startswith(tuple(self.texts))
            case "suffix":
                return value.endswith(tuple(self.texts))
            case "contains":
                return any(text in value for text in self.texts)
            case "has":
                return not self.texts.isdisjoint(elements(value))
        assert_never(self.kind)

    def emit(self, module: Module, value: str) -> Test:
        if self.fold:
            value = f"{value}.casefold()"
        texts = sorted(self.texts)
        match self.kind:
            case "exact":
                return equals(module, value, self.texts)
            case "prefix":
                return _call(f"{value}.startswith({_one_or_more(texts)})")
            case "suffix":
                return _call(f"{value}.endswith({_one_or_more(texts)})")
            case "contains":
                return either([Test(f"{literal(text)} in {value}", f"{literal(text)} not in {value}")
                               for text in texts])
            case "has":
                return any_equals(module, f"{module.use(TEXT, 'elements')}({value})", self.texts)
        assert_never(self.kind)

    def folded(self) -> TextOperator:
        """The same without regard to case."""
        return TextOperator(self.kind, frozenset(text.casefold() for text in self.texts), True)

    def describe(self) -> str:
        return _WORDS[self.kind] + quote(self.texts)


@dataclass(frozen=True, slots=True)
class TreeOperator:
    """The value lies below one of `roots`, or with `apex` is one: hosts (`.`, the root is the end of the name) and
    paths (`/`, the root is the start; the root of all paths is the empty text)."""

    separator: Literal[".", "/"]
    roots: frozenset[str]
    apex: bool = True

    def holds(self, value: str) -> bool:
        if self.separator == ".":
            return is_below(value if self.apex else value.partition(".")[2], self.roots)
        return any((value == root and self.apex) or value.startswith(root + "/") for root in self.roots)

    def emit(self, module: Module, value: str) -> Test:
        if self.separator == "/":
            subject = f'({value} + "/")' if self.apex else value
            return _call(f"{subject}.startswith({_one_or_more([root + '/' for root in self.roots])})")
        if len(self.roots) > _LARGE_SET:
            subject = value if self.apex else f'{value}.partition(".")[2]'
            return _call(f"{module.use(PATTERNS, 'is_below')}({subject}, {print_set(module, self.roots)})")
        subject = f'("." + {value})' if self.apex else value
        return _call(f"{subject}.endswith({_one_or_more(['.' + root for root in self.roots])})")

    def folded(self) -> Operator:
        if self.separator == ".":
            return self  # hosts have no case
        return GlobOperator(tuple(Glob(f"{root}/**", f"(?i:{re.escape(root)}(?:/.*)?)") for root in sorted(self.roots)))

    def describe(self) -> str:
        return ("" if self.apex else "below ") + quote(root or "/" for root in self.roots) + " or below" * self.apex


@dataclass(frozen=True, slots=True)
class Glob:
    """A glob as written, as a regular expression, and the tree that everything it fits lies in ("" for none)."""

    text: str
    source: str
    tree: str = ""


@dataclass(frozen=True, slots=True)
class GlobOperator:
    """The whole value fits one of the globs."""

    globs: tuple[Glob, ...]

    def holds(self, value: str) -> bool:
        return any(pattern(glob.source).fullmatch(value) is not None for glob in self.globs)

    def emit(self, module: Module, value: str) -> Test:
        return either([_call(f"{name}.fullmatch({value})") for name in self._names(module)])

    def _names(self, module: Module) -> list[str]:
        return [module.const(f"{module.use(PATTERNS, 'pattern')}({literal(glob.source)})", "P") for glob in self.globs]

    def captures(self) -> frozenset[str]:
        """Names of groups that every one of the globs has."""
        named = (frozenset(pattern(glob.source).groupindex) for glob in self.globs)
        return frozenset(f"path.{name}" for name in frozenset.intersection(*named))

    def capture(self, value: str, name: str) -> str | None:
        key = name.partition(".")[2]
        return first_of(*(group(pattern(glob.source).fullmatch(value), key) for glob in self.globs))

    def emit_capture(self, module: Module, value: str, name: str) -> str:
        use, key = module.use(PATTERNS, "group"), literal(name.partition(".")[2])
        return first(module, [f"{use}({item}.fullmatch({value}), {key})" for item in self._names(module)])

    def folded(self) -> GlobOperator:
        return GlobOperator(tuple(Glob(glob.text, f"(?i:{glob.source})") for glob in self.globs))

    def describe(self) -> str:
        return "like " + quote(glob.text for glob in self.globs)


@dataclass(frozen=True, slots=True)
class RegexOperator:
    """One of the RE2 expressions is found in the value."""

    patterns: tuple[str, ...]
    fold: bool = False

    def holds(self, value: str) -> bool:
        return any(regex(text, self.fold).test(value) for text in self.patterns)

    def emit(self, module: Module, value: str) -> Test:
        return either([_call(f"{name}.test({value})") for name in self._names(module)])

    def _names(self, module: Module) -> list[str]:
        use = module.use(TEXT, "regex")
        flag = ", True" if self.fold else ""
        return [module.const(f"{use}({literal(text)}{flag})", "P") for text in self.patterns]

    def captures(self) -> frozenset[str]:
        """Names of groups that every one of the expressions has."""
        groups = (frozenset(regex(text, self.fold).groups) for text in self.patterns)
        return frozenset(f"match.{name}" for name in frozenset.intersection(*groups))

    def capture(self, value: str, name: str) -> str | None:
        key = name.partition(".")[2]
        return first_of(*(regex(text, self.fold).group(value, key) for text in self.patterns))

    def emit_capture(self, module: Module, value: str, name: str) -> str:
        key = literal(name.partition(".")[2])
        return first(module, [f"{item}.group({value}, {key})" for item in self._names(module)])

    def folded(self) -> RegexOperator:
        return RegexOperator(self.patterns, True)

    def describe(self) -> str:
        return "matching " + quote(self.patterns)


@dataclass(frozen=True, slots=True)
class CompareOperator:
    """The whole value is a decimal number on the right side of `limit`."""

    kind: CompareKind
    limit: Decimal

    def holds(self, value: str) -> bool:
        return _COMPARE[self.kind](value, self.limit)

    def emit(self, module: Module, value: str) -> Test:
        limit = module.const(f"{module.use('decimal', 'Decimal')}({literal(str(self.limit))})")
        return _call(f"{module.use(TEXT, _COMPARE[self.kind].__name__)}({value}, {limit})")

    def folded(self) -> CompareOperator:
        return self

    def describe(self) -> str:
        return f"{_WORDS[self.kind]}{self.limit}"


Operator = TextOperator | TreeOperator | GlobOperator | RegexOperator | CompareOperator
