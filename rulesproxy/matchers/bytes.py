"""`bytes`: the raw bytes of a message (rule-language 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rulesproxy.compiler.byte_text import DESCRIPTION, bytes_of
from rulesproxy.compiler.context import Context
from rulesproxy.compiler.ir import Leaf, Test
from rulesproxy.compiler.operators import both
from rulesproxy.compiler.source import Mapping, Node, Scalar
from rulesproxy.compiler.strings_build import all_of, scalars
from rulesproxy.compiler.writer import Module, literal
from rulesproxy.runtime.phase import MESSAGE_PHASES

KEY = "bytes"
SUMMARY = "The raw bytes of a message: equal, or with a beginning, an end or a part."
EXAMPLE = """\
version: 1
rules:
  - name: only-protocol-3
    match: {host: db.example, direction: to_server, bytes: {prefix: "00 00 00 08 04 d2 16 2f"}}
    action: {tcp: {replace: {bytes: "00 00 00 08 00 03 00 00"}}}
    tests:
      - message: {on: "tcp://db.example:5432", bytes: "00000008 04d2162f"}
        expect: {rule: only-protocol-3}
      - message: {on: "tcp://db.example:5432", bytes: "00000008 00030000"}
        expect: {no_rule: only-protocol-3}
"""
_VALUES = {"type": ["string", "number", "boolean", "array"], "items": {"$ref": "#/$defs/text"}, "minItems": 1}
SCHEMA: dict[str, Any] = {
    "title": "bytes",
    "description": f"The whole content, or a mapping of tests that all hold. It is written as {DESCRIPTION} "
                   "A list means any of them.",
    "type": ["string", "number", "boolean", "array", "object"],
    "items": {"$ref": "#/$defs/text"}, "minItems": 1, "minProperties": 1,
    "properties": {
        "exact": {"description": "The content is this.", **_VALUES},
        "prefix": {"description": "It starts with this.", **_VALUES},
        "suffix": {"description": "It ends with this.", **_VALUES},
        "contains": {"description": "It has this somewhere.", **_VALUES},
    },
    "additionalProperties": False,
}  # fmt: skip
_WORDS = {"exact": "", "prefix": "starting with ", "suffix": "ending with ", "contains": "containing "}


@dataclass(frozen=True, slots=True)
class BytesLeaf(Leaf):
    """Every test holds, each for any of its values."""

    PHASES = MESSAGE_PHASES

    tests: tuple[tuple[str, tuple[bytes, ...]], ...]

    def holds(self, x: Any) -> bool:
        return all(_holds(kind, values, x.content) for kind, values in self.tests)

    def emit(self, module: Module) -> Test:
        return both([_emit(kind, values, module) for kind, values in self.tests])

    def describe_miss(self, x: Any) -> str:
        there = x.content[:32].hex(" ") + (" ..." if len(x.content) > 32 else "")
        wanted = " and ".join(_WORDS[kind] + " or ".join(value[:32].hex(" ") for value in values[:3])
                              for kind, values in self.tests)
        return f"bytes are {there or 'empty'}, wanted {wanted}"


def _holds(kind: str, values: tuple[bytes, ...], content: bytes) -> bool:
    match kind:
        case "exact":
            return content in values
        case "prefix":
            return content.startswith(values)
        case "suffix":
            return content.endswith(values)
    return any(value in content for value in values)


def _emit(kind: str, values: tuple[bytes, ...], module: Module) -> Test:
    name = module.const(literal(values))
    match kind:
        case "exact":
            return Test(f"x.content in {name}", f"x.content not in {name}")
        case "prefix" | "suffix":
            call = f"x.content.{'startswith' if kind == 'prefix' else 'endswith'}({name})"
            return Test(call, f"not {call}")
    return Test(f"any(v in x.content for v in {name})")


def build(node: Node, context: Context) -> BytesLeaf | None:
    written: list[tuple[str, Node]] = [(key.text, value) for key, value in node] if isinstance(node, Mapping) else [
        ("exact", node)]
    tests = all_of([_test(kind, value, context) for kind, value in written])
    return None if tests is None else BytesLeaf(node.pos, tuple(tests))


def _test(kind: str, node: Node, context: Context) -> tuple[str, tuple[bytes, ...]] | None:
    values = all_of([_value(kind, item, context) for item in scalars(node)])
    return None if values is None else (kind, tuple(values))


def _value(kind: str, node: Scalar, context: Context) -> bytes | None:
    value = bytes_of(node, context)
    if value == b"" and kind != "exact":
        context.error(node, "no bytes at all are in every message")
        return None
    return value
