"""Values of templates: look-ups, text, filters and places, on good and on hostile input."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rulesproxy.runtime import values
from rulesproxy.runtime.ruleset import TemplateError

NOON = datetime(2026, 3, 1, 12, 30, 5, tzinfo=UTC)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.datetimes(timezones=st.just(UTC)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=6)


@pytest.mark.parametrize(("value", "wanted"), [
    ("a b", "a b"), (None, ""), (True, "true"), (False, "false"), (7, "7"), (7.0, "7"), (-0.5, "-0.5"),
    (1e21, "1000000000000000000000"), (1e-7, "0.0000001"), (0.1, "0.1"), (float("nan"), ""), (float("inf"), ""),
    ({"a": [1, "ä"]}, '{"a":[1,"ä"]}'), (NOON, "2026-03-01T12:30:05Z"),
])  # fmt: skip
def test_text(value: Any, wanted: str) -> None:
    assert values.text(value) == wanted


@pytest.mark.parametrize(("name", "value", "arguments", "wanted"), [
    ("default", None, ("x",), "x"), ("default", "", ("x",), "x"), ("default", "a", ("x",), "a"),
    ("default", 0, ("x",), 0), ("default", False, ("x",), False), ("default", None, (5,), 5),
    ("int", "7", (), 7), ("int", " -7 ", (), -7), ("int", "3.9", (), 3), ("int", 3.9, (), 3), ("int", True, (), 1),
    ("int", "seven", (), None), ("int", "", (), None), ("int", None, (), None), ("int", "1_000", (), None),
    ("int", "٣", (), None), ("int", "0x10", (), None), ("int", [1], (), None), ("int", float("inf"), (), None),
    ("int", "9" * 5000, (), None), ("int", NOON, (), int(NOON.timestamp())),
    ("float", "1.5", (), 1.5), ("float", "nan", (), None), ("float", "inf", (), None), ("float", "1e5", (), None),
    ("float", 10 ** 400, (), None), ("float", {}, (), None),
    ("lower", "ÄB", (), "äb"), ("upper", "äb", (), "ÄB"), ("trim", " a\t", (), "a"), ("lower", None, (), ""),
    ("urlencode", "a b/&?=ä", (), "a%20b%2F%26%3F%3D%C3%A4"),
    ("json", 'a"b', (), '"a\\"b"'), ("json", {"a": None}, (), '{"a": null}'), ("json", float("nan"), (), "null"),
    ("json", [1, float("inf")], (), "[1, null]"), ("json", NOON, (), '"2026-03-01T12:30:05Z"'),
    ("html", "<a href='x'>&", (), "&lt;a href=&#x27;x&#x27;&gt;&amp;"),
    ("base64", "ä", (), "w6Q="), ("base64", None, (), ""),
    ("date", NOON, (), "2026-03-01"), ("date", NOON, ("%H:%M",), "12:30"), ("date", 0, ("%Y",), "1970"),
    ("date", "0", ("%Y",), "1970"), ("date", "2026-03-01T10:00:00+02:00", ("%H %z",), "10 +0200"),
    ("date", "soon", (), None), ("date", 1e30, (), None), ("date", None, (), None), ("date", [], (), None),
])  # fmt: skip
def test_filters(name: str, value: Any, arguments: tuple[Any, ...], wanted: Any) -> None:
    got = values.filtered(name, value, *arguments)
    assert (got, type(got)) == (wanted, type(wanted))


def test_the_filters_are_the_ones_of_the_page() -> None:
    assert set(values.FILTERS) == {
        "default", "int", "float", "lower", "upper", "trim", "urlencode", "json", "html", "base64", "date"}


@given(st.sampled_from(sorted(values.FILTERS)), ANYTHING)
def test_no_value_makes_a_filter_raise(name: str, value: Any) -> None:
    arguments = ("x",) if name == "default" else ()
    assert isinstance(values.text(values.filtered(name, value, *arguments)), str)


@given(ANYTHING)
def test_json_is_always_json(value: Any) -> None:
    json.loads(values.json_bytes(value), parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


@pytest.mark.parametrize(("document", "path", "wanted"), [
    ({"a": {"b": 1}}, ("a", "b"), 1), ([10, 20], (1,), 20), ([10, 20], ("1",), 20), ([10, 20], (-1,), 20),
    ([10], (1,), None), ([10], ("x",), None), ([10], ("²",), None), ({"1": "x"}, (1,), "x"), ("text", (0,), None),
    (None, ("a",), None), ({"a": 1}, ("a", "b"), None), ({"a": 1}, (), {"a": 1}), ({"a": None}, ("a",), None),
])  # fmt: skip
def test_json_at(document: Any, path: tuple[str | int, ...], wanted: Any) -> None:
    assert values.json_at(document, path) == wanted


# --- places ----------------------------------------------------------------------------------------------------------


@given(st.text())
def test_a_value_in_a_url_changes_nothing_but_its_place(value: str) -> None:
    safe = value.encode("utf-8", "replace").decode()
    parts = urlsplit(f"http://host.test/a/{values.url_part(value)}/b?c={values.url_part(value)}&d#e")
    assert (parts.netloc, parts.query.rpartition("&")[2], parts.fragment) == ("host.test", "d", "e")
    assert unquote(parts.path) == f"/a/{safe}/b"


@pytest.mark.parametrize(("path", "wanted"), [
    ("/a b/ä", "/a%20b/%C3%A4"), ("/a%2Fb", "/a%2Fb"), ("/100%", "/100%25"), ("/100%25", "/100%25"),
    ("/a?b#c", "/a%3Fb%23c"),
])  # fmt: skip
def test_path_text_in_a_url_keeps_slashes_and_escapes(path: str, wanted: str) -> None:
    assert values.url_path(path) == wanted


def test_an_ipv6_host_in_a_url_has_brackets() -> None:
    assert values.url_host("::1") == "[::1]"
    assert values.url_host("a.test") == "a.test"


@pytest.mark.parametrize("char", ["\r", "\n", "\0", "\x01", "\x1b", "\x7f"])
def test_controls_do_not_go_into_fields(char: str) -> None:
    for place in (values.header_text, values.cookie_text):
        with pytest.raises(TemplateError) as caught:
            place(f"a{char}b")
        assert caught.value.status == 500


def test_field_text() -> None:
    assert values.header_text(" a\tb; c ") == "a\tb; c"
    assert values.cookie_text(" a b ") == "a b"
    with pytest.raises(TemplateError):
        values.cookie_text("a; path=/")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a\0b", None, "/"])
def test_one_plain_segment_or_404(name: str | None) -> None:
    with pytest.raises(TemplateError) as caught:
        values.segment(name)
    assert caught.value.status == 404


def test_segments() -> None:
    assert values.segment("a b%2F..ä") == "a b%2F..ä"
    assert values.path_segment("100%25") == "100%"
    assert values.path_segment("..%2Fb") == "..%2Fb"
    assert values.path_segment("%252F") == "%2F"


# --- sources ---------------------------------------------------------------------------------------------------------


def test_sources_can_be_fixed() -> None:
    def draw() -> tuple[Any, ...]:
        before = values.use_sources(values.FixedSources(7, NOON))
        try:
            return values.now(), values.uuid(), values.random(1, 1000), values.uuid()
        finally:
            values.use_sources(before)

    first = draw()
    assert first == draw()
    assert first[0] == NOON and first[1] != first[3] and 1 <= first[2] <= 1000
    assert abs((values.now() - datetime.now(UTC)).total_seconds()) < 60
