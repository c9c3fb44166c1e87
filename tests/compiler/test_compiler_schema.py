"""The schema of rule files, and what is said when a file is not as it wants."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from rulesproxy.compiler import unit
from rulesproxy.compiler.diagnostics import Report
from rulesproxy.compiler.schema import build_schema, schema_text
from rulesproxy.compiler.shape import Shape
from rulesproxy.compiler.source import Mapping, parse
from tests.compiler.rulefiles import build_text

COMMITTED = Path(__file__).parent.parent.parent / "schemas" / "rules.schema.json"


def test_the_committed_schema_is_current() -> None:
    assert COMMITTED.read_text("utf-8") == schema_text(), "stale: rulesproxy schema > schemas/rules.schema.json"


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(build_schema())


def subschemas(schema: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every subschema, `$defs` included."""
    if isinstance(schema, list):
        for index, item in enumerate(schema):
            yield from subschemas(item, f"{where}/{index}")
    elif isinstance(schema, dict):
        yield where, schema
        for key, value in schema.items():
            named = key in ("properties", "$defs", "patternProperties")
            for name, inner in value.items() if named else ():
                yield from subschemas(inner, f"{where}/{key}/{name}")
            if not named and key not in ("enum", "const", "examples", "default", "required"):
                yield from subschemas(value, f"{where}/{key}")


def test_every_mapping_is_closed_and_every_key_is_described() -> None:
    for where, schema in subschemas(build_schema()):
        if "properties" in schema:
            assert "additionalProperties" in schema, f"{where} accepts unknown keys"
            for key, value in schema["properties"].items():
                assert "description" in value or "$ref" in value, f"{where}: {key} is not described"


def test_every_matcher_and_action_is_in_it() -> None:
    definitions = build_schema()["$defs"]
    assert set(definitions["match"]["properties"]) == {*unit.matchers(), "all", "any", "not"}
    assert set(definitions["action"]["properties"]) == set(unit.actions())
    assert definitions["action"]["items"]["properties"] == definitions["action"]["properties"]


def test_the_published_schema_accepts_what_is_valid_data() -> None:
    document = {"version": 1, "vars": {"a": 1.1}, "rules": [
        {"name": "a", "match": {"any": [{"host": "a.test"}, {"not": {"path": "/x"}}]}, "action": {"block": True},
         "tests": [{"request": "GET http://a.test/", "expect": {"rule": "a", "sent": "nothing"}}]}]}
    jsonschema.validate(document, json.loads(schema_text()))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**document, "colour": "red"}, json.loads(schema_text()))


# --- verdicts and words, on a schema made for it ---------------------------------------------------------------------

SCHEMA = {
    "title": "sample", "type": "object", "additionalProperties": False, "$defs": {"word": {"type": "string"}},
    "properties": {
        "text": {"$ref": "#/$defs/word"},
        "count": {"type": "integer", "minimum": 1, "maximum": 9},
        "ratio": {"type": "number", "exclusiveMinimum": 0},
        "flag": {"type": "boolean"},
        "mode": {"enum": ["fast", "slow", 3, True]},
        "either": {"anyOf": [
            {"enum": ["open", "closed"]},
            {"type": "integer"},
            {"type": "array", "items": {"type": "integer"}},
            {"title": "door", "type": "object", "additionalProperties": False, "required": ["colour"],
             "properties": {"colour": {"enum": ["red", "green"]}, "size": {"type": "integer"}}},
        ]},
        "one": {"oneOf": [{"type": "integer"}, {"type": "string"}]},
        "code": {"description": "three digits or a class as 5xx", "anyOf": [
            {"type": "integer", "minimum": 100}, {"type": "string", "pattern": "^[1-5]xx$"}]},
        "list": {"type": "array", "minItems": 1, "maxItems": 2, "uniqueItems": True, "items": {"type": "string"}},
        "map": {"type": "object", "minProperties": 1, "propertyNames": {"pattern": "^[a-z]+$"}},
        "nothing": {"type": ["null", "string"]},
        "loose": {"type": ["boolean", "string"], "pattern": "^[a-z]$"},
        "short": {"type": "string", "maxLength": 3, "minLength": 1},
    },
}  # fmt: skip


