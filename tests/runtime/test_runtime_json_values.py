"""JSON that traffic brings: what fits a pattern, what a path finds, and that neither takes for ever."""

from __future__ import annotations

import json
from typing import Any

import jsonpath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rulesproxy.runtime.json_values import (
    MOST_CHARACTERS,
    MOST_CHARACTERS_SEARCHED,
    MOST_VALUES,
    NO_JSON,
    BadPath,
    Path,
    fits,
    json_path,
    parse,
)

DOCUMENTS = st.recursive(st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["a", "b", ""]),
                         lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner,
                                                                                     max_size=3), max_leaves=12)


@given(DOCUMENTS)
def test_every_document_fits_itself(document: Any) -> None:
    assert fits(document, document)


@given(DOCUMENTS, DOCUMENTS)
def test_a_pattern_fits_whatever_else_a_mapping_has(pattern: Any, other: Any) -> None:
    assert fits({"a": pattern}, {"a": pattern, "z": other})
    assert fits([pattern], [other, pattern])


@given(DOCUMENTS.filter(lambda document: not isinstance(document, str)),
       st.sampled_from(["$", "$.a", "$..a", "$..*", "$[*]", "$[0]", "$.a.b", "$[?@.a]", "$[?@.a == 1].b", "$..[0, 'a']",
                        "$[-1:]", "$..[?@.b]"]))
def test_paths_find_what_the_library_finds(document: Any, expression: str) -> None:
    found = jsonpath.JSONPathEnvironment(strict=True).findall(expression, document)
    wanted = [value if isinstance(value, str) else json.dumps(value, separators=(",", ":")) for value in found]
    assert json_path(expression).texts(document) == wanted


def test_a_text_is_a_document_and_not_read_again() -> None:
    assert json_path("$").texts('{"a": 1}') == ['{"a": 1}']
    assert json_path("$.a").texts('{"a": 1}') == [] == json_path("$").texts(NO_JSON)


def test_what_is_no_json_is_none() -> None:
    for content in ("", "nothing", "{", "NaN", '{"a": Infinity}', "[" * 100_000, "9" * 5000):
        assert parse(content) is NO_JSON
    assert parse(" " * MOST_CHARACTERS + "1") is NO_JSON and parse(" " * 100 + "1") == 1


def test_depth_hides_nothing() -> None:
    deep = parse('[{"a":' * 400 + "1" + "}]" * 400)
    assert json_path("$..b").texts([deep, {"b": 2}]) == ["2"]


def test_values_are_counted_and_their_texts_measured() -> None:
    assert len(json_path("$[*]").texts([1] * (MOST_VALUES + 1))) == MOST_VALUES
    nested = parse("[" * 300 + '"' + "x" * 100_000 + '"' + "]" * 300)
    texts = json_path("$..*").texts([nested, "seen"])
    assert sum(map(len, texts)) < 2 * MOST_CHARACTERS and "seen" in texts and len(texts) == 302


@pytest.mark.parametrize(("expression", "most"), [
    ("$.a.b", MOST_CHARACTERS), ("$['a'][0]", MOST_CHARACTERS), ("$.a[*]", MOST_CHARACTERS_SEARCHED),
    ("$..a", MOST_CHARACTERS_SEARCHED), ("$[?@.a]", MOST_CHARACTERS_SEARCHED), ("$['a..b*']", MOST_CHARACTERS),
])  # fmt: skip
def test_paths_that_search_take_less(expression: str, most: int) -> None:
    assert Path(expression).most == most


@pytest.mark.parametrize("expression", [
    "", " ", "a", "$[", "$..a..b", "$[?@..a]", "$[?$.a]", "$[?match(@.a, 'x')]", "$.a|$.b", "$[?@.a =~ /x/]", "$.~",
    "^[0]", "$[?(" * 300, "\n",
])  # fmt: skip
def test_what_is_no_path_is_refused(expression: str) -> None:
    with pytest.raises(BadPath):
        Path(expression)
