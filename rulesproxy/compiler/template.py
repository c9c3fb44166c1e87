"""Templates: text with `${…}` in it, parsed once, expanded per exchange (rule-language 3.4).

What is known at load (`vars`, `$${`) is text from then on; what is left becomes parts that are joined at run time.
The place a template stands in decides how its values are made safe.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, assert_never

from rulesproxy.compiler.expression import (
    SIMPLE,
    Capture,
    ExpressionError,
    Filtered,
    Lookup,
    Parsed,
    parse_expression,
)
from rulesproxy.compiler.ir import Value
from rulesproxy.compiler.source import Mapping, Node, Scalar, Sequence
from rulesproxy.compiler.suggest import did_you_mean
from rulesproxy.compiler.writer import literal
from rulesproxy.runtime import values as run
from rulesproxy.runtime.phase import Phase

if TYPE_CHECKING:
    from rulesproxy.compiler.context import Context
    from rulesproxy.compiler.writer import Module

_VALUES = "rulesproxy.runtime.values"
_NAMES = ("vars", "path", "match", "query", "request", "response", "now", "uuid", "random")
_REQUEST = ("method", "host", "path", "url", "headers", "cookies", "body", "json")
_RESPONSE = ("status", "headers", "json")
_OPEN = re.compile(r"\$\$\{|\$\{")


class Place(enum.Enum):
    """Where the text goes, and so what must not break out of it."""

    BODY = "body"  # verbatim
    HEADER = "header"  # CR, LF, NUL refuse the exchange
    URL = "url"  # each value percent-encoded
    FILE = "file"  # each value one plain segment
    TEXT = "text"  # log lines, tags


@dataclass(frozen=True, slots=True)
class Template(Value):
    """Parts to join: text, and values made safe for the place."""

    parts: tuple[str | Value, ...]
    place: Place

    def render(self, x: Any) -> str:
        joined = "".join(part if isinstance(part, str) else self._safe(part.render(x)) for part in self.parts)
        return run.header_text(joined) if self.place is Place.HEADER else joined

    def _safe(self, value: Any) -> str:
        match self.place:
            case Place.URL:
                return run.url_part(value)
            case Place.FILE:
                return run.segment(value)
            case Place.BODY | Place.HEADER | Place.TEXT:
                return run.text(value)
        assert_never(self.place)

    def emit(self, module: Module) -> str:
        wrap = module.use(_VALUES, {Place.URL: "url_part", Place.FILE: "segment"}.get(self.place, "text"))
        joined = " + ".join(literal(part) if isinstance(part, str) else f"{wrap}({part.emit(module)})"
                            for part in self.parts)
        return f"{module.use(_VALUES, 'header_text')}({joined})" if self.place is Place.HEADER else joined

    @property
    def reads_request_body(self) -> bool:
        return any(isinstance(part, Value) and part.reads_request_body for part in self.parts)

    @property
    def reads_response_body(self) -> bool:
        return any(isinstance(part, Value) and part.reads_response_body for part in self.parts)


@dataclass(frozen=True, slots=True)
class Encoded(Value):
    """A body: the inner text, or the inner JSON document, as bytes."""

    inner: Any
    json: bool

    def render(self, x: Any) -> bytes:
        value = render_inside(self.inner, x)
        return run.json_bytes(value) if self.json else value.encode("utf-8", "replace")

    def emit(self, module: Module) -> str:
        from rulesproxy.compiler.emit import print_value

        inner = print_value(self.inner, module)
        if self.json:
            return f"{module.use(_VALUES, 'json_bytes')}({inner})"
        return f"({inner}).encode('utf-8', 'replace')"

    @property
    def reads_request_body(self) -> bool:
        return any(value.reads_request_body for value in values_in(self.inner))

    @property
    def reads_response_body(self) -> bool:
        return any(value.reads_response_body for value in values_in(self.inner))


def values_in(data: Any) -> Iterable[Value]:
    """Every `Value` in nested arguments."""
    match data:
        case Value():
            yield data
        case tuple() | list():
            for item in data:
                yield from values_in(item)
        case dict():
            for item in data.values():
                yield from values_in(item)


def render_inside(data: Any, x: Any) -> Any:
    """Nested data with every `Value` in it rendered."""
    match data:
        case Value():
            return data.render(x)
        case tuple():
            return tuple(render_inside(item, x) for item in data)
        case list():
            return [render_inside(item, x) for item in data]
        case dict():
            return {key: render_inside(item, x) for key, item in data.items()}
    return data


# --- parsing ------------------------------------------------------------------------------------------------------


def parse_template(node: Scalar, context: Context, *, place: Place) -> str | Template:
    """The node's text; a plain str when nothing is left to expand. Mistakes are reported at the node."""
    return parse_text(node.text, node, context, place=place)


