"""String matchers from YAML: a scalar (equal), a list (any of), or a mapping of operators (rule-language 2.1).

Hosts and paths read the same shapes in their own dialect: what a bare text means, how text is brought into canonical
form, what a glob is, and whether the subject has case at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.operators import (
    CompareKind,
    CompareOperator,
    Glob,
    GlobOperator,
    Operator,
    RegexOperator,
    TextOperator,
)
from rulesproxy.compiler.source import Mapping, Node, Scalar
from rulesproxy.compiler.source import Sequence as List
from rulesproxy.compiler.strings import Condition, StringMatcher
from rulesproxy.runtime.patterns import glob_source
from rulesproxy.runtime.text import BadRegex, decimal, regex

#: A text of a rule, variables expanded, and where it stands.
Text = tuple[str, Scalar]
_NOT_OPERATORS = frozenset(("absent", "present", "not", "ignore_case"))


class Dialect:
    """Plain text: a bare text is equal; `*` in a glob is any run of characters, and nothing else is special.

    Methods take text with its variables expanded and the node it came from, and answer None after an error, which
    they report at the node.
    """

    #: The subject is lower case whatever the traffic says: texts are lowered, expressions ignore case.
    LOWERED = False

    def bare(self, texts: Sequence[Text], context: Context) -> list[Operator] | None:
        """What texts without an operator mean: any of the operators holds."""
        exact = all_of([self.exact(text, node, context) for text, node in texts])
        return None if exact is None else [TextOperator("exact", frozenset(exact))]

    def exact(self, text: str, node: Scalar, context: Context) -> str | None:
        """A text that the whole value must equal."""
        return text

    def entry(self, text: str) -> str | None:
        """An entry of a named set; None when no value can equal it."""
        return text

    def glob(self, text: str, node: Scalar, context: Context) -> Glob | None:
        """A pattern that the whole value must fit."""
        return Glob(text, glob_source(text))


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


def texts_of(node: Node, context: Context) -> list[Text] | None:
    """Each text of a scalar or list with its node. None when a variable is unknown or there is no text (reported)."""
    nodes = scalars(node)
    if not nodes:
        context.error(node, "an empty list matches nothing", help="name at least one")
        return None
    return all_of([None if (text := text_of(item, context)) is None else (text, item) for item in nodes])


def scalars(node: Node) -> list[Scalar]:
    """The scalar, or the scalars of a list."""
    items: tuple[Node, ...] = node.items if isinstance(node, List) else (node,)
    return [item for item in items if isinstance(item, Scalar)]


_T = TypeVar("_T")


def all_of(items: Iterable[_T | None]) -> list[_T] | None:
    """The items, or None if any of them is None. Every item is looked at, so all mistakes are reported."""
    found = list(items)
    complete = [item for item in found if item is not None]
    return complete if len(complete) == len(found) else None


def build_regex(node: Node, context: Context, ignore_case: bool = False) -> RegexOperator | None:
    """The expressions of a scalar or list, checked by RE2. None after an error, which gives RE2's reason."""
    texts = texts_of(node, context)
    good = all_of([_checked(text, item, context) for text, item in texts]) if texts is not None else None
    return None if good is None else RegexOperator(tuple(good), ignore_case)


def _checked(text: str, node: Scalar, context: Context) -> str | None:
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
    texts = texts_of(node, context)
    return None if texts is None else frozenset(text for text, _ in texts)


# --- the builder --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Builder:
    context: Context
    dialect: Dialect
    fold: bool

    def conditions(self, node: Node) -> list[Condition] | None:
        if isinstance(node, Mapping):
            return self._mapping(node)
        nested = [item for item in node if isinstance(item, Mapping)] if isinstance(node, List) else []
        bare = [self._bare(node)] if scalars(node) or not nested else []
        parts = all_of([*bare, *map(self._mapping, nested)])
        return None if parts is None else [condition for part in parts for condition in part]

    def _bare(self, node: Node) -> list[Condition] | None:
        texts = texts_of(node, self.context)
        operators = None if texts is None else self.dialect.bare(texts, self.context)
        return None if operators is None else [self._condition([operator]) for operator in operators]

    def _condition(self, operators: list[Operator], **more: Any) -> Condition:
        return Condition(tuple(operator.folded() if self.fold else operator for operator in operators), **more)

    def _mapping(self, node: Mapping) -> list[Condition] | None:
        flag = node.get("ignore_case")
        if isinstance(flag, Scalar):
            fold = flag.value is True and not self.dialect.LOWERED
            return _Builder(self.context, self.dialect, fold)._operators(node)
        return self._operators(node)

    def _operators(self, node: Mapping) -> list[Condition] | None:
        built: list[Operator | None] = [self._operator(key.text, value) for key, value in node
                                        if key.text not in _NOT_OPERATORS]
        operators: list[Operator] | None = all_of(built)
        present = {flag.value is wanted for key, wanted in (("present", True), ("absent", False))
                   if isinstance(flag := node.get(key), Scalar)}
        negated = node.get("not")
        excluded = self.conditions(negated) if negated is not None else []
        if operators is None or excluded is None:
            return None
        if len(present) > 1:
            self.context.error(node, "present and absent exclude each other")
            return None
        if not operators and not present and not excluded:
            self.context.error(node, "ignore_case alone tests nothing", help="add exact, prefix, contains, regex, …")
            return None
        matcher = StringMatcher(tuple(excluded)) if excluded else None
        return [self._condition(operators, present=next(iter(present), None), excluded=matcher)]

    def _operator(self, kind: str, node: Node) -> Operator | None:
        """One operator; the schema has seen to it that there is no other key."""
        match kind:
            case "in":
                return self._in(node)
            case "regex":
                return build_regex(node, self.context, self.dialect.LOWERED)
            case "gt" | "ge" | "lt" | "le":
                return self._compare(kind, node)
        texts = texts_of(node, self.context)
        if texts is None:
            return None
        match kind:
            case "exact":
                exact = all_of([self.dialect.exact(text, item, self.context) for text, item in texts])
                return None if exact is None else TextOperator("exact", frozenset(exact))
            case "glob":
                globs = all_of([self.dialect.glob(text, item, self.context) for text, item in texts])
                return None if globs is None else GlobOperator(tuple(globs))
            case "prefix" | "suffix" | "contains" | "has":
                lowered = self.dialect.LOWERED
                return TextOperator(kind, frozenset(text.lower() if lowered else text for text, _ in texts))
        raise ValueError(kind)

    def _in(self, node: Node) -> Operator | None:
        values = set_or_texts(node, self.context)
        if values is None:
            return None
        entries = (self.dialect.entry(value) for value in values)
        return TextOperator("exact", frozenset(entry for entry in entries if entry is not None))

    def _compare(self, kind: CompareKind, node: Node) -> Operator | None:
        text = text_of(node, self.context) if isinstance(node, Scalar) else None
        if text is None:
            return None
        limit = decimal(text.strip())
        if limit is None:
            self.context.error(node, f"{kind} wants a decimal number", help="as in 100 or -2.5")
            return None
        return CompareOperator(kind, limit)
