"""What `rewrite` replaces in a field: `{regex, with}` or `{text, with}`, checked at load."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rulesproxy.compiler.ir import Value
from rulesproxy.compiler.source import Mapping, Node, Scalar, Sequence
from rulesproxy.compiler.template import Place, Template, refuse_controls, split
from rulesproxy.compiler.writer import literal
from rulesproxy.runtime.substitution import Substitution
from rulesproxy.runtime.text import BadRegex, regex

if TYPE_CHECKING:
    from rulesproxy.compiler.context import Context
    from rulesproxy.compiler.writer import Module

#: References to groups as other tools write them. `$$` before a brace is our own escape.
_OTHER_TOOLS = re.compile(r"(?<!\$)\$(?:[0-9]|\{[0-9]+\})|\\[0-9]")
_GROUP = re.compile(r"\$?\$\{\s*match\.([A-Za-z0-9_]+)\s*\}")

_ONE: dict[str, Any] = {
    "title": "replacement",
    "properties": {
        "regex": {"type": "string", "minLength": 1, "description": "An RE2 regular expression."},
        "text": {"$ref": "#/$defs/text", "description": "A plain text instead of an expression."},
        "with": {"$ref": "#/$defs/text", "description": "What stands there instead; may use ${match.1}."},
        "ignore_case": {"type": "boolean", "description": "Find without case."},
    },
    "required": ["with"],
    "additionalProperties": False,
}
#: One replacement, or a list of them done in turn.
REPLACE_SCHEMA: dict[str, Any] = {
    **_ONE, "type": ["object", "array"], "items": {"type": "object", **_ONE}, "minItems": 1,
    "description": "Replace everything that is found; a list is done in turn.",
}


@dataclass(frozen=True, slots=True)
class Replacement(Value):
    """A substitution whose text is made at run time; groups of the expression stay numbers."""

    pattern: str
    parts: tuple[str | int | Template, ...]
    ignore_case: bool = False
    plain: bool = False

    def render(self, x: Any) -> Substitution:
        parts = tuple(part.render(x) if isinstance(part, Template) else part for part in self.parts)
        return Substitution(self.pattern, parts, self.ignore_case, self.plain)

    def emit(self, module: Module) -> str:
        module.use("rulesproxy.runtime.substitution", "Substitution")
        parts = ", ".join(part.emit(module) if isinstance(part, Template) else literal(part) for part in self.parts)
        comma = "," if len(self.parts) == 1 else ""
        flags = ", ignore_case=True" * self.ignore_case + ", plain=True" * self.plain
        return f"Substitution({literal(self.pattern)}, ({parts}{comma}){flags})"

    @property
    def is_constant(self) -> bool:
        return not any(isinstance(part, Template) for part in self.parts)

    @property
    def reads_request_body(self) -> bool:
        return any(isinstance(part, Template) and part.reads_request_body for part in self.parts)

    @property
    def reads_response_body(self) -> bool:
        return any(isinstance(part, Template) and part.reads_response_body for part in self.parts)


def replacements(node: Node, context: Context, place: Place) -> tuple[Replacement, ...]:
    """One replacement or a list of them; mistakes are reported. `place` is where the new text will stand."""
    items = node.items if isinstance(node, Sequence) else (node,)
    found = [_replacement(item, context, place) for item in items if isinstance(item, Mapping)]
    return tuple(item for item in found if item is not None)


def _replacement(node: Mapping, context: Context, place: Place) -> Replacement | None:
    expression, plain, text, case = node.get("regex"), node.get("text"), node.get("with"), node.get("ignore_case")
    source = plain if expression is None else expression
    if not isinstance(source, Scalar) or not isinstance(text, Scalar) or (expression is not None and plain is not None):
        context.error(node, "a replacement needs regex or text (one of them), and with")
        return None
    pattern = context.match_text(source)
    ignore_case = isinstance(case, Scalar) and case.value is True
    if not pattern:
        context.error(source, "an empty text is found everywhere")
        return None
    try:
        groups = {"0": 0, **(regex(pattern, ignore_case).groups if source is expression else {})}
    except BadRegex as exc:
        context.error(source, f"RE2 does not accept this expression: {exc}", code="regex")
        return None
    if source is expression:
        foreign = _OTHER_TOOLS.search(text.text)
        if foreign is not None:
            number = "".join(filter(str.isdigit, foreign[0]))
            context.error(text, f"{foreign[0]} is not a group here", help=f"did you mean ${{match.{number}}}?")
            return None
    return Replacement(pattern, _parts(text, groups, context, place), ignore_case, source is plain)


def _parts(text: Scalar, groups: dict[str, int], context: Context, place: Place) -> tuple[str | int | Template, ...]:
    """The replacement text: `${match.N}` are groups of this expression, other names as everywhere."""
    parts: list[str | int | Template] = []
    at = 0
    for found in _GROUP.finditer(text.text):
        if found[0].startswith("$$"):
            continue  # the text "${match.1}" itself
        parts += _texts(text.text[at:found.start()], text, context, place)
        if found[1] in groups:
            parts.append(groups[found[1]])
        elif f"match.{found[1]}" in context.captures:
            parts += _texts(found[0], text, context, place)
        else:
            context.error(text, f"the expression has no group {found[1]}", help=_known(groups))
        at = found.end()
    parts += _texts(text.text[at:], text, context, place)
    return tuple(parts)


def _known(groups: dict[str, int]) -> str:
    names = [name for name in groups if name != "0"]
    return f"its groups are {', '.join(names)}" if names else "it has no groups: write (…) around a part"


def _texts(text: str, node: Scalar, context: Context, place: Place) -> list[str | int | Template]:
    parts = split(text, node, context)
    refuse_controls([part for part in parts if isinstance(part, str)], node, context, place)
    return [part if isinstance(part, str) else Template((part,), place) for part in parts]
