"""JSON documents that traffic brings: read, compared with a pattern, asked with a JSONPath (RFC 9535).

The documents are the traffic's, so everything here is bounded: their size and how many values are looked at; and a path
may descend once only, and not inside a filter or from there to the root, which keeps the time of a query near the size
of the document.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from typing import Any

from jsonpath import JSONPathEnvironment, JSONPathError, JSONPathMatch
from jsonpath.segments import JSONPathRecursiveDescentSegment, JSONPathSegment
from jsonpath.token import TOKEN_DDOT, TOKEN_FILTER, TOKEN_ROOT, TOKEN_WILD

from rulesproxy.runtime.values import text

#: Stands where a content is no JSON: None is the JSON value null.
NO_JSON: Any = type("NoJson", (), {"__repr__": lambda self: "NO_JSON"})()
#: Longer texts are not looked at as JSON: parsing them would hold up everybody else.
MOST_CHARACTERS = 1024 * 1024
#: The same for paths that look at every part of a document: with `..`, `*` or a filter.
MOST_CHARACTERS_SEARCHED = 256 * 1024
MOST_VALUES = 10_000


def parse(content: str) -> Any:
    """The document, NO_JSON when there is none."""
    if len(content) > MOST_CHARACTERS:
        return NO_JSON
    try:
        return json.loads(content, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return NO_JSON


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")  # RFC 8259 §6


def fits(pattern: Any, document: Any) -> bool:
    """True if all of the pattern is in the document: its keys with values that fit, its list entries in any order."""
    match pattern:
        case dict():
            return isinstance(document, dict) and all(
                key in document and fits(value, document[key]) for key, value in pattern.items())
        case list():
            return isinstance(document, list) and all(any(fits(item, one) for one in document) for item in pattern)
        case None | bool():
            return document is pattern
        case int() | float():  # true is not 1
            return isinstance(document, int | float) and not isinstance(document, bool) and document == pattern
    return isinstance(document, str) and document == pattern


class BadPath(ValueError):
    """The text is not a JSONPath that rules may use; the message says why."""


class _Environment(JSONPathEnvironment):
    """RFC 9535 to the letter, without `match` and `search`: they would run backtracking expressions on traffic."""

    def __init__(self) -> None:
        super().__init__(strict=True)

    def setup_function_extensions(self) -> None:
        super().setup_function_extensions()
        for name in ("match", "search"):
            self.function_extensions.pop(name)


class _Node(JSONPathMatch):
    """A value on the way, without a note of how it was reached: that would cost more the deeper it lies."""

    def __init__(self, value: Any, root: Any) -> None:
        super().__init__(filter_context={}, obj=value, parent=None, path="", parts=(), root=root)

    def new_child(self, obj: object, key: int | str) -> JSONPathMatch:
        return _Node(obj, self.root)


class _Descent(JSONPathRecursiveDescentSegment):
    """`..` without recursion, in the same order: however deep a document is, its parts cost the same."""

    def resolve(self, nodes: Iterable[JSONPathMatch]) -> Iterator[JSONPathMatch]:
        waiting = list(nodes)[::-1]
        while waiting:
            node = waiting.pop()
            for selector in self.selectors:
                yield from selector.resolve(node)
            inside: Any = node.obj
            values = inside.values() if isinstance(inside, dict) else inside if isinstance(inside, list) else ()
            waiting += reversed([_Node(value, node.root) for value in values if isinstance(value, dict | list)])


_ENVIRONMENT = _Environment()
_SEARCHING = {TOKEN_DDOT, TOKEN_FILTER, TOKEN_WILD}


class Path:
    """A compiled JSONPath. `texts` are the values it finds, as text, in a document of at most `most` characters."""

    __slots__ = ("_segments", "most")

    def __init__(self, expression: str) -> None:
        try:
            kinds = [token.kind for token in _ENVIRONMENT.lexer.tokenize(expression)]
            if kinds.count(TOKEN_DDOT) > 1:
                raise BadPath("one .. is enough: two would look at everything again and again")
            if kinds.count(TOKEN_ROOT) > 1:
                raise BadPath("a filter looks at @ only, not at $")
            query: Any = _ENVIRONMENT.compile(expression)
        except (JSONPathError, RecursionError) as exc:
            # Not str(exc): it looks for the place of the mistake, and fails where the text is empty.
            raise BadPath(str(exc.args[0]).partition("\n")[0] if exc.args else "it is nested too deep") from None
        self._segments = [_without_recursion(segment) for segment in query.segments]
        if TOKEN_DDOT in kinds and not any(isinstance(segment, _Descent) for segment in self._segments):
            raise BadPath("a filter looks at what is below @ step by step, not with ..")
        searches = not _SEARCHING.isdisjoint(kinds)
        self.most = MOST_CHARACTERS_SEARCHED if searches else MOST_CHARACTERS

    def texts(self, document: Any) -> list[str]:
        """Texts as they are, numbers decimal, `true`, `false` and `null`; lists and objects as compact JSON, as long as
        all of that is no longer than a document may be, then as empty texts.
        """
        if document is NO_JSON:
            return []
        left = MOST_CHARACTERS
        texts = []
        for value in islice(self._values(document), MOST_VALUES):
            if isinstance(value, dict | list):
                found = text(value) if left > 0 else ""  # one may hold the next: their texts add up to more and more
                left -= len(found)
            else:
                found = "null" if value is None else text(value)
            texts.append(found)
        return texts

    def _values(self, document: Any) -> Iterator[Any]:
        nodes: Iterable[JSONPathMatch] = (_Node(document, document),)
        for segment in self._segments:
            nodes = segment.resolve(nodes)
        return (node.obj for node in nodes)


def _without_recursion(segment: JSONPathSegment) -> JSONPathSegment:
    if not isinstance(segment, JSONPathRecursiveDescentSegment):
        return segment
    return _Descent(env=_ENVIRONMENT, token=segment.token, selectors=segment.selectors)


@lru_cache(maxsize=1024)
def json_path(expression: str) -> Path:
    """The compiled path. Raises BadPath."""
    return Path(expression)
