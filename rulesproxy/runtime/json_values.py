"""JSON documents that traffic brings: read, compared with a pattern, asked with a JSONPath (RFC 9535).

The documents are the traffic's, so everything here is bounded: their size, how deep a descent goes, how many values are
looked at; and a path may descend once only and not refer to the root inside a filter, which keeps the time of a query
near the size of the document.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import Any

from jsonpath import JSONPathEnvironment, JSONPathError
from jsonpath.token import TOKEN_DDOT, TOKEN_ROOT

from rulesproxy.runtime.values import text

#: Stands where a content is no JSON: None is the JSON value null.
NO_JSON: Any = type("NoJson", (), {"__repr__": lambda self: "NO_JSON"})()
#: Longer texts are not looked at as JSON: parsing them would hold up everybody else.
MOST_CHARACTERS = 1024 * 1024
MOST_VALUES = 10_000
#: How deep `..` descends. What is deeper is not seen.
MOST_LEVELS = 400


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

    max_recursion_depth = MOST_LEVELS

    def __init__(self) -> None:
        super().__init__(strict=True)

    def setup_function_extensions(self) -> None:
        super().setup_function_extensions()
        for name in ("match", "search"):
            self.function_extensions.pop(name)


_ENVIRONMENT = _Environment()


class Path:
    """A compiled JSONPath. `texts` are the values it finds, as text."""

    __slots__ = ("_query", "_root")

    def __init__(self, expression: str) -> None:
        try:
            kinds = [token.kind for token in _ENVIRONMENT.lexer.tokenize(expression)]
            if kinds.count(TOKEN_DDOT) > 1:
                raise BadPath("one .. is enough: two would look at everything again and again")
            if kinds.count(TOKEN_ROOT) > 1:
                raise BadPath("a filter looks at @ only, not at $")
            query: Any = _ENVIRONMENT.compile(expression)
        except (JSONPathError, RecursionError) as exc:
            raise BadPath(str(exc).partition("\n")[0]) from None
        self._query = query
        self._root = not query.segments

    def texts(self, document: Any) -> list[str]:
        """Texts as they are, numbers decimal, `true`, `false` and `null`; lists and objects as compact JSON."""
        if document is NO_JSON:
            return []
        if isinstance(document, str):  # the library would take it for a document that is still to be read
            return [document] if self._root else []
        return ["null" if value is None else text(value) for value in islice(self._values(document), MOST_VALUES)]

    def _values(self, document: Any) -> Iterator[Any]:
        try:
            for found in self._query.finditer(document):
                yield found.obj
        except RecursionError:
            return  # deeper than a path looks; what was found counts


@lru_cache(maxsize=1024)
def json_path(expression: str) -> Path:
    """The compiled path. Raises BadPath."""
    return Path(expression)
