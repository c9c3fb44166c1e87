"""The JSON Schema of a rule file, put together from the envelope and every matcher and action file.

`build_schema` is what `schemas/rules.schema.json` holds and editors read; `validate` judges documents by the same
schema (see `shape` for how its verdicts become diagnostics).
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from rulesproxy.compiler import schema_parts as parts
from rulesproxy.compiler import unit
from rulesproxy.compiler.diagnostics import Report
from rulesproxy.compiler.shape import Shape, Verdict
from rulesproxy.compiler.source import Mapping

TITLE = "rulesproxy rule file"


def build_schema() -> dict[str, Any]:
    """The whole schema (JSON Schema draft 2020-12)."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": TITLE,
        "description": "Rules for rulesproxy: what to match, what to do.",
        "type": "object",
        "properties": parts.FILE,
        "additionalProperties": False,
        "$defs": {
            **parts.SHARED,
            "match": _match_schema(),
            "action": _action_schema(),
            "rule": parts.RULE,
            "step": parts.STEP,
            "test": parts.TEST,
        },
    }


def schema_text() -> str:
    """The schema as the file in `schemas/` has it."""
    return json.dumps(build_schema(), indent=2, ensure_ascii=False) + "\n"


def _described(schema: dict[str, Any], summary: str) -> dict[str, Any]:
    return schema if "description" in schema else {"description": summary, **schema}


def _match_schema() -> dict[str, Any]:
    matches = {"type": "array", "minItems": 1, "items": parts.ref("match")}
    keys = {key: _described(matcher.schema, matcher.summary) for key, matcher in unit.matchers().items()}
    return parts.obj("match", {
        **keys,
        "all": {"description": "Every one of these matches holds.", **matches},
        "any": {"description": "At least one of these matches holds.", **matches},
        "not": {"description": "This match does not hold.", **parts.ref("match")},
    })  # fmt: skip


def _action_schema() -> dict[str, Any]:
    keys = {key: _described(action.schema, action.summary) for key, action in unit.actions().items()}
    return parts.obj(
        "action", keys, type=["object", "array"], minProperties=1, minItems=1,
        items=parts.obj("action", keys, minProperties=1),
    )  # fmt: skip


@cache
def _shape() -> Shape:
    return Shape(build_schema())


def validate(document: Mapping, report: Report) -> Verdict:
    """Report everything about a document's shape that is not as the schema says."""
    return _shape().validate(document, report)
