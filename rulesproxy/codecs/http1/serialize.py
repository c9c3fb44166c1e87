"""Heads and chunks as bytes, every name and value checked on the way out.

In: start line parts and fields as an addon or a translation from HTTP/2 left them. Out: bytes in which only our own
line ends occur, or ProtocolError. Field order and case stay as given. Framing is the caller's business.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter

from rulesproxy.codecs.http1.grammar import METHOD, REQUEST_TARGET, TOKEN
from rulesproxy.codecs.http1.messages import ProtocolError
from rulesproxy.model.headers import Field, to_bytes

_CONTROLS = bytes(code for code in (*range(0x20), 0x7F) if code not in b"\t")
_names = itemgetter(0)
_KNOWN_NAME_LENGTH = 64
_KNOWN_NAMES_MAX = 4096
#: Names that were checked before. Bounded in number and size: names come from the network.
_known_names: set[bytes] = set()
_VERSIONS = frozenset(("HTTP/1.1", "HTTP/1.0"))


def serialize_request(method: str, target: str, fields: Iterable[Field], version: str = "HTTP/1.1") -> bytes:
    """The request head, blank line included. Raises ProtocolError(500) for anything illegal."""
    if not METHOD.match(method) or not REQUEST_TARGET.match(target) or version not in _VERSIONS:
        raise ProtocolError(500, "an illegal request line")
    return _block(f"{method} {target} {version}".encode("ascii"), fields)


def serialize_response(status: int, reason: str, fields: Iterable[Field], version: str = "HTTP/1.1") -> bytes:
    """The response head, blank line included. Raises ProtocolError(500) for anything illegal."""
    if not 100 <= status <= 999 or version not in _VERSIONS:
        raise ProtocolError(500, "an illegal status line")
    return _block(b"%b %d %b" % (version.encode("ascii"), status, to_bytes(reason)), fields)


def encode_chunk(data: bytes) -> bytes:
    """One chunk; nothing for no data, because an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def encode_last_chunk(trailers: Iterable[Field] = ()) -> bytes:
    """The end of a chunked body. Raises ProtocolError(500) for illegal trailers."""
    return _block(b"0", trailers)


def _block(start: bytes, fields: Iterable[Field]) -> bytes:
    lines = fields if isinstance(fields, tuple | list) else list(fields)
    if not _known_names.issuperset(map(_names, lines)):
        _check_names(lines)
    block = b"\r\n".join((start, *map(b": ".join, lines), b"\r\n"))
    # No more control characters than the line ends we put in ourselves: no value and no start line brought its own.
    if len(block) - len(block.translate(None, _CONTROLS)) != 2 * len(lines) + 4:
        raise ProtocolError(500, "an illegal character in a message head")
    return block


def _check_names(lines: Iterable[Field]) -> None:
    for name, _ in lines:
        if not TOKEN.match(name):
            raise ProtocolError(500, "an illegal field name")
        if len(name) <= _KNOWN_NAME_LENGTH and len(_known_names) < _KNOWN_NAMES_MAX:
            _known_names.add(name)
