"""Did you mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rulesproxy.compiler.edit_values import REPLACE_SCHEMA
from rulesproxy.compiler.suggest import did_you_mean, distance
from rulesproxy.compiler.vocabulary import (
    ACTION_WORDS,
    FILE_WORDS,
    MAP_LOCAL_WORDS,
    MATCH_WORDS,
    REPLACEMENT_WORDS,
    RESPOND_WORDS,
    RULE_WORDS,
)
from tests.compiler.rulefiles import build_text

KEYS = ["host", "domain", "path", "path_prefix", "path_regex", "method", "tls", "headers", "response_headers"]


@pytest.mark.parametrize(("word", "meant"), [
    ("hots", "host"), ("hosst", "host"), ("HOST", "host"), ("pathPrefix", "path_prefix"), ("path-regex", "path_regex"),
    ("tsl", "tls"), ("metod", "method"), ("resposne_headers", "response_headers"),
])  # fmt: skip
def test_mistyped_words_find_the_one_meant(word: str, meant: str) -> None:
    assert did_you_mean(word, KEYS) == f'did you mean "{meant}"?'


@pytest.mark.parametrize("word", ["colour", "x", "", "h", "zzzzzzz", "a" * 10_000])
def test_words_far_from_all_find_none(word: str) -> None:
    assert did_you_mean(word, KEYS) == ""


def test_words_of_other_tools_are_translated_if_the_answer_is_known() -> None:
    assert did_you_mean("urlPattern", KEYS, MATCH_WORDS) == 'did you mean "path"?'
    assert did_you_mean("url_pattern", KEYS, MATCH_WORDS) == 'did you mean "path"?'
    assert did_you_mean("urlPattern", ["method"], MATCH_WORDS) == ""


def test_every_translation_leads_to_a_key_that_exists() -> None:
    from rulesproxy.compiler import unit
    from rulesproxy.compiler.schema_parts import FILE, RULE

    assert set(FILE_WORDS.values()) <= set(FILE)
    assert set(RULE_WORDS.values()) <= set(RULE["properties"])
    assert set(MATCH_WORDS.values()) <= {*unit.matchers(), "all", "any", "not"}
    assert set(ACTION_WORDS.values()) <= set(unit.actions())
    assert set(MAP_LOCAL_WORDS.values()) <= set(unit.actions()["map_local"].schema["properties"])
    assert set(RESPOND_WORDS.values()) <= set(unit.actions()["respond"].schema["properties"])
    assert set(REPLACEMENT_WORDS.values()) <= set(REPLACE_SCHEMA["properties"])


@pytest.mark.parametrize(("line", "help"), [
    ("action: {rewrite: {body: {replace: {from: a, with: b}}}}", 'did you mean "text"?'),
    ("action: {rewrite: {headers: {x-env: b}}}", "write set: {x-env: …}; known keys: set, add, remove, replace"),
    ("action: {respond: {code: 404}}", 'did you mean "status"?'),
    ("match: {host: '${api}'}, action: {pass: true}", "did you mean ${vars.api}?"),
    ("match: {host: '{{ api }}'}, action: {pass: true}", "variables are written ${vars.NAME}"),
    ("action: {respond: {body: |\n x}}", "block text (|) cannot stand inside { } or [ ]: "
                                         "write the keys around it on lines of their own"),
])  # fmt: skip
def test_errors_say_what_was_probably_meant(line: str, help: str) -> None:
    result = build_text(f"version: 1\nvars: {{api: a.test}}\nrules:\n  - {{name: x, {line}}}\n")
    assert help in [error.help for error in result.report.errors]


def test_a_number_in_quotes_is_told_from_a_wrong_number() -> None:
    [quoted] = build_text('version: "1"\nrules: []\n').report.errors
    assert quoted.help == "write 1 without quotes"


@given(st.text("abc", max_size=6), st.text("abc", max_size=6), st.integers(0, 6))
def test_distance_is_symmetric_and_zero_only_for_equal_words(a: str, b: str, limit: int) -> None:
    assert distance(a, b, limit) == distance(b, a, limit)
    assert (distance(a, b, limit) == 0) == (a == b)
    assert distance(a, b, limit) <= limit + 1
    assert distance(a, a + "x", 3) == 1