def parse_text(text: str, node: Node, context: Context, *, place: Place) -> str | Template:
    """The same for text that is not the node's own (a file's content)."""
    parts = split(text, node, context)
    if all(isinstance(part, str) for part in parts):
        return "".join(str(part) for part in parts)
    return Template(tuple(parts), place)


def split(text: str, node: Node, context: Context) -> list[str | Value]:
    """Text and values in order, neighbouring texts joined."""
    parts: list[str | Value] = []
    at = 0
    while (found := _OPEN.search(text, at)) is not None:
        _append(parts, text[at:found.start()])
        if found[0] == "$${":
            _append(parts, "${")
            at = found.end()
            continue
        end = _closing(text, found.end())
        if end < 0:
            context.error(node, 'a "${" is never closed', help="write $${ for the text ${ itself")
            return parts
        value = _value(text[found.end():end], node, context)
        if isinstance(value, str):
            _append(parts, value)
        elif value is not None:
            parts.append(value)
        at = end + 1
    _append(parts, text[at:])
    return parts


def _append(parts: list[str | Value], text: str) -> None:
    if not text:
        return
    if parts and isinstance(parts[-1], str):
        parts[-1] += text
    else:
        parts.append(text)


def _closing(text: str, at: int) -> int:
    """The index of the `}` that ends an expression, quoted texts skipped; -1 without one."""
    quote = ""
    while at < len(text):
        char = text[at]
        if quote:
            if char == "\\":
                at += 1
            elif char == quote:
                quote = ""
        elif char in "\"'":
            quote = char
        elif char == "}":
            return at
        at += 1
    return -1


def _value(source: str, node: Node, context: Context) -> str | Value | None:
    try:
        parsed = parse_expression(source)
        value = resolve(parsed, context, node)
        for name, arguments in parsed.filters:
            value = _filter(value, name, arguments)
    except ExpressionError as exc:
        context.error(node, f"${{{source.strip()}}}: {exc}", help=exc.help, code=exc.code)
        return None
    has_default = any(name == "default" for name, _ in parsed.filters)
    if isinstance(value, (Lookup, Filtered)) and not has_default and _may_be_absent(value):
        context.warning("may-be-absent", node, f"${{{source.strip()}}} may be absent and is then empty",
                        help='say what to use instead: ${… | default("…")}')
    return value


def _may_be_absent(value: Value) -> bool:
    while isinstance(value, Filtered):
        value = value.value
    return isinstance(value, Lookup) and value.may_be_absent


def _filter(value: str | Value, name: str, arguments: tuple[str | int | float, ...]) -> str | Value:
    if name not in run.FILTERS:
        raise ExpressionError(f'no filter "{name}"', did_you_mean(name, run.FILTERS))
    _, least, most = run.FILTERS[name]
    if not least <= len(arguments) <= most:
        wanted = str(most) if least == most else f"{least} to {most}"
        raise ExpressionError(f"{name} takes {wanted} argument{'s' if most != 1 else ''}, not {len(arguments)}")
    if isinstance(value, str):
        return run.text(run.filtered(name, value, *arguments))
    return Filtered(value, name, arguments)


