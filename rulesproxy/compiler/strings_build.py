"""String matchers from YAML: a scalar (equal), a list (any of), or a mapping of operators (rule-language 2.1).

Hosts and paths read the same shapes in their own dialect: what a bare text means, how text is brought into canonical
form, what a glob is, and whether the subject has case at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar, cast

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.operators import (
    CompareKind,
    CompareOperator,
    Glob,
    GlobOperator,
    Operator,
    RegexOperator,
    TextKind,
    TextOperator,
)
from rulesproxy.compiler.source import Mapping, Node, Scalar, Sequence
from rulesproxy.compiler.strings import Condition, StringMatcher
from rulesproxy.runtime.patterns import glob_source
from rulesproxy.runtime.text import BadRegex, decimal, regex


class Dialect:
    """Plain text: a bare text is equal; `*` in a glob is any run of characters, and nothing else is special.

    Methods answer None after an error, which they report.
    """

    #: The subject is lower case whatever the traffic says: texts are lowered, expressions ignore case.
    LOWERED = False

    def bare(self, nodes: list[Scalar], context: Context, fold: bool) -> list[Operator] | None:
        """What texts without an operator mean: any of the operators."""
        texts = all_of(self.exact(node, context, fold) for node in nodes)
        return None if texts is None else [TextOperator("exact", frozenset(texts), fold)]

    def exact(self, node: Scalar, context: Context, fold: bool) -> str | None:
        """A text that the whole value must equal."""
        text = text_of(node, context)
        return text.casefold() if text is not None and fold else text

    def entry(self, text: str) -> str | None:
        """An entry of a named set; None when no value can equal it."""
        return text

    def glob(self, node: Scalar, context: Context, fold: bool) -> Glob | None:
        """A pattern that the whole value must fit."""
        text = text_of(node, context)
        return None if text is None else Glob(text, glob_source(text.casefold() if fold else text))


PLAIN = Dialect()


def build_strings(node: Node, context: Context, dialect: Dialect = PLAIN) -> StringMatcher | None:
    """The matcher for a value of shape `string_matcher`. None after an error, which is reported."""
    conditions = _Builder(context, dialect, fold=False).conditions(node)
    return None if conditions is None else StringMatcher(tuple(conditions))


# --- parts that matchers use directly -----------------------------------------------------------------------------


def text_of(node: Scalar, context: Context) -> str | None:
    """The text with variables expanded, None when they could not be (reported)."""
    before = context.report.error_count
    text = context.match_text(node)
    return text if context.report.error_count == before else None


def scalars(node: Node) -> list[Scalar]:
    """The scalar, or the scalars of a list."""
    items: tuple[Node, ...] = node.items if isinstance(node, Sequence) else (node,)
    return [item for item in items if isinstance(item, Scalar)]


_T = TypeVar("_T")


def all_of(items: Iterable[_T | None]) -> list[_T] | None:
    """The items, or None if any of them is None. Every item is looked at, so all mistakes are reported."""
    found = list(items)
    complete = [item for item in found if item is not None]
    return complete if len(complete) == len(found) else None


def compile_regex(node: Scalar, context: Context) -> str | None:
    """The expression, checked by RE2. None after an error, which gives RE2's reason."""
    text = text_of(node, context)
    if text is None:
        return None
    try:
        regex(text)
    except BadRegex as exc:
        context.error(node, f"RE2 does not accept this expression: {exc}", code="bad-regex",
                      help="RE2 has no look-around and no back-references; its syntax: "
                           "https://github.com/google/re2/wiki/Syntax")
        return None
    return text


def set_or_texts(node: Node, context: Context) -> frozenset[str] | None:
    """`in`: a set by its name, or a list of texts. None after an error."""
    if isinstance(node, Scalar):
        return context.set_values(node)
    texts = all_of(text_of(item, context) for item in scalars(node))
    return None if texts is None else frozenset(texts)


