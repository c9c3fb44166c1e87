"""Messages → HTTP/2 header blocks, every name and value checked on the way out.

In: what an exchange wants to send, with the fields HTTP/1 would have. Out: the fields of one block in lower case,
pseudo-header fields first, without what belongs to an HTTP/1 connection (RFC 9113 §8.2.2), or ProtocolError(500).
Secrets are marked so that no compression state ever holds them (RFC 7541 §7.1.3).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from hpack import NeverIndexedHeaderTuple

from rulesproxy.codecs.http1 import ProtocolError
from rulesproxy.model.headers import Field

_METHOD = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
_TARGET = re.compile(r"[\x21-\x7e]+\Z")
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+\Z")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
#: They say where an HTTP/1 message ends or what becomes of its connection.
_NOT_HERE = frozenset((b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade",
                       b"http2-settings", b"host", b"close"))
_SECRET = frozenset((b"authorization", b"proxy-authorization"))
_SHORT_COOKIE = 20  # shorter ones can be guessed byte by byte

#: Names as spelled and as they are sent; None for those that are not. Bounded: names may come from the network.
_known: dict[bytes, bytes | None] = {}
_KNOWN_MAX = 4096
_KNOWN_LENGTH = 64


def request_block(method: str, scheme: str, authority: bytes, path: str, fields: Iterable[Field]) -> list[Field]:
    if not _METHOD.match(method) or not _TARGET.match(path) or not authority or _CONTROL.search(authority):
        raise ProtocolError(500, "an illegal request line")
    return [(b":method", method.encode("ascii")), (b":scheme", scheme.encode("ascii")), (b":authority", authority),
            (b":path", path.encode("ascii")), *_lines(fields)]


def response_block(status: int, fields: Iterable[Field]) -> list[Field]:
    if not 100 <= status <= 999:
        raise ProtocolError(500, "an illegal status")
    return [(b":status", b"%d" % status), *_lines(fields)]


def trailer_block(fields: Iterable[Field]) -> list[Field]:
    return _lines(fields)


def _lines(fields: Iterable[Field]) -> list[Field]:
    lines: list[Field] = []
    for spelled, value in fields:
        try:
            name = _known[spelled]
        except KeyError:
            name = _learn(spelled)
        if name is None or (name == b"te" and value.lower() != b"trailers"):
            continue
        if _CONTROL.search(value):
            raise ProtocolError(500, "an illegal character in a field value")
        value = value.strip(b" \t")  # RFC 9113 §8.2.1
        if name in _SECRET or (name == b"cookie" and len(value) < _SHORT_COOKIE):
            lines.append(NeverIndexedHeaderTuple(name, value))
        else:
            lines.append((name, value))
    return lines


def _learn(spelled: bytes) -> bytes | None:
    name: bytes | None = spelled.lower()
    if name in _NOT_HERE:
        name = None
    elif name is None or not _NAME.match(name):
        raise ProtocolError(500, "an illegal field name")
    if len(_known) < _KNOWN_MAX and len(spelled) <= _KNOWN_LENGTH:
        _known[spelled] = name
    return name