def resolve(parsed: Parsed, context: Context, node: Node) -> str | Value:
    """The value a name stands for. Raises ExpressionError for one that is not known here."""
    head, *rest = (str(step) if number < 2 else step for number, step in enumerate(parsed.steps))
    match head:
        case "vars":
            return _variable(".".join(map(str, rest)), context)
        case "path" | "match":
            return _capture(f"{head}.{'.'.join(map(str, rest))}", context)
        case "query" if len(rest) == 1:
            value = Lookup("query", (str(rest[0]),))
        case "request" if rest:
            value = _message("request", rest, _REQUEST)
        case "response" if rest:
            value = _message("response", rest, _RESPONSE)
        case "now" | "uuid" if not rest and not parsed.arguments:
            return Lookup(str(head))
        case "random" if not rest:
            return _random(parsed.arguments)
        case "query" | "request" | "response" | "now" | "uuid" | "random":
            raise ExpressionError(f"{head} is not written like that", _USAGE[str(head)])
        case _:
            hint = did_you_mean(str(head), _NAMES) or f"known are {', '.join(_NAMES)}"
            raise ExpressionError(f'no name "{head}"', hint)
    needed = Phase.RESPONSE if value.sees_response else Phase.REQUEST
    if needed not in context.visible and not (needed is Phase.REQUEST and Phase.RESPONSE in context.visible):
        raise ExpressionError(f"the {needed.name.lower()} cannot be seen where this rule acts")
    return value


_USAGE = {
    "query": "query.KEY",
    "request": f"request.{{{' '.join(_REQUEST)}}}", "response": f"response.{{{' '.join(_RESPONSE)}}}",
    "now": "now, or now | date(\"%Y\")", "uuid": "uuid", "random": "random(1, 6)",
}


def _variable(name: str, context: Context) -> str:
    if name not in context.vars:
        raise ExpressionError(f"no variable {name}", did_you_mean(name, context.vars)
                              or "variables are defined under vars: at the top of a file", code="unknown-var")
    return context.vars[name]


def _capture(name: str, context: Context) -> Capture:
    leaves = context.captures.get(name)
    if leaves is None:
        why = context.why_no_capture(name)
        known = sorted(context.captures)
        raise ExpressionError(
            f"the match captures no {name}" + (f": {why}" if why else ""),
            did_you_mean(name, known) or (f"captured are {', '.join(known)}" if known else
                                          "a path like /users/{id} captures path.id"))
    return Capture(name, leaves)


def _message(which: str, rest: list[Any], known: tuple[str, ...]) -> Lookup:
    what, *keys = rest
    if what not in known:
        raise ExpressionError(f"{which} has no {what}", did_you_mean(str(what), known) or _USAGE[which])
    if (which, what) in SIMPLE and not keys:
        return Lookup(SIMPLE[which, what])
    if what == "body" and not keys:
        return Lookup("request.body")
    if what == "json":
        return Lookup(f"{which}.json", tuple(int(k) if isinstance(k, int) else k for k in keys))
    if what in ("headers", "cookies") and len(keys) == 1:
        return Lookup(f"{which}.{what}", (str(keys[0]),))
    raise ExpressionError(f"{which}.{what} is not written like that", _USAGE[which])


def _random(arguments: tuple[str | int | float, ...]) -> Lookup:
    if len(arguments) != 2 or not all(isinstance(a, int) for a in arguments) or arguments[0] > arguments[1]:  # type: ignore[operator]
        raise ExpressionError("random takes two whole numbers, the smaller first", "random(1, 6)")
    return Lookup("random", (arguments[0], arguments[1]))  # type: ignore[arg-type]


def parse_json(node: Node, context: Context) -> Any:
    """A JSON document with templates in its texts; a text that is exactly one `${…}` keeps the value's type."""
    match node:
        case Mapping():
            return {key.text: parse_json(value, context) for key, value in node}
        case Sequence(items=items):
            return [parse_json(item, context) for item in items]
        case Scalar() if "${" in node.text:
            parts = split(node.text, node, context)
            if len(parts) == 1 and isinstance(parts[0], Value):
                return parts[0]
            constant = all(isinstance(part, str) for part in parts)
            return "".join(map(str, parts)) if constant else Template(tuple(parts), Place.BODY)
        case Scalar():
            return node.value
    raise TypeError(type(node).__name__)