# --- the builder --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Builder:
    context: Context
    dialect: Dialect
    fold: bool

    def conditions(self, node: Node) -> list[Condition] | None:
        if isinstance(node, Mapping):
            return self._mapping(node)
        bare = scalars(node)
        nested = [item for item in node if isinstance(item, Mapping)] if isinstance(node, Sequence) else []
        parts = all_of([self._bare(bare) if bare else [], *map(self._mapping, nested)])
        return None if parts is None else [condition for part in parts for condition in part]

    def _bare(self, nodes: list[Scalar]) -> list[Condition] | None:
        operators = self.dialect.bare(nodes, self.context, self.fold)
        return None if operators is None else [Condition((operator,)) for operator in operators]

    def _mapping(self, node: Mapping) -> list[Condition] | None:
        flag = node.get("ignore_case")
        if isinstance(flag, Scalar):
            fold = flag.value is True and not self.dialect.LOWERED
            return _Builder(self.context, self.dialect, fold)._operators(node)
        return self._operators(node)

    def _operators(self, node: Mapping) -> list[Condition] | None:
        built: list[Operator | None] = [self._operator(key.text, value) for key, value in node
                                        if key.text not in ("absent", "present", "not", "ignore_case")]
        operators = all_of(built)
        present = self._present(node)
        negated = node.get("not")
        excluded = self.conditions(negated) if negated is not None else []
        if operators is None or excluded is None:
            return None
        if not operators and present is None and not excluded:
            self.context.error(node, "ignore_case alone tests nothing", help="add exact, prefix, contains, regex, …")
            return None
        return [Condition(tuple(operators), present, StringMatcher(tuple(excluded)) if excluded else None)]

    def _present(self, node: Mapping) -> bool | None:
        present, absent = node.get("present"), node.get("absent")
        if isinstance(absent, Scalar):
            if isinstance(present, Scalar) and present.value is absent.value:
                self.context.error(node, "present and absent exclude each other")
            return absent.value is False
        return present.value is True if isinstance(present, Scalar) else None

    def _operator(self, kind: str, node: Node) -> Operator | None:
        match kind:
            case "exact":
                texts = all_of(self.dialect.exact(item, self.context, self.fold) for item in scalars(node))
                return None if texts is None else TextOperator("exact", frozenset(texts), self.fold)
            case "prefix" | "suffix" | "contains" | "has":
                return self._text(kind, node)
            case "glob":
                globs = all_of(self.dialect.glob(item, self.context, self.fold) for item in scalars(node))
                return None if globs is None else GlobOperator(tuple(globs), self.fold)
            case "regex":
                patterns = all_of(compile_regex(item, self.context) for item in scalars(node))
                return None if patterns is None else RegexOperator(tuple(patterns), self.fold or self.dialect.LOWERED)
            case "in":
                return self._in(node)
        return self._compare(cast(CompareKind, kind), node)

    def _text(self, kind: TextKind, node: Node) -> Operator | None:
        texts = all_of(text_of(item, self.context) for item in scalars(node))
        if texts is None:
            return None
        lowered = frozenset(text.casefold() if self.fold else text.lower() if self.dialect.LOWERED else text
                            for text in texts)
        return TextOperator(kind, lowered, self.fold)

    def _in(self, node: Node) -> Operator | None:
        values = set_or_texts(node, self.context)
        if values is None:
            return None
        entries = frozenset(entry for value in values if (entry := self.dialect.entry(value)) is not None)
        return TextOperator("exact", frozenset(e.casefold() for e in entries) if self.fold else entries, self.fold)

    def _compare(self, kind: CompareKind, node: Node) -> Operator | None:
        if not isinstance(node, Scalar):
            return None
        text = text_of(node, self.context)
        if text is None:
            return None
        limit = decimal(text.strip())
        if limit is None:
            self.context.error(node, f"{kind} wants a decimal number", help='as in "100" or "-2.5"')
            return None
        return CompareOperator(kind, limit)
