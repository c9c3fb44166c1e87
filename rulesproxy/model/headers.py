"""Header fields: an ordered, case-insensitive, case-preserving multi-map.

The one source of truth is `fields`, an immutable tuple of `(name, value)` byte pairs in wire order. Every change
assigns a new tuple, so holding on to `headers.fields` is a free snapshot: rule matching relies on that.
Text is UTF-8 with `surrogateescape`, both ways.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping

Field = tuple[bytes, bytes]
Fields = tuple[Field, ...]


def to_bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")


def to_text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


class Headers(MutableMapping[str, str]):
    """`h["name"]` joins repeated lines with ", "; `get_all` keeps them apart. Names compare without case."""

    __slots__ = ("fields",)

    fields: Fields

    def __init__(self, fields: Iterable[Field] = (), **named: str) -> None:
        self.fields = tuple(fields)
        if named:
            self.update({name.replace("_", "-"): value for name, value in named.items()})

    # --- bytes level, used by the proxy core -----------------------------------------------------------------

    def values_of(self, name: bytes) -> list[bytes]:
        """Every value of the field `name` (given in lower case), in order."""
        return [value for key, value in self.fields if key.lower() == name]

    def first(self, name: bytes) -> bytes | None:
        """First value of the field `name` (given in lower case)."""
        length = len(name)  # most names differ in length already, which is cheaper to see
        for key, value in self.fields:
            if len(key) == length and key.lower() == name:
                return value
        return None

    # --- mapping interface -----------------------------------------------------------------------------------

    def get_all(self, name: str | bytes) -> list[str]:
        return [to_text(value) for value in self.values_of(to_bytes(name).lower())]

    def set_all(self, name: str | bytes, values: Iterable[str | bytes]) -> None:
        """Replace all lines of `name`: in place where there were some, at the end otherwise."""
        key = to_bytes(name)
        lower = key.lower()
        new = [(key, to_bytes(value)) for value in values]
        if self.first(lower) is None:
            self.fields = (*self.fields, *new)
            return
        out: list[Field] = []
        for field in self.fields:
            if field[0].lower() != lower:
                out.append(field)
            elif new:
                out.append((field[0], new.pop(0)[1]))
        self.fields = (*out, *new)

    def add(self, name: str | bytes, value: str | bytes) -> None:
        self.fields = (*self.fields, (to_bytes(name), to_bytes(value)))

    def insert(self, index: int, name: str | bytes, value: str | bytes) -> None:
        fields = list(self.fields)
        fields.insert(index, (to_bytes(name), to_bytes(value)))
        self.fields = tuple(fields)

    def copy(self) -> Headers:
        return Headers(self.fields)

    def __getitem__(self, name: str | bytes) -> str:
        values = self.get_all(name)
        if not values:
            raise KeyError(name)
        return ", ".join(values)

    def __setitem__(self, name: str | bytes, value: str | bytes) -> None:
        self.set_all(name, [value])

    def __delitem__(self, name: str | bytes) -> None:
        lower = to_bytes(name).lower()
        kept = tuple(field for field in self.fields if field[0].lower() != lower)
        if len(kept) == len(self.fields):
            raise KeyError(name)
        self.fields = kept

    def __contains__(self, name: object) -> bool:
        return isinstance(name, (str, bytes)) and self.first(to_bytes(name).lower()) is not None

    def __iter__(self) -> Iterator[str]:
        seen: set[bytes] = set()
        for name, _ in self.fields:
            lower = name.lower()
            if lower not in seen:
                seen.add(lower)
                yield to_text(name)

    def __len__(self) -> int:
        return len({name.lower() for name, _ in self.fields})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and self.fields == other.fields

    def __bytes__(self) -> bytes:
        return b"".join(b"%b: %b\r\n" % field for field in self.fields)

    def __repr__(self) -> str:
        return f"Headers({list(self.fields)!r})"
