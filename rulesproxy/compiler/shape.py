"""Judges nodes by a JSON Schema and turns each verdict into a diagnostic at the node, in words for people.

jsonschema decides; nothing here accepts or refuses on its own. Two things differ from validating plain data: an
unquoted scalar counts as text too (`1.10` where text is wanted is the text `1.10`, rule-language 2.1), and `$ref`s are
resolved once, up front, because resolving them per value costs more than the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jsonschema
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from rulesproxy.compiler.diagnostics import Report
from rulesproxy.compiler.shape_messages import explain
from rulesproxy.compiler.source import Mapping, Node, Scalar, Sequence


class PlainText(str):
    """An unquoted scalar that also has a value other than its text: `core` is None, a bool, an int or a float."""

    __slots__ = ("core",)
    core: Any

    def __new__(cls, text: str, core: Any) -> PlainText:
        self = super().__new__(cls, text)
        self.core = core
        return self


@dataclass(frozen=True, slots=True)
class Verdict:
    """Where a document is not as the schema says: top-level keys, and for `rules` and `tests` the items."""

    keys: frozenset[str] = frozenset()
    items: frozenset[tuple[str, int]] = frozenset()

    def good(self, key: str, index: int | None = None) -> bool:
        """True if what stands under a top-level key (or at an index of it) may be built."""
        return key not in self.keys and (index is None or (key, index) not in self.items)


class Shape:
    """A validator for one schema, made once."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._validator = _Validator(_without_refs(schema))

    def validate(self, document: Mapping, report: Report) -> Verdict:
        """Report every mistake of shape in `document`."""
        keys: set[str] = set()
        items: set[tuple[str, int]] = set()
        for error in self._validator.iter_errors(_data(document)):
            place = list(error.absolute_path)
            if len(place) >= 2 and isinstance(place[1], int):
                items.add((str(place[0]), place[1]))
            elif place:
                keys.add(str(place[0]))
            explain(error, document, report)
        return Verdict(frozenset(keys), frozenset(items))


def _data(node: Node) -> Any:
    """A node as the validator wants it."""
    match node:
        case Scalar():
            value = node.value
            return value if isinstance(value, str) else PlainText(node.text, value)
        case Sequence(items=items):
            return [_data(item) for item in items]
        case Mapping(entries=entries):
            return {key.text: _data(value) for key, value in entries}
    raise TypeError(f"not a node: {type(node).__name__}")


def _without_refs(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with every `$ref` replaced by what it names; recursive definitions become cycles of dicts."""
    definitions = schema["$defs"]
    done: dict[str, dict[str, Any]] = {}

    def resolve(part: Any) -> Any:
        if isinstance(part, list):
            return [resolve(item) for item in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            return definition(part["$ref"].removeprefix("#/$defs/"))
        return {key: resolve(value) for key, value in part.items()}

    def definition(name: str) -> dict[str, Any]:
        if name not in done:
            done[name] = {}  # entered first: the definition may contain itself
            done[name].update(resolve(definitions[name]))
        return done[name]

    resolved: dict[str, Any] = resolve({key: value for key, value in schema.items() if key != "$defs"})
    return resolved


# --- the validator -------------------------------------------------------------------------------------------------

_Errors = Iterator[ValidationError]


def _core(instance: Any) -> Any:
    return instance.core if isinstance(instance, PlainText) else instance


def _is(*types: type) -> Callable[[Any, Any], bool]:
    def check(_checker: Any, instance: Any) -> bool:
        return type(_core(instance)) in types

    return check


def _is_string(_checker: Any, instance: Any) -> bool:
    return isinstance(instance, str) and _core(instance) is not None


def _enum(_validator: Any, choices: list[Any], instance: Any, _schema: Any) -> _Errors:
    core = _core(instance)
    if not any((choice == core and type(choice) is type(core)) or choice == instance for choice in choices):
        yield ValidationError("not one of the choices")


def _const(validator: Any, choice: Any, instance: Any, schema: Any) -> _Errors:
    return _enum(validator, [choice], instance, schema)


def _number_test(fails: Callable[[Any, Any], bool]) -> Callable[[Any, Any, Any, Any], _Errors]:
    def check(_validator: Any, limit: Any, instance: Any, _schema: Any) -> _Errors:
        core = _core(instance)
        if isinstance(core, (int, float)) and not isinstance(core, bool) and fails(core, limit):
            yield ValidationError("out of range")

    return check


def _text_test(keyword: str) -> Callable[[Any, Any, Any, Any], _Errors]:
    """A keyword for strings. It says nothing of a boolean or number where the schema wants one beside strings."""
    original: Callable[[Any, Any, Any, Any], _Errors | None] = jsonschema.Draft202012Validator.VALIDATORS[keyword]

    def check(validator: Any, limit: Any, instance: Any, schema: Any) -> _Errors:
        if isinstance(instance, PlainText) and schema.get("type", "string") != "string":
            types = schema["type"]
            others = [kind for kind in ([types] if isinstance(types, str) else types) if kind != "string"]
            if any(validator.is_type(instance, kind) for kind in others):
                return
        yield from original(validator, limit, instance, schema) or ()

    return check


_Validator: type[Any] = extend(  # type: ignore[no-untyped-call]
    jsonschema.Draft202012Validator,
    validators={
        "enum": _enum,
        "const": _const,
        "minimum": _number_test(lambda value, limit: not value >= limit),
        "maximum": _number_test(lambda value, limit: not value <= limit),
        "exclusiveMinimum": _number_test(lambda value, limit: not value > limit),
        "exclusiveMaximum": _number_test(lambda value, limit: not value < limit),
        "pattern": _text_test("pattern"),
        "minLength": _text_test("minLength"),
        "maxLength": _text_test("maxLength"),
        # An unquoted number is text as well, so two alternatives may both hold.
        "oneOf": jsonschema.Draft202012Validator.VALIDATORS["anyOf"],
    },
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine_many({
        "string": _is_string,
        "integer": _is(int),
        "number": _is(int, float),
        "boolean": _is(bool),
        "null": _is(type(None)),
    }),
)  # fmt: skip
