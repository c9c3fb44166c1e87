"""The strict YAML reader: values, positions, limits."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rulesproxy.compiler.diagnostics import Report
from rulesproxy.compiler.source import Mapping, Node, Position, Scalar, Sequence, describe, parse, to_data
from rulesproxy.compiler.yaml_reader import MAX_ALIASED_NODES, MAX_DEPTH


def read(text: str | bytes) -> list[Node]:
    report = Report()
    roots = parse("f.yaml", text.encode() if isinstance(text, str) else text, report)
    assert not report.diagnostics, report.render({})
    return roots


def data(text: str) -> Any:
    [root] = read(text)
    return to_data(root)


def error(text: str | bytes) -> str:
    report = Report()
    assert parse("f.yaml", text.encode() if isinstance(text, str) else text, report) == []
    [found] = report.diagnostics
    return f"{found.pos.line}:{found.pos.column} {found.message}"


@pytest.mark.parametrize(("text", "value"), [
    ("on", "on"), ("no", "no"), ("yes", "yes"), ("off", "off"), ("12:30", "12:30"), ("1_000", "1_000"),
    ("2026-12-31", "2026-12-31"), ("0b101", "0b101"), ("true", True), ("True", True), ("TRUE", True), ("tRUE", "tRUE"),
    ("false", False), ("null", None), ("~", None), ("Null", None), ("none", "none"), ("12", 12), ("-12", -12),
    ("+12", 12), ("007", 7), ("0o17", 15), ("0x1F", 31), ("0o8", "0o8"), ("1.10", 1.1), ("1.", 1.0), (".5", 0.5),
    ("1e3", 1000.0), ("-.inf", -math.inf), (".inf", math.inf), (".", "."), ("-", None), ("+", "+"), ("1.2.3", "1.2.3"),
    ('"12"', "12"), ("'true'", "true"), ('"null"', "null"), ("|\n  12\n", "12\n"), ("=", "="),
    ("9" * 500, "9" * 500),
])  # fmt: skip
def test_scalars_follow_the_core_schema(text: str, value: object) -> None:
    if text == "-":
        assert data("a: [x]\nb:\n- ") == {"a": ["x"], "b": [None]}
        return
    assert data(f"a: {text}") == {"a": value}
    assert type(data(f"a: {text}")["a"]) is type(value)


def test_not_a_number_is_a_number() -> None:
    assert math.isnan(data("a: .nan")["a"])


def test_source_text_is_kept() -> None:
    [root] = read("a: 1.10\nb: 007\nc: yes\nd: '1.10'\n")
    assert isinstance(root, Mapping)
    assert [(value.text, value.plain) for _, value in root if isinstance(value, Scalar)] == [
        ("1.10", True), ("007", True), ("yes", True), ("1.10", False)]


def test_positions_count_from_one_in_characters() -> None:
    [root] = read("é: [x, {ключ: y}]\n\n  # comment\nb:\n  - 🙂: z\n")
    assert isinstance(root, Mapping)
    first = root.get("é")
    assert isinstance(first, Sequence)
    assert root.pos == Position("f.yaml", 1, 1)
    assert first.pos == Position("f.yaml", 1, 4)
    inner = first.items[1]
    assert isinstance(inner, Mapping)
    key, value = inner.entries[0]
    assert (key.pos.column, value.pos.column) == (9, 15)
    second = root.get("b")
    assert isinstance(second, Sequence)
    assert isinstance(second.items[0], Mapping)
    assert second.items[0].entries[0][1].pos == Position("f.yaml", 5, 8)
    assert str(second.pos) == "f.yaml:5:3"


def test_mapping_lookup() -> None:
    [root] = read("a: 1\nb: []\n")
    assert isinstance(root, Mapping)
    assert "a" in root and "c" not in root and len(root) == 2
    key = root.key("b")
    assert key is not None and key.pos.line == 2
    assert root.get("c") is None and root.key("c") is None
    assert root.get("b"), "an empty list is there"


def test_documents_in_order_and_empty_ones_left_out() -> None:
    assert [to_data(root) for root in read("a: 1\n---\nb: 2\n---\n# nothing\n---\nc: 3\n...\n")] == [
        {"a": 1}, {"b": 2}, {"c": 3}]
    assert read("") == read("# only a comment\n") == read("---\n") == []


def test_anchors_are_shared_and_scoped_to_their_document() -> None:
    [root] = read("a: &x [1, {b: 2}]\nc: *x\n")
    assert isinstance(root, Mapping)
    assert root.get("a") is root.get("c")
    assert error("a: &x 1\n---\nb: *x\n").startswith("3:4 no anchor &x")


def test_duplicate_keys_show_both_places() -> None:
    report = Report()
    parse("f.yaml", b"a:\n  b:\n    c: 1\n    'c': 2\n", report)
    [found] = report.diagnostics
    assert (found.pos.line, found.pos.column) == (4, 5)
    assert [(note.pos.line, note.pos.column) for note in found.notes] == [(3, 5)]


@pytest.mark.parametrize(("text", "expected"), [
    ("a: &x [*x]", "1:8 *x stands inside its own anchor"),
    ("a: !!int 1", "1:4 tags (tag:yaml.org,2002:int) are not part of the rule language"),
    ("a: ! 1", "1:4 tags (!) are not part of the rule language"),
    ("? {a: b}\n: c", "1:3 a list or mapping cannot be a key"),
    ("? \n: a\n", "1:2 a key is missing before this colon"),
    ("%YAML 3.0\n---\na: 1", "1:1 this YAML version is unknown"),
    ("a: @b", "1:4 a value cannot start with @ unless it is quoted"),
    ("a: `b", "1:4 a value cannot start with ` unless it is quoted"),
    ("a: |\n  b\n\tc\n", "3:1 a tab cannot indent; YAML allows spaces only"),
    ("a: {b: c\n", "2:1 a mapping opened with { is not closed, or lacks a comma"),
    ("a: \"\\x4\"", "1:7 this backslash escape is not complete or names no character"),
    ("a: **", "1:4 text that starts with * must be quoted: **"),
    ("a: &", "1:4 text that starts with & must be quoted"),
])  # fmt: skip
def test_what_is_refused(text: str, expected: str) -> None:
    assert error(text).startswith(expected)


def test_depth_is_limited_also_through_aliases() -> None:
    deep = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert read(deep)
    assert "deep" in error(f"[{deep}]")
    half = MAX_DEPTH // 2
    nested = f"a: &x {'[' * half}{']' * half}\nb: {'[' * half}*x{']' * half}\n"
    assert "2:" in error(nested)


def test_aliases_may_not_expand_without_bound() -> None:
    wide = "a: &a [" + "x," * 999 + "x]\n"
    fine = MAX_ALIASED_NODES // 1001
    assert read(wide + "b: [" + "*a," * fine + "]\n")
    assert "expand to more than" in error(wide + "b: [" + "*a," * (fine + 1) + "]\n")


def test_describe_says_what_was_written() -> None:
    [root] = read("[a, '1', 1, true, ~, [], {}]")
    assert isinstance(root, Sequence)
    assert [describe(node) for node in root] == [
        'the text "a"', 'the text "1"', "the number 1", "the boolean true", "nothing", "a list", "a mapping"]


@given(st.binary(max_size=200))
def test_random_bytes_are_read_or_reported(content: bytes) -> None:
    report = Report()
    roots = parse("f.yaml", content, report)
    assert not (roots and report.has_errors) or all("twice" in d.message for d in report.errors)
    report.render({"f.yaml": content})


def texts(node: Node) -> Any:
    """A node with every scalar as its text, as PyYAML's BaseLoader has it."""
    match node:
        case Scalar():
            return node.text
        case Sequence(items=items):
            return [texts(item) for item in items]
        case Mapping(entries=entries):
            return {key.text: texts(value) for key, value in entries}
    raise TypeError(node)


@given(st.text(alphabet="ab:-[]{}\"'*&!|>%@#,? \n\t\\0", max_size=60))
def test_random_yaml_is_read_as_pyyaml_reads_it_or_reported(text: str) -> None:
    report = Report()
    roots = parse("f.yaml", text.encode(), report)
    if report.has_errors:
        assert all(d.pos.line >= 1 and d.pos.column >= 1 for d in report.errors)
        return
    empty = ("", "~")  # a document that is null is left out; these may be the text itself
    reference = [root for root in yaml.load_all(text, Loader=_Reference) if root not in empty]
    assert [found for found in map(texts, roots) if found not in empty] == reference


_Reference: type[Any] = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
# Characters beyond the basic plane become surrogate pairs in JSON, which YAML does not have.
_TEXT = st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"])
_VALUES = st.recursive(
    st.text(_TEXT, max_size=20) | st.integers(-(10**9), 10**9) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(_TEXT, max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(_TEXT, max_size=8), _VALUES, min_size=1, max_size=4))
def test_json_is_read_as_json(value: dict[str, Any]) -> None:
    assert data(json.dumps(value)) == value
