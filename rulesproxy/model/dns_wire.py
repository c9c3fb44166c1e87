"""DNS names and record data between wire form and text: what `model.dns` is built of.

A name is text in master-file form without the final dot (`www.example.com`; the root is `.`); octets that are not
plain are escaped as dnspython does (`a\\.b`, `\\255`). Record data is held uncompressed, so that a record can be
moved from one message to another.
"""

from __future__ import annotations

import re
import struct

import dns.exception
import dns.name

from rulesproxy.model.dns_types import types

_PLAIN = re.compile(rb"[A-Za-z0-9_-]+\Z")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?\Z")
_NAME_LIMIT = 255  # RFC 1035 §3.1, octets on the wire


class DNSError(ValueError):
    """The bytes are not a DNS message, or a value has no wire form."""


def read_name(wire: bytes, offset: int) -> tuple[str, int]:
    """The name at `offset` and the offset behind it. Raises DNSError."""
    labels, after = read_labels(wire, offset)
    if all(map(_PLAIN.match, labels)):
        return b".".join(labels).decode("ascii") or ".", after
    return dns.name.Name(labels).to_text(omit_final_dot=True), after


def read_labels(wire: bytes, offset: int) -> tuple[list[bytes], int]:
    """The labels of the name at `offset`, without the root, and the offset behind it. Raises DNSError."""
    labels: list[bytes] = []
    size, after, lowest = 1, -1, offset
    try:
        while length := wire[offset]:
            if length < 0x40:
                label = wire[offset + 1:offset + 1 + length]
                size += 1 + length
                if size > _NAME_LIMIT or len(label) < length:
                    raise DNSError("a name is too long or cut short")
                labels.append(label)
                offset += 1 + length
            elif length >= 0xC0:
                target = (length & 0x3F) << 8 | wire[offset + 1]
                if after < 0:
                    after = offset + 2
                # RFC 1035 §4.1.4: a pointer names a prior occurrence, so each one must lead further back: no loops.
                if target >= lowest or target < 12:
                    raise DNSError("a compression pointer does not lead back to a name")
                lowest = offset = target
            else:
                raise DNSError("a name has a label of an unknown kind")
    except IndexError:
        raise DNSError("a name is cut short") from None
    return labels, offset + 1 if after < 0 else after


def pack_name(name: str) -> bytes:
    """The uncompressed wire form. Non-ASCII text becomes A-labels. Raises DNSError."""
    if _PLAIN_NAME.match(name) and len(name) < 254:
        return b"".join([bytes((len(label),)) + label.encode("ascii") for label in name.split(".") if label]) + b"\0"
    try:
        return dns.name.from_text(name, origin=dns.name.root).to_wire() or b"\0"
    except (dns.exception.DNSException, UnicodeError) as exc:
        raise DNSError(f"{name!r} is not a DNS name: {exc}") from None


_FOLD = bytes(code + 32 if 0x41 <= code <= 0x5A else code for code in range(256))


def fold(name: str) -> str:
    """The name as it compares: ASCII letters in lower case (RFC 4343), no final dot."""
    lower = name.lower() if name.isascii() else name.encode().translate(_FOLD).decode()
    return lower[:-1] if len(lower) > 1 and lower.endswith(".") and not lower.endswith("\\.") else lower


#: Where names stand in record data that may arrive compressed: octets in front, then how many names (RFC 3597 §4).
_NAMES_IN_DATA = {
    types.NS: (0, 1), types.MD: (0, 1), types.MF: (0, 1), types.CNAME: (0, 1), types.SOA: (0, 2), types.MB: (0, 1),
    types.MG: (0, 1), types.MR: (0, 1), types.PTR: (0, 1), types.MINFO: (0, 2), types.MX: (2, 1), types.RP: (0, 2),
    types.AFSDB: (2, 1), types.RT: (2, 1), types.SIG: (18, 1), types.PX: (2, 2), types.NXT: (0, 1),
    types.SRV: (6, 1), types.KX: (2, 1), types.DNAME: (0, 1),
}


def read_data(wire: bytes, offset: int, length: int, type_: int) -> bytes:
    """Record data with its names uncompressed. Data that does not parse is handed through as it is."""
    data = wire[offset:offset + length]
    known = _NAMES_IN_DATA.get(type_)
    if type_ == types.NAPTR:
        known = _naptr_layout(data)
    if known is None:
        return data
    front, count = known
    end = offset + length
    position = offset + front
    parts = [wire[offset:position]]
    try:
        for _ in range(count):
            labels, position = read_labels(wire, position)
            if position > end:
                return data
            parts.append(join_labels(labels))
    except DNSError:
        return data
    parts.append(wire[position:end])
    return b"".join(parts)


def _naptr_layout(data: bytes) -> tuple[int, int] | None:
    position = 4
    for _ in range(3):  # RFC 3403 §4.1: flags, services and regexp are character strings
        if position >= len(data):
            return None
        position += 1 + data[position]
    return position, 1


def join_labels(labels: list[bytes]) -> bytes:
    return b"".join([bytes((len(label),)) + label for label in labels]) + b"\0"


def read_strings(data: bytes) -> list[bytes]:
    """The character strings of TXT data (RFC 1035 §3.3). Raises DNSError."""
    strings, position = [], 0
    while position < len(data):
        length = data[position]
        string = data[position + 1:position + 1 + length]
        if len(string) < length:
            raise DNSError("a character string is cut short")
        strings.append(string)
        position += 1 + length
    return strings


def pack_strings(text: bytes) -> bytes:
    """TXT data: the text in as many character strings of at most 255 octets as it needs."""
    pieces = [text[i:i + 255] for i in range(0, len(text), 255)] or [b""]
    return b"".join([bytes((len(piece),)) + piece for piece in pieces])


class NameWriter:
    """Writes owner names into one growing message, pointing back to earlier ones (RFC 1035 §4.1.4).

    Suffixes match with their case, so that compression never changes what a name looks like.
    """

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: dict[bytes, int] = {}

    def write(self, out: bytearray, name: str) -> None:
        wire = pack_name(name)
        position = 0
        while wire[position]:
            target = self._seen.get(wire[position:])
            if target is not None:
                out += struct.pack("!H", 0xC000 | target)
                return
            if len(out) < 0x4000:
                self._seen[wire[position:]] = len(out)
            end = position + 1 + wire[position]
            out += wire[position:end]
            position = end
        out.append(0)
