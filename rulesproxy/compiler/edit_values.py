"""What `rewrite` changes fields with: `set add remove replace`, and for bodies `file json_merge json_patch`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import re2

from rulesproxy.compiler.ir import Value
from rulesproxy.compiler.source import Mapping, Node, Scalar, Sequence
from rulesproxy.compiler.template import Place, Template, split
from rulesproxy.compiler.writer import literal
from rulesproxy.runtime.substitution import Substitution

if TYPE_CHECKING:
    from rulesproxy.compiler.context import Context
    from rulesproxy.compiler.writer import Module

_OTHER_TOOLS = re.compile(r"\$(?:[0-9]|&|\{[0-9]+\})|\\[0-9]")
_GROUP = re.compile(r"\$\{\s*match\.([A-Za-z0-9_]+)\s*\}")

_ONE: dict[str, Any] = {
    "title": "replacement",
    "properties": {
        "regex": {"type": "string", "description": "An RE2 regular expression."},
        "text": {"$ref": "#/$defs/text", "description": "A plain text instead of an expression."},
        "with": {"$ref": "#/$defs/text", "description": "What stands there instead; may use ${match.1}."},
        "ignore_case": {"type": "boolean", "description": "Find without case."},
    },
    "required": ["with"],
    "additionalProperties": False,
}
#: One replacement, or a list of them done in turn.
REPLACE_SCHEMA: dict[str, Any] = {
    **_ONE, "type": ["object", "array"], "items": {"type": "object", **_ONE},
    "description": "Replace everything that is found; a list is done in turn.",
}


@dataclass(frozen=True, slots=True)
class Replacement(Value):
    """A substitution whose text is made at run time; groups of the expression stay numbers."""

    pattern: str
    parts: tuple[str | int | Value, ...]
    ignore_case: bool

    def render(self, x: Any) -> Substitution:
        parts = tuple(part if isinstance(part, (str, int)) else Template((part,), Place.BODY).render(x)
                      for part in self.parts)
        return Substitution(self.pattern, parts, self.ignore_case)

    def emit(self, module: Module) -> str:
        module.use("rulesproxy.runtime.substitution", "Substitution")
        parts = ", ".join(literal(part) if isinstance(part, (str, int)) else Template((part,), Place.BODY).emit(module)
                          for part in self.parts)
        comma = "," if len(self.parts) == 1 else ""
        return f"Substitution({literal(self.pattern)}, ({parts}{comma}), {self.ignore_case})"

    @property
    def is_constant(self) -> bool:
        return all(isinstance(part, (str, int)) for part in self.parts)

    @property
    def reads_request_body(self) -> bool:
        return any(isinstance(part, Value) and part.reads_request_body for part in self.parts)

    @property
    def reads_response_body(self) -> bool:
        return any(isinstance(part, Value) and part.reads_response_body for part in self.parts)


def replacements(node: Node, context: Context) -> tuple[Replacement, ...]:
    """One `{regex, with}` or a list of them; mistakes are reported."""
    items = node.items if isinstance(node, Sequence) else (node,)
    found = [_replacement(item, context) for item in items if isinstance(item, Mapping)]
    return tuple(item for item in found if item is not None)


def _replacement(node: Mapping, context: Context) -> Replacement | None:
    regex, plain, text, case = node.get("regex"), node.get("text"), node.get("with"), node.get("ignore_case")
    source = regex if isinstance(regex, Scalar) else plain
    if not isinstance(source, Scalar) or not isinstance(text, Scalar) or (regex is not None and plain is not None):
        context.error(node, "a replacement needs regex or text (one of them), and with")
        return None
    pattern = context.match_text(source)
    if source is plain:
        pattern = re2.escape(pattern)
    try:
        compiled = re2.compile(pattern)
    except re2.error as exc:
        context.error(source, f"not a regular expression: {reason(exc)}", code="regex")
        return None
    foreign = _OTHER_TOOLS.search(text.text)
    if foreign is not None:
        number = "".join(filter(str.isdigit, foreign[0])) or "0"
        context.error(text, f"{foreign[0]} is not known here", help=f"did you mean ${{match.{number}}}?")
        return None
    parts = _parts(text, compiled, context)
    return Replacement(pattern, parts, isinstance(case, Scalar) and case.value is True)


def _parts(text: Scalar, compiled: Any, context: Context) -> tuple[str | int | Value, ...]:
    """The replacement text: `${match.N}` are groups of this expression, other names as everywhere."""
    parts: list[str | int | Value] = []
    at = 0
    for found in _GROUP.finditer(text.text):
        parts += split(text.text[at:found.start()], text, context)
        group = _group(found[1], compiled)
        if group is None:
            context.error(text, f"the expression has no group {found[1]}",
                          help=f"it has {compiled.groups} group{'s' if compiled.groups != 1 else ''}")
        else:
            parts.append(group)
        at = found.end()
    parts += split(text.text[at:], text, context)
    return tuple(part for part in parts if part != "")


def _group(name: str, compiled: Any) -> int | None:
    if name.isdigit():
        return int(name) if int(name) <= compiled.groups else None
    index: int | None = compiled.groupindex.get(name)
    return index


def reason(exc: Exception) -> str:
    """RE2's reason as text."""
    detail = exc.args[0] if exc.args else exc
    return detail.decode("utf-8", "replace") if isinstance(detail, bytes) else str(detail)


