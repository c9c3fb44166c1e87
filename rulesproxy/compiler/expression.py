"""What stands inside `${…}`: one look-up and its filters, as IR.

Grammar: `name ( "|" filter [ "(" arguments ")" ] )*`, where a name is dotted (`request.headers.accept`), odd keys are
quoted in brackets (`headers["x-a"]`), and arguments are quoted texts or numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rulesproxy.compiler.ir import Leaf, Value
from rulesproxy.compiler.writer import literal
from rulesproxy.runtime import values as run
from rulesproxy.runtime.phase import ALL_PHASES, HTTP_PHASES, REQUEST_PHASES, Phase

if TYPE_CHECKING:
    from rulesproxy.compiler.writer import Module

_VALUES = "rulesproxy.runtime.values"

#: Attribute of the facts for names without a key.
SIMPLE = {
    ("request", "method"): "method", ("request", "host"): "host", ("request", "path"): "path",
    ("request", "url"): "url", ("response", "status"): "status",
}


@dataclass(frozen=True, slots=True)
class Lookup(Value):
    """A name: `kind` says where (`query`, `request.headers`, …), `key` what."""

    kind: str
    key: tuple[str | int, ...] = ()

    @property
    def may_be_absent(self) -> bool:
        return self.kind in ("query", "request.headers", "request.cookies", "request.json", "response.headers",
                             "response.json")

    @property
    def reads_request_body(self) -> bool:
        return self.kind in ("request.json", "request.body")

    @property
    def reads_response_body(self) -> bool:
        return self.kind == "response.json"

    @property
    def sees_response(self) -> bool:
        return self.kind.startswith("response") or self.kind == "status"

    @property
    def phases(self) -> frozenset[Phase]:
        """The phases in which it can be looked up. The request is remembered in the response phase, and
        that of a handshake, which has no body, with its messages."""
        if self.kind in ("now", "uuid", "random"):
            return ALL_PHASES
        if self.sees_response:
            return frozenset((Phase.RESPONSE,))
        return HTTP_PHASES if self.reads_request_body else REQUEST_PHASES

    def render(self, x: Any) -> Any:
        match self.kind:
            case "query":
                return run.first(x.query(self.key[0]))
            case "request.headers":
                return run.first(x.header(_field(self.key[0])))
            case "request.cookies":
                return run.first(x.cookie(self.key[0]))
            case "request.json":
                return run.json_at(x.request_json(), self.key)
            case "request.body":
                return run.body_text(x.request)
            case "response.headers":
                return run.first(x.response_header(_field(self.key[0])))
            case "response.json":
                return run.json_at(x.response_json(), self.key)
            case "now":
                return run.now()
            case "uuid":
                return run.uuid()
            case "random":
                return run.random(int(self.key[0]), int(self.key[1]))
        return getattr(x, self.kind)

    def emit(self, module: Module) -> str:
        match self.kind:
            case "query" | "request.headers" | "request.cookies" | "response.headers":
                method = {"query": "query", "request.headers": "header", "request.cookies": "cookie",
                          "response.headers": "response_header"}[self.kind]
                key = _field(self.key[0]) if method.endswith("header") else self.key[0]
                return f"{module.use(_VALUES, 'first')}(x.{method}({literal(key)}))"
            case "request.json" | "response.json":
                return f"{module.use(_VALUES, 'json_at')}(x.{self.kind.replace('.', '_')}(), {literal(self.key)})"
            case "request.body":
                return f"{module.use(_VALUES, 'body_text')}(x.request)"
            case "now" | "uuid":
                return f"{module.use(_VALUES, self.kind)}()"
            case "random":
                return f"{module.use(_VALUES, 'random')}({self.key[0]}, {self.key[1]})"
        return f"x.{self.kind}"


def _field(name: str | int) -> bytes:
    return str(name).lower().encode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Capture(Value):
    """A capture of the match: the first of its leaves that holds gives the value."""

    name: str
    leaves: tuple[Leaf, ...]

    def render(self, x: Any) -> Any:
        return next((value for leaf in self.leaves if (value := leaf.capture(x, self.name)) is not None), None)

    def emit(self, module: Module) -> str:
        parts = [leaf.emit_capture(module, self.name) for leaf in self.leaves]
        if len(parts) == 1:
            return parts[0]
        return f"{module.use('rulesproxy.runtime.text', 'first_of')}({', '.join(parts)})"


@dataclass(frozen=True, slots=True)
class Filtered(Value):
    """A value through one filter."""

    value: Value
    name: str
    arguments: tuple[str | int | float, ...]

    def render(self, x: Any) -> Any:
        return run.filtered(self.name, self.value.render(x), *self.arguments)

    def emit(self, module: Module) -> str:
        arguments = "".join(f", {literal(argument)}" for argument in self.arguments)
        return f"{module.use(_VALUES, 'filtered')}({literal(self.name)}, {self.value.emit(module)}{arguments})"

    @property
    def reads_request_body(self) -> bool:
        return self.value.reads_request_body

    @property
    def reads_response_body(self) -> bool:
        return self.value.reads_response_body


#: Filters that leave path text path text.
_HARMLESS = ("default", "lower", "upper", "trim")


def is_path_text(value: Value) -> bool:
    """True for what comes from the canonical path: `%2F` in it is an escape, where other text means those letters."""
    match value:
        case Lookup(kind):
            return kind == "path"
        case Capture(leaves=leaves):
            return all(getattr(leaf, "FACT", "") == "path" for leaf in leaves)
        case Filtered(inner, name):
            return name in _HARMLESS and is_path_text(inner)
    return False


def inner_values(value: Value) -> Iterator[Value]:
    """The value and every value it is made from."""
    yield value
    if isinstance(value, Filtered):
        yield from inner_values(value.value)


class ExpressionError(ValueError):
    """The text inside `${…}` is not an expression. `help` says what to do, `code` names the kind of mistake."""

    def __init__(self, message: str, help: str = "", code: str = "template") -> None:
        super().__init__(message)
        self.help = help
        self.code = code


@dataclass(frozen=True, slots=True)
class Parsed:
    """An expression before its name is looked up: the name's steps, its arguments, its filters."""

    steps: tuple[str | int, ...]
    arguments: tuple[str | int | float, ...]
    filters: tuple[tuple[str, tuple[str | int | float, ...]], ...]


