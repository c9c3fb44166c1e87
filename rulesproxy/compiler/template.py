"""Templates: text with `${…}` in it, parsed once, expanded per exchange (rule-language 3.4).

What is known at load (`vars`, `$${`) is text from then on; what is left becomes parts that are joined at run time.
The place a template stands in decides how its values are made safe.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, assert_never

from rulesproxy.compiler.expression import ExpressionError, Filtered, Lookup, is_path_text, parse_expression
from rulesproxy.compiler.ir import Value
from rulesproxy.compiler.source import Mapping, Node, Scalar, Sequence
from rulesproxy.compiler.suggest import did_you_mean
from rulesproxy.compiler.template_names import resolve
from rulesproxy.compiler.writer import literal
from rulesproxy.runtime import values as run

if TYPE_CHECKING:
    from rulesproxy.compiler.context import Context
    from rulesproxy.compiler.writer import Module

_VALUES = "rulesproxy.runtime.values"
_OPEN = re.compile(r"\$\$\{|\$\{")


class Place(enum.Enum):
    """Where the text goes, and so what must not break out of it."""

    BODY = "body"  # verbatim
    HEADER = "header"  # CR, LF, NUL refuse the exchange
    URL = "url"  # each value percent-encoded
    FILE = "file"  # each value one plain segment
    TEXT = "text"  # log lines, tags
    COOKIE = "cookie"  # the value of a cookie: a header in which `;` refuses the exchange too


#: The runtime function that judges the whole text, by place.
_WHOLE = {Place.HEADER: "header_text", Place.COOKIE: "cookie_text"}
#: More parts than this are joined, not added: an expression nests once for each `+`.
_MOST_ADDED = 20


@dataclass(frozen=True, slots=True)
class Template(Value):
    """Parts to join: text, and values made safe for the place."""

    parts: tuple[str | Value, ...]
    place: Place

    def render(self, x: Any) -> str:
        joined = "".join(part if isinstance(part, str) else getattr(run, _guard(part, self.place))(part.render(x))
                         for part in self.parts)
        whole = _WHOLE.get(self.place)
        return joined if whole is None else str(getattr(run, whole)(joined))

    def emit(self, module: Module) -> str:
        parts = [literal(part) if isinstance(part, str)
                 else f"{module.use(_VALUES, _guard(part, self.place))}({part.emit(module)})" for part in self.parts]
        joined = " + ".join(parts) if len(parts) <= _MOST_ADDED else f'"".join(({", ".join(parts)}))'
        whole = _WHOLE.get(self.place)
        return joined if whole is None else f"{module.use(_VALUES, whole)}({joined})"

    @property
    def reads_request_body(self) -> bool:
        return any(isinstance(part, Value) and part.reads_request_body for part in self.parts)

    @property
    def reads_response_body(self) -> bool:
        return any(isinstance(part, Value) and part.reads_response_body for part in self.parts)


def _guard(value: Value, place: Place) -> str:
    """The runtime function that makes a value safe for the place. Path text keeps its slashes and escapes in a URL."""
    match place:
        case Place.URL if is_path_text(value):
            return "url_path"
        case Place.URL if value == Lookup("host"):
            return "url_host"
        case Place.URL:
            return "url_part"
        case Place.FILE:
            return "path_segment" if is_path_text(value) else "segment"
        case Place.BODY | Place.HEADER | Place.TEXT | Place.COOKIE:
            return "text"
    assert_never(place)


@dataclass(frozen=True, slots=True)
class Known:
    """What an expression comes to at load where that is no text: `${vars.port | int}`."""

    value: Any


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
        return f'({inner}).encode("utf-8", "replace")'

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
    return _template(split(text, node, context), place)


def _template(parts: list[str | Value], place: Place) -> str | Template:
    if any(isinstance(part, Value) for part in parts):
        return Template(tuple(parts), place)
    return "".join(map(str, parts))


def split(text: str, node: Node, context: Context) -> list[str | Value]:
    """Text and values in order, neighbouring texts joined."""
    return _joined(_pieces(text, node, context))


def _joined(pieces: Iterable[str | Value | Known]) -> list[str | Value]:
    parts: list[str | Value] = []
    for piece in pieces:
        part = run.text(piece.value) if isinstance(piece, Known) else piece
        if isinstance(part, str) and parts and isinstance(parts[-1], str):
            parts[-1] += part
        elif part != "":
            parts.append(part)
    return parts


def _pieces(text: str, node: Node, context: Context) -> list[str | Value | Known]:
    """What the text is made of, mistakes reported and left out."""
    parts: list[str | Value | Known] = []
    at = 0
    while (found := _OPEN.search(text, at)) is not None:
        parts.append(text[at:found.start()])
        if found[0] == "$${":
            parts.append("${")
            at = found.end()
            continue
        end = _closing(text, found.end())
        if end < 0:
            context.error(node, 'a "${" is never closed', help="write $${ for the text ${ itself")
            return parts
        value = _value(text[found.end():end], node, context)
        if value is not None:
            parts.append(value)
        at = end + 1
    parts.append(text[at:])
    return [part for part in parts if part != ""]


# RFC 9110 §5.5: what no field value holds.
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f]")
_CONTROLS = {"\r": "a carriage return", "\n": "a line break", "\0": "NUL"}


def refuse_controls(parts: Iterable[str | Value], node: Node, context: Context, place: Place) -> bool:
    """Report constant text that cannot stand in its place, a header or a cookie. True if there was some."""
    text = "".join(part for part in parts if isinstance(part, str))
    bad = _CONTROL.search(text) if place in _WHOLE else None
    if bad is not None:
        what = _CONTROLS.get(bad[0], f"the control U+{ord(bad[0]):04X}")
        context.error(node, f"a header value cannot contain {what}", code="header-value")
    elif place is Place.COOKIE and ";" in text:
        context.error(node, "a cookie value cannot contain a semicolon", code="header-value")
    else:
        return False
    return True


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


def _value(source: str, node: Node, context: Context) -> str | Value | Known | None:
    try:
        parsed = parse_expression(source)
        value = resolve(parsed, context)
        for name, arguments in parsed.filters:
            value = _filter(value, name, arguments)
        if value is None:
            raise ExpressionError("this comes to nothing", "the variable's text does not suit the filter")
    except ExpressionError as exc:
        context.error(node, f"${{{source.strip()}}}: {exc}", help=exc.help, code=exc.code)
        return None
    has_default = any(name == "default" for name, _ in parsed.filters)
    if isinstance(value, (Lookup, Filtered)) and not has_default and _may_be_absent(value):
        context.warning("may-be-absent", node, f"${{{source.strip()}}} may be absent and is then empty",
                        help='say what to use instead: ${… | default("…")}')
    return value if isinstance(value, (str, Value)) else Known(value)


def _may_be_absent(value: Value) -> bool:
    while isinstance(value, Filtered):
        value = value.value
    return isinstance(value, Lookup) and value.may_be_absent


def _filter(value: Any, name: str, arguments: tuple[str | int | float, ...]) -> Any:
    if name not in run.FILTERS:
        raise ExpressionError(f'no filter "{name}"', did_you_mean(name, run.FILTERS))
    _, least, most = run.FILTERS[name]
    if not least <= len(arguments) <= most:
        wanted = str(most) if least == most else f"{least} to {most}"
        raise ExpressionError(f"{name} takes {wanted} argument{'s' if most != 1 else ''}, not {len(arguments)}")
    if name == "date" and arguments and run.filtered("date", 0, str(arguments[0])) is None:
        raise ExpressionError(f"{arguments[0]!r} is no pattern for a date", 'like date("%Y-%m-%d")')
    return Filtered(value, name, arguments) if isinstance(value, Value) else run.filtered(name, value, *arguments)


def document_bytes(node: Node, context: Context) -> Any:
    """A JSON document as a body: bytes now, or made when its templates are known."""
    document = parse_json(node, context)
    return Encoded(document, json=True) if list(values_in(document)) else run.json_bytes(document)


def parse_json(node: Node, context: Context) -> Any:
    """A JSON document with templates in its texts; a text that is exactly one `${…}` keeps the value's type."""
    match node:
        case Mapping():
            return {key.text: parse_json(value, context) for key, value in node}
        case Sequence(items=items):
            return [parse_json(item, context) for item in items]
        case Scalar() if "${" in node.text:
            pieces = _pieces(node.text, node, context)
            if len(pieces) == 1 and not isinstance(pieces[0], str):
                return pieces[0].value if isinstance(pieces[0], Known) else pieces[0]
            return _template(_joined(pieces), Place.BODY)
        case Scalar():
            if isinstance(node.value, float) and not math.isfinite(node.value):
                context.error(node, f"{node.text} is no number in JSON", help="quote it if it is a text")
                return None
            return node.value
    raise TypeError(type(node).__name__)
