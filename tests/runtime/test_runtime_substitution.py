"""Replacement of text: what is found, what is left alone, and that no input breaks it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rulesproxy.runtime.substitution import Substitution

CASES = [
    ("plain", Substitution("a.b", ("X",), plain=True), "a.b axb a.b", "X axb X"),
    ("plain-nothing", Substitution("zzz", ("X",), plain=True), "a.b", "a.b"),
    ("plain-is-no-expression", Substitution("(", ("X",), plain=True), "f(x", "fXx"),
    ("plain-without-case", Substitution("HAT", ("cap",), True, True), "hat Hat hut", "cap cap hut"),
    ("plain-all-of-it", Substitution("hat", ("<", 0, ">"), plain=True), "a hat", "a <hat>"),
    ("plain-without-case-all-of-it", Substitution("hat", ("<", 0, ">"), True, True), "a HAT", "a <HAT>"),
    ("regex", Substitution("[0-9]+", ("N",)), "a1b22", "aNbN"),
    ("regex-group", Substitution("(a+)(b?)", (2, "-", 1)), "aab a", "b-aa -a"),
    ("regex-unmatched-group", Substitution("(x)|y", ("<", 1, ">")), "xy", "<x><>"),
    ("regex-without-case", Substitution("hat", ("cap",), True), "HAT", "cap"),
    ("regex-anchors", Substitution("^a", ("b",)), "aaa", "baa"),
    ("regex-counts-characters", Substitution("^.", ("x",)), "äb", "xb"),
    ("empty-matches-between-characters", Substitution("x*", ("-",)), "äö", "-ä-ö-"),
    ("empty-match-at-the-end", Substitution("$", ("!",)), "äb", "äb!"),
    ("removes", Substitution("b", ("",)), "abc", "ac"),
    ("no-parts", Substitution("b", ()), "abc", "ac"),
    ("replacement-is-no-pattern", Substitution("b", ("\\1 $1 \\g<0>",)), "abc", "a\\1 $1 \\g<0>c"),
]


@pytest.mark.parametrize(("substitution", "text", "wanted"), [pytest.param(*case[1:], id=case[0]) for case in CASES])
def test_substitution(substitution: Substitution, text: str, wanted: str) -> None:
    assert substitution.apply(text) == wanted
    assert substitution.apply_bytes(text.encode()) == wanted.encode()


def test_bytes_that_are_not_utf_8_stay() -> None:
    assert Substitution("b", ("x",)).apply_bytes(b"\xffab\xfe\xc3") == b"\xffax\xfe\xc3"
    assert Substitution("b", ("x",)).apply("a\udcffb") == "a\udcffx"


def test_content_in_which_nothing_is_found_is_the_same_object() -> None:
    content, text = b"\xff content", "text \udcff"
    for substitution in (Substitution("zz", ("x",)), Substitution("zz", ("x",), plain=True)):
        assert substitution.apply_bytes(content) is content
        assert substitution.apply(text) is text


@given(st.text(), st.text(min_size=1, max_size=3), st.text(max_size=4))
def test_plain_replacement_is_what_python_does(text: str, find: str, put: str) -> None:
    assert Substitution(find, (put,), plain=True).apply(text) == text.replace(find, put)


@given(st.text(alphabet="abä€😀 "), st.sampled_from(["a", "b*", "a|b", "[aä]+", "(a)(b)?", ".", "^", "$", "\\b"]))
def test_expressions_replace_what_python_replaces(text: str, pattern: str) -> None:
    """RE2 and `re` agree on these. RE2's word boundaries are ASCII."""
    flags = re.ASCII if pattern == "\\b" else 0
    mine = Substitution(pattern, ("<", 0, ">")).apply(text)
    assert mine == re.sub(pattern, lambda match: f"<{match[0]}>", text, flags=flags)


@given(st.binary(max_size=60), st.sampled_from(["a*", "(.)", "[^a]", "\\xff", "é?"]))
def test_no_bytes_raise_and_what_is_not_found_stays(content: bytes, pattern: str) -> None:
    assert Substitution(pattern, (0,)).apply_bytes(content) == content
