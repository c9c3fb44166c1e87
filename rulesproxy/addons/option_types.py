"""What an option's value may be: checking values, and reading them from text."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NewType, Optional

from rulesproxy.addons.errors import OptionsError

#: A number of bytes. Text may carry a unit: `64k`, `10m`, `1g` (powers of 1024).
Size = NewType("Size", int)

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_SIZE = re.compile(r"([0-9]{1,12})\s?([kmg]?)i?b?", re.IGNORECASE | re.ASCII)
_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})


@dataclass(frozen=True, slots=True)
class OptionSpec:
    """A declared option. `owner` names the script that declared it and is empty for the proxy's own; the value of a
    `secret` one is never shown.
    """

    name: str
    typespec: Any
    default: Any
    help: str
    choices: tuple[str, ...] | None = None
    minimum: float | None = None
    owner: str = ""
    secret: bool = False

    @property
    def type_name(self) -> str:
        return _KINDS[self.typespec].name

    def check(self, value: Any) -> Any:
        """The value as it is stored. Raises OptionsError."""
        try:
            checked = _KINDS[self.typespec].check(value)
        except ValueError as exc:
            raise OptionsError(f"option {self.name}: {exc}") from None
        if self.choices is not None and checked is not None:
            for item in checked if isinstance(checked, tuple) else (checked,):
                if item not in self.choices:
                    raise OptionsError(f"option {self.name}: {item!r} is not one of {', '.join(self.choices)}")
        if self.minimum is not None and checked < self.minimum:
            raise OptionsError(f"option {self.name}: {checked} is less than {self.minimum:g}")
        return checked

    def parse(self, text: str) -> Any:
        """The value written as `text`. Raises OptionsError."""
        try:
            value = _KINDS[self.typespec].parse(text)
        except ValueError as exc:
            raise OptionsError(f"option {self.name}: {exc}") from None
        return self.check(value)


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    check: Callable[[Any], Any]
    parse: Callable[[str], Any]


def _check_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError(f"expected true or false, not {value!r}")


def _parse_bool(text: str) -> bool:
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError(f"expected true or false, not {text!r}")


def _check_int(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError(f"expected a whole number, not {value!r}")


def _parse_int(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text.strip(), re.ASCII):
        raise ValueError(f"expected a whole number, not {text!r}")
    return int(text)


def _check_float(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise ValueError(f"expected a number, not {value!r}")


def _parse_float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"expected a number, not {text!r}") from None


def _check_size(value: Any) -> int:
    if isinstance(value, str):
        return _parse_size(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise ValueError(f"expected a size such as 64k or 10m, not {value!r}")


def _parse_size(text: str) -> int:
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"expected a size such as 64k or 10m, not {text!r}")
    return int(match[1]) * _UNITS[match[2].lower()]


def _check_str(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise ValueError(f"expected text, not {value!r}")


def _check_optional_str(value: Any) -> str | None:
    return None if value is None else _check_str(value)


def _check_strings(value: Any) -> tuple[str, ...]:
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise ValueError(f"expected a list of texts, not {value!r}")


_OPTIONAL_STR = _Kind("text or nothing", _check_optional_str, lambda text: text or None)

_KINDS: dict[Any, _Kind] = {
    bool: _Kind("true or false", _check_bool, _parse_bool),
    int: _Kind("whole number", _check_int, _parse_int),
    float: _Kind("number", _check_float, _parse_float),
    Size: _Kind("size", _check_size, _parse_size),
    str: _Kind("text", _check_str, str),
    Optional[str]: _OPTIONAL_STR,  # noqa: UP045 - as existing scripts spell it; equal to `str | None`
    str | None: _OPTIONAL_STR,
    Sequence[str]: _Kind("list of texts", _check_strings, lambda text: (text,) if text else ()),
}


def is_list(spec: OptionSpec) -> bool:
    return _KINDS[spec.typespec].check is _check_strings


def known_type(typespec: Any) -> bool:
    try:
        return typespec in _KINDS
    except TypeError:  # unhashable
        return False
