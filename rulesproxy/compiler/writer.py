"""Prints generated modules: imports, hoisted constants, functions, and which line came from which rule.

`literal()` is the only way text of a rule file reaches generated source: always one ASCII expression on one line.
"""

from __future__ import annotations

from typing import Any

from rulesproxy.compiler.source import Position

_INDENT = "    "
_LONG_BYTES = 4096


def literal(value: Any) -> str:
    """A Python expression for plain data (None, bool, int, float, str, bytes, tuple, frozenset, dict, list)."""
    match value:
        case None | bool() | int():
            return repr(value)
        case float():
            if value != value or value in (float("inf"), float("-inf")):
                return f'float("{value}")'
            return repr(value)
        case str():
            return _in_double_quotes(ascii(value))
        case bytes():
            return "b" + _in_double_quotes(repr(value)[1:])
        case tuple():
            inner = ", ".join(literal(item) for item in value)
            return f"({inner},)" if len(value) == 1 else f"({inner})"
        case list():
            return f"[{', '.join(literal(item) for item in value)}]"
        case frozenset():
            # Sorted by printed form: set order must not leak into the output (same files, same bytes).
            inner = ", ".join(sorted(literal(item) for item in value))
            return f"frozenset({{{inner}}})" if inner else "frozenset()"
        case dict():
            return "{" + ", ".join(f"{literal(k)}: {literal(v)}" for k, v in value.items()) + "}"
    raise TypeError(f"no literal for {type(value).__name__}")


def _in_double_quotes(quoted: str) -> str:
    """What `ascii` or `repr` printed with the quotes a formatter would choose: double, unless that escapes more."""
    inner = quoted[1:-1]
    if quoted[0] == '"':  # it contains single quotes and no double ones
        return quoted
    singles, doubles = inner.count("\\'"), inner.count('"')
    if doubles > singles:
        return quoted
    return '"' + inner.replace("\\'", "'").replace('"', '\\"') + '"'


class Module:
    """One generated module while it is being printed.

    `data` collects what is too large for a literal (bodies): the text refers to it as `DATA[n]`.
    """

    def __init__(self) -> None:
        self._imports: dict[str, set[str]] = {}
        self._constants: dict[str, str] = {}  # expression → name
        self._body: list[str] = []
        self._positions: dict[int, Position] = {}  # index in _body → rule position
        self.data: list[bytes] = []

    def use(self, module: str, name: str) -> str:
        """Import `name` from `module`; answers the name."""
        self._imports.setdefault(module, set()).add(name)
        return name

    def const(self, expression: str, prefix: str = "C") -> str:
        """Hoist an expression that never changes; equal expressions share one name."""
        name = self._constants.get(expression)
        if name is None:
            name = f"{prefix}{len(self._constants)}"
            self._constants[expression] = name
        return name

    def value(self, value: Any) -> str:
        """A literal, or a reference into DATA for long bytes."""
        if isinstance(value, bytes) and len(value) > _LONG_BYTES:
            if value not in self.data:
                self.data.append(value)
            return f"DATA[{self.data.index(value)}]"
        return literal(value)

    def line(self, text: str = "", depth: int = 0, pos: Position | None = None) -> None:
        if pos is not None:
            self._positions[len(self._body)] = pos
        self._body.append(_INDENT * depth + text if text else "")

    def text(self) -> tuple[str, dict[int, Position]]:
        """The source and its map: 1-based generated line → position in the rule file."""
        head = ['"""Generated from rule files by rulesproxy."""', ""]
        head += [f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(self._imports.items())]
        if self._constants:
            head.append("")
            head += [f"{name} = {expression}" for expression, name in self._constants.items()]
        lines = [*head, *self._body]
        return "\n".join(lines).rstrip("\n") + "\n", {
            len(head) + index + 1: pos for index, pos in self._positions.items()
        }
