"""Errors of the shape, said to a person: which key, what was wanted, what is there, what was probably meant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from jsonschema.exceptions import ValidationError

from rulesproxy.compiler import vocabulary
from rulesproxy.compiler.diagnostics import Report
from rulesproxy.compiler.source import Mapping, Node, Scalar, Sequence, describe
from rulesproxy.compiler.suggest import did_you_mean
from rulesproxy.compiler.yaml_scalars import core_value

_TYPE_WORDS = {
    "object": "a mapping", "array": "a list", "string": "text", "integer": "a whole number", "number": "a number",
    "boolean": "true or false", "null": "nothing",
}  # fmt: skip
_WORDS = {"rule": vocabulary.RULE_WORDS, "match": vocabulary.MATCH_WORDS, "action": vocabulary.ACTION_WORDS,
          "file": vocabulary.FILE_WORDS, "replacement": vocabulary.REPLACEMENT_WORDS,
          "map_local": vocabulary.MAP_LOCAL_WORDS, "respond": vocabulary.RESPOND_WORDS,
          "upstream_proxy": vocabulary.UPSTREAM_PROXY_WORDS,
          "websocket": vocabulary.MESSAGE_WORDS, "tcp": vocabulary.MESSAGE_WORDS, "udp": vocabulary.MESSAGE_WORDS,
          "send": vocabulary.SEND_WORDS}  # fmt: skip
_MOST_CHOICES = 12


def explain(error: ValidationError, document: Node, report: Report) -> None:
    """Report one error of the validator, at the node it is about."""
    for cause in _causes(error):
        node, key = _find(document, list(cause.absolute_path))
        if "propertyNames" in cause.schema_path and isinstance(node, Mapping):
            node = node.key(str(cause.instance)) or node
        _explain_one(cause, node, key, report)


def _causes(error: ValidationError) -> Iterator[ValidationError]:
    """The errors that matter: for alternatives, those of the one that was most likely meant."""
    if error.validator not in ("anyOf", "oneOf") or not error.context:
        yield error
        return
    branches: dict[Any, list[ValidationError]] = {}
    for inner in error.context:
        branches.setdefault(inner.schema_path[0], []).append(inner)
    fitting = [branch for branch in branches.values() if not any(_wrong_kind(inner) for inner in branch)]
    if not fitting or all(_is_choice(inner) for branch in fitting for inner in branch):
        yield error
        return
    best = min(fitting, key=lambda branch: (len(branch), all(_is_choice(inner) for inner in branch),
                                            -max(len(inner.path) for inner in branch)))
    for inner in best:
        yield from _causes(inner)


def _wrong_kind(error: ValidationError) -> bool:
    """True if the alternative is for another kind of value altogether."""
    if error.path:
        return False
    return error.validator == "type" or (_is_choice(error) and isinstance(error.instance, (dict, list)))


def _is_choice(error: ValidationError) -> bool:
    return error.validator in ("enum", "const") and not error.path


def _find(document: Node, place: list[str | int]) -> tuple[Node, Scalar | None]:
    """The node at a path, and the nearest key above it."""
    node, key = document, None
    for step in place:
        match node:
            case Mapping():
                key = node.key(str(step))
                node = node.get(str(step)) or node
            case Sequence(items=items) if isinstance(step, int):
                node = items[step]
    return node, key


def _explain_one(error: ValidationError, node: Node, key: Scalar | None, report: Report) -> None:
    value: Any = error.validator_value
    name = f'"{key.text}"' if key is not None else "this"
    advice = ""
    match error.validator:
        case "additionalProperties":
            _unknown_keys(error, node, report)
            return
        case "required":
            _missing_keys(error, node, report)
            return
        case "type" | "anyOf" | "oneOf" | "enum" | "const":
            _wrong_value(error, node, name, report)
            return
        case "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum":
            message = f"{name} is out of range: {_range(error.schema)}"
        case "minProperties" | "minItems" | "minLength":
            message = f"{name} must not be empty" if value == 1 else f"{name} needs at least {value} entries"
        case "maxProperties" | "maxItems":
            message = f"{name} takes at most {value} " + ("entry" if value == 1 else "entries")
        case "maxLength":
            message = f"{name} is longer than {value} characters"
        case "pattern":
            message, advice = _wrong_pattern(error, node, name)
        case "uniqueItems":
            message = f"{name} lists the same value twice"
        case "dependentRequired":
            message = f"keys that belong together are missing in {name}"
        case _:
            message = f"{name} is not as the schema wants it ({error.validator})"
    report.error(node, message, help=advice)


# --- keys ----------------------------------------------------------------------------------------------------------


def _unknown_keys(error: ValidationError, node: Node, report: Report) -> None:
    schema: Any = error.schema
    title = schema.get("title", "mapping")
    kind = "file" if title not in _WORDS and "version" in schema.get("properties", {}) else title
    known = schema.get("properties", {})
    patterns = schema.get("patternProperties", {})
    if not isinstance(node, Mapping):
        return
    place = "in a rule file" if kind == "file" else f"in {_article(title)}"
    for key, _ in node:
        if key.text in known or any(re.search(pattern, key.text) for pattern in patterns):
            continue
        if key.text in vocabulary.NOT_YET.get(kind, ()):
            report.error(key, f'"{key.text}" is not available yet {place}', code="not-yet",
                         help="it is part of the rule language, but this version does not have it")
        else:
            report.error(key, f'unknown key "{key.text}" {place}', code="unknown-key",
                         help=_key_help(key.text, kind, known))


def _key_help(word: str, kind: str, known: Iterable[str]) -> str:
    if kind == "rule":
        from rulesproxy.compiler import unit

        for place, keys in (("match", unit.matchers()), ("action", unit.actions())):
            if word in keys:
                return f'"{word}" belongs under {place}:'
    known = list(known)
    suggestion = did_you_mean(word, known, _WORDS.get(kind, {}))
    if not suggestion and {"set", "add", "remove"} <= set(known):
        return f"write set: {{{word}: …}}; known keys: {', '.join(known)}"
    return suggestion or (f"known keys: {', '.join(known)}" if len(known) <= _MOST_CHOICES else "")


def _missing_keys(error: ValidationError, node: Node, report: Report) -> None:
    schema: Any = error.schema
    title = schema.get("title", "mapping")
    missing = [key for key in schema["required"] if not (isinstance(node, Mapping) and key in node)]
    # The validator reports each missing key by itself; its message starts with the key's repr.
    for key in missing:
        if error.message.startswith(repr(key)):
            advice = "names are how rules are found in logs and tests" if (title, key) == ("rule", "name") else ""
            report.error(node, f'{_article(title)} needs "{key}"', help=advice, code="missing-key")


def _article(noun: str) -> str:
    return noun if noun.endswith("s") else f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


# --- values --------------------------------------------------------------------------------------------------------


def _wrong_value(error: ValidationError, node: Node, name: str, report: Report) -> None:
    types, choices = _wanted(error)
    wanted = _in_words(types, choices)
    if isinstance(node, Scalar) and node.is_null:
        report.error(node, f"{name} has no value; wanted: {wanted}",
                     help='write "" for an empty text' if "string" in types else "")
    elif isinstance(node, Scalar) and node.text == "dry_run" and name == '"enabled"':
        report.error(node, "enabled: dry_run is not available yet", code="not-yet", help="use true or false")
    elif isinstance(node, Scalar) and choices:
        unquoted = not node.plain and core_value(node.text) in choices
        report.error(node, f"{name} cannot be {describe(node)}; wanted: {wanted}",
                     help=f"write {node.text} without quotes" if unquoted else
                     did_you_mean(node.text, [str(choice) for choice in choices if choice is not None]))
    else:
        report.error(node, f"{name} must be {wanted}, not {describe(node)}",
                     help=_quote_help(node, types) or _keys_help(node, error))


def _keys_help(node: Node, error: ValidationError) -> str:
    """For a text where a mapping belongs: what that has."""
    if not isinstance(node, Scalar):
        return ""
    for found in (error, *(error.context or ())):
        schema: Any = found.schema
        keys = list(schema.get("properties", ())) if isinstance(schema, dict) else []
        if 0 < len(keys) <= _MOST_CHOICES:
            return f"its keys: {', '.join(keys)}"
    return ""


def _quote_help(node: Node, types: list[str]) -> str:
    if not isinstance(node, Scalar) or node.plain:
        return ""
    unquoted = core_value(node.text)
    kind = "boolean" if isinstance(unquoted, bool) else "integer" if isinstance(unquoted, int) else "number"
    return f"write {node.text} without quotes" if not isinstance(unquoted, str) and kind in types else ""


def _wanted(error: ValidationError) -> tuple[list[str], list[Any]]:
    """Types and choices that would have been accepted, over all alternatives."""
    value: Any = error.validator_value
    match error.validator:
        case "type":
            return ([value] if isinstance(value, str) else list(value)), []
        case "enum":
            return [], list(value)
        case "const":
            return [], [value]
    types: list[str] = []
    choices: list[Any] = []
    for inner in error.context or ():
        if not inner.path:
            more_types, more_choices = _wanted(inner) if inner.validator != "pattern" else ([], [])
            types += more_types
            choices += more_choices
    return types, choices


def _in_words(types: list[str], choices: list[Any]) -> str:
    if "string" in types:  # an unquoted number or boolean is text as well
        types = [kind for kind in types if kind not in ("number", "boolean", "integer")]
    kinds = list(dict.fromkeys(_TYPE_WORDS[kind] for kind in types))
    values = [_choice(value) for value in dict.fromkeys(choices)]
    if len(values) > _MOST_CHOICES:
        values = [*values[:_MOST_CHOICES], "…"]
    return _either([*values, *kinds]) or "something else"


def _choice(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _either(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}" if words else ""


def _range(schema: Any) -> str:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is None or high is None:
        return f"at least {low}" if high is None else f"at most {high}"
    return f"{low} to {high}"


def _wrong_pattern(error: ValidationError, node: Node, name: str) -> tuple[str, str]:
    if "propertyNames" in error.schema_path:
        return (f'"{error.instance}" cannot be a name here',
                "names have letters, digits, _ - and ., and do not start with a digit")
    return f"{name} cannot be {describe(node)}", _description(error)


def _description(error: ValidationError | None) -> str:
    """What the schema says of the value, at the error or at the alternatives around it."""
    while error is not None:
        schema: Any = error.schema
        if isinstance(schema, dict) and "description" in schema:
            return str(schema["description"])
        error = error.parent  # type: ignore[assignment]
    return ""