_TOKEN = re.compile(r"""\s*(?:(?P<number>-?[0-9]+(?:\.[0-9]+)?)(?![\w-])|(?P<word>[A-Za-z0-9_][\w-]*)"""
                    r"""|(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<sign>[.|(),\[\]:]))""")
MAX_LENGTH = 1000


def parse_expression(source: str) -> Parsed:
    """Raises ExpressionError."""
    if len(source) > MAX_LENGTH:
        raise ExpressionError(f"an expression has at most {MAX_LENGTH} characters")
    return _Parser(source).parse()


class _Parser:
    def __init__(self, source: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        end = len(source.rstrip())
        at = 0
        while at < end:
            found = _TOKEN.match(source, at)
            if found is None:
                raise ExpressionError(f"{source[at:].strip()[0]!r} cannot stand in an expression")
            self.tokens.append((str(found.lastgroup), found[str(found.lastgroup)]))
            at = found.end()
        self.tokens.append(("end", ""))
        self.at = 0

    def parse(self) -> Parsed:
        steps: list[str | int] = [*self._names()]
        arguments: tuple[str | int | float, ...] = ()
        while True:
            if self._take("."):
                steps += self._names()
            elif self._take("["):
                steps.append(self._bracket())
            elif self._take("("):
                arguments = self._arguments()
            else:
                break
        filters = []
        while self._take("|"):
            name = ".".join(self._names())
            filters.append((name, self._arguments() if self._take("(") else ()))
        if self.tokens[self.at][0] != "end":
            raise ExpressionError(f"unexpected {self.tokens[self.at][1]!r}")
        return Parsed(tuple(steps), arguments, tuple(filters))

    def _take(self, sign: str) -> bool:
        if self.tokens[self.at] == ("sign", sign):
            self.at += 1
            return True
        return False

    def _names(self) -> list[str]:
        """One name; `1.5`, which reads as a number, is two."""
        kind, value = self.tokens[self.at]
        if kind not in ("word", "number"):
            raise ExpressionError("a name is missing" if kind == "end" else f"a name is wanted before {value!r}")
        self.at += 1
        return value.split(".")

    def _bracket(self) -> str | int:
        kind, value = self.tokens[self.at]
        if kind not in ("text", "number") or (kind == "number" and "." in value):
            raise ExpressionError('in brackets stands a quoted key or a number: headers["x-a"], items[0]')
        self.at += 1
        if not self._take("]"):
            raise ExpressionError('a "[" is not closed')
        return _unquote(value) if kind == "text" else int(value)

    def _arguments(self) -> tuple[str | int | float, ...]:
        found: list[str | int | float] = []
        while not self._take(")"):
            kind, value = self.tokens[self.at]
            if kind == "text":
                found.append(_unquote(value))
            elif kind == "number":
                found.append(float(value) if "." in value else int(value))
            else:
                raise ExpressionError("arguments are quoted texts or numbers")
            self.at += 1
            if not self._take(",") and self.tokens[self.at] != ("sign", ")"):
                raise ExpressionError('a "(" is not closed')
        return tuple(found)


def _unquote(quoted: str) -> str:
    return re.sub(r"\\(.)", r"\1", quoted[1:-1])