def verdict(text: str) -> list[str]:
    report = Report()
    [root] = parse("f", text.encode(), report)
    assert isinstance(root, Mapping)
    Shape(SCHEMA).validate(root, report)
    return [f"{d.pos.line}:{d.pos.column} {d.message}" + (f" ({d.help})" if d.help else "") for d in report.diagnostics]


@pytest.mark.parametrize("text", [
    "text: 1.10", "text: true", "text: 'x'", "count: 9", "ratio: 1", "ratio: 0.5", "flag: false", "mode: 3",
    "mode: fast", "mode: true", "either: open", "either: [1, 2]", "either: {colour: red}", "one: 5", "one: five",
    "code: 404", "code: 5xx", "list: [a, 1]", "map: {a: 1}", "nothing: ", "nothing: ~", "short: abc", "{}",
    "loose: true", "loose: x",
])  # fmt: skip
def test_accepted(text: str) -> None:
    assert verdict(text) == []


@pytest.mark.parametrize(("text", "message"), [
    ("texd: a", '1:1 unknown key "texd" in a sample (did you mean "text"?)'),
    ("text: [a]", '1:7 "text" must be text, not a list'),
    ("text:", '1:6 "text" has no value; wanted: text (write "" for an empty text)'),
    ("count: '5'", '1:8 "count" must be a whole number, not the text "5" (write 5 without quotes)'),
    ("count: five", '1:8 "count" must be a whole number, not the text "five"'),
    ("count: 0", '1:8 "count" is out of range: 1 to 9'),
    ("count: 1.5", '1:8 "count" must be a whole number, not the number 1.5'),
    ("count: true", '1:8 "count" must be a whole number, not the boolean true'),
    ("ratio: 0", '1:8 "ratio" is out of range: at least 0'),
    ("ratio: .nan", '1:8 "ratio" is out of range: at least 0'),
    ("flag: yes", '1:7 "flag" must be true or false, not the text "yes"'),
    ("flag: 'true'", '1:7 "flag" must be true or false, not the text "true" (write true without quotes)'),
    ("mode: fats", '1:7 "mode" cannot be the text "fats"; wanted: fast, slow, 3 or true (did you mean "fast"?)'),
    ("either: opne",
     '1:9 "either" cannot be the text "opne"; wanted: open, closed, a whole number, a list or a mapping '
     '(did you mean "open"?)'),
    ("either: {colour: gren}", '1:18 "colour" cannot be the text "gren"; wanted: red or green (did you mean "green"?)'),
    ("either: {clour: red}", '1:9 a door needs "colour"|1:10 unknown key "clour" in a door (did you mean "colour"?)'),
    ("either: [1, x]", '1:13 "either" must be a whole number, not the text "x"'),
    ("one: [x]", '1:6 "one" must be text, not a list'),
    ("code: 40", '1:7 "code" is out of range: at least 100'),
    ("code: 6xx", '1:7 "code" cannot be the text "6xx" (three digits or a class as 5xx)'),
    ("list: []", '1:7 "list" must not be empty'),
    ("list: [a, b, c]", '1:7 "list" takes at most 2 entries'),
    ("list: [a, a]", '1:7 "list" lists the same value twice'),
    ("loose: 'true'", '1:8 "loose" cannot be the text "true"'),
    ("map: {}", '1:6 "map" must not be empty'),
    ("short: abcd", '1:8 "short" is longer than 3 characters'),
    ("short: ''", '1:8 "short" must not be empty'),
])  # fmt: skip
def test_refused_in_words(text: str, message: str) -> None:
    assert "|".join(verdict(text)) == message


def test_a_name_that_cannot_be_one_is_reported_at_the_mapping() -> None:
    assert verdict("map: {a: 1, B2: 2}") == [
        '1:13 "B2" cannot be a name here (names have letters, digits, _ - and ., and do not start with a digit)']


def test_every_mistake_of_a_file_is_reported() -> None:
    assert len(verdict("texd: a\ncount: 0\nmode: fats\nlist: [[], a]\n")) == 4


def test_a_broken_rule_does_not_hide_mistakes_of_others() -> None:
    result = build_text("version: 1\nrules:\n  - {name: a, actoin: {block: true}}\n"
                        "  - {name: b, match: {path: '/${vars.x}'}, action: {block: true}}\n")
    assert {(error.pos.line, error.code) for error in result.report.errors} == {
        (3, "unknown-key"), (3, "missing-key"), (4, "unknown-var")}
