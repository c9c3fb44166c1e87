"""`log`: write a line (rule-language 3)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.effects import effect
from rulesproxy.compiler.ir import Effect
from rulesproxy.compiler.source import Mapping, Node, Scalar
from rulesproxy.compiler.template import Place, parse_template
from rulesproxy.runtime.decision import RuleInfo
from rulesproxy.runtime.op import Op

KEY = "log"
SUMMARY = "Write a line to the proxy's log."
EXAMPLE = """\
version: 1
rules:
  - name: note-logins
    match: {host: api.test, path: /login, method: POST}
    action: {log: "login from ${request.headers.user-agent | default(\\"an unknown client\\")}"}
    tests:
      - request: POST http://api.test/login
        expect: {rule: note-logins}
"""
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
SCHEMA: dict[str, Any] = {
    "title": "log",
    "description": "The text, or a mapping with `message` and `level`.",
    "type": ["object", "string", "number", "boolean"],
    "properties": {
        "message": {"$ref": "#/$defs/text", "description": "The text of the line."},
        "level": {"description": "Default info.", "enum": list(_LEVELS)},
    },
    "required": ["message"],
    "additionalProperties": False,
}
logger = logging.getLogger("rulesproxy.rules")


@dataclass(frozen=True, slots=True)
class Log(Op):
    message: str
    level: int = logging.INFO

    def apply(self, subject: Any, rule: RuleInfo | None) -> None:
        logger.log(self.level, "%s: %s", rule.name if rule is not None else "?", self.message)


def build(node: Node, context: Context) -> list[Effect]:
    message = node.get("message") if isinstance(node, Mapping) else node
    level = node.get("level") if isinstance(node, Mapping) else None
    if not isinstance(message, Scalar):
        return []
    args = {"message": parse_template(message, context, place=Place.TEXT),
            "level": _LEVELS[level.text] if isinstance(level, Scalar) else logging.INFO}
    return [effect(context, node, Log, args, phases=context.visible, kind="note", companion=True)]
