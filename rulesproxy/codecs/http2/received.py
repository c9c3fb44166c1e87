"""HTTP/2 header blocks as they arrived → heads that are valid in every version of HTTP.

In: the decoded fields of one block (RFC 9113 §8.3), in order. Out: the same `RequestHead` and `ResponseHead` that the
HTTP/1 codec hands out, or an error: MalformedMessage for what resets the stream, ProtocolError with another status for
what is answered. A message may go on over HTTP/1, so everything in it must be HTTP/1 grammar (RFC 9113 §10.3); `:path`
and `:authority` become an absolute target and `Host`, which is the first field. It knows nothing of streams and frames.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from rulesproxy.codecs.http1 import Framing, FramingKind, Limits, ProtocolError, RequestHead, ResponseHead
from rulesproxy.codecs.http2.errors import MalformedMessage
from rulesproxy.model.headers import Field, Fields
from rulesproxy.model.http import reason_phrase

VERSION = "HTTP/2.0"

_NO_BODY = Framing(FramingKind.NONE, 0)
_EMPTY = Framing(FramingKind.LENGTH, 0)
#: The end is known only when it comes, and trailers are possible.
_UNKNOWN_LENGTH = Framing(FramingKind.CHUNKED, 0)

_METHOD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
_PATH = re.compile(rb"/[\x21-\x7e]*\Z")
_AUTHORITY = re.compile(rb"[0-9A-Za-z._\-\[\]:]+\Z")  # no user information: RFC 9113 §8.3.1
_STATUS = re.compile(rb"[1-9][0-9][0-9]\Z")
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+\Z")  # RFC 9113 §8.2: in lower case
_VALUE = re.compile(rb"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?\Z")  # RFC 9113 §8.2.1

_REQUEST_PSEUDO = frozenset((b":method", b":scheme", b":authority", b":path", b":protocol"))
_RESPONSE_PSEUDO = frozenset((b":status",))
_NO_PSEUDO: frozenset[bytes] = frozenset()
#: RFC 9113 §8.2.2
_CONNECTION_SPECIFIC = frozenset((b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"))
_WITH_A_SAY = _CONNECTION_SPECIFIC | {b"te", b"host", b"content-length", b"cookie", b"expect"}
_ENTRY_OVERHEAD = 32  # RFC 9113 §6.5.2, SETTINGS_MAX_HEADER_LIST_SIZE
_MAX_LENGTH = 2**63 - 1

#: Names that were found valid and have no say here. Bounded in number and size: names come from the network.
_bystanders: set[bytes] = set()
_BYSTANDERS_MAX = 4096
_BYSTANDER_LENGTH = 64


class ReceivedRequest(NamedTuple):
    """`protocol` is what an extended CONNECT asks for (RFC 8441 §4); the head is then that of a GET."""

    head: RequestHead
    protocol: bytes | None = None


def parse_request(block: Iterable[Field], ended: bool, limits: Limits) -> ReceivedRequest:
    """`ended`: the block carries END_STREAM. Raises ProtocolError."""
    pseudo, lines = _split(block, _REQUEST_PSEUDO, limits, 431)
    method = pseudo.get(b":method")
    if method is None or not _METHOD.match(method):
        raise MalformedMessage("no valid :method")
    fields, say = _judged(lines, 400)
    authority = _authority(pseudo.get(b":authority"), say.get(b"host"))
    protocol = pseudo.get(b":protocol")
    if method == b"CONNECT" and protocol is None:
        if b":scheme" in pseudo or b":path" in pseudo:  # RFC 9113 §8.5
            raise MalformedMessage("a CONNECT with :scheme or :path")
        if b"content-length" in say:
            raise MalformedMessage("a CONNECT with a content-length")
        target, framing = authority, _NO_BODY
    else:
        target = _target(method, pseudo, authority, limits)
        framing = _request_framing(say.get(b"content-length"), ended)
    if protocol is not None and method != b"CONNECT":
        raise MalformedMessage(":protocol without CONNECT")
    host = authority.encode("ascii")
    head = RequestHead(method.decode("ascii"), target, VERSION, ((b"Host", host), *fields), framing, True,
                       say.get(b"expect", b"").lower() == b"100-continue", host)
    return ReceivedRequest(head, protocol)


def as_upgrade(head: RequestHead, key: bytes) -> RequestHead:
    """An extended CONNECT for WebSocket as the upgrade request that asks for the same over HTTP/1 (RFC 8441 §5)."""
    kept = [field for field in head.fields[1:] if field[0] not in (b"sec-websocket-key", b"content-length")]
    if not any(name == b"sec-websocket-version" for name, _ in kept):
        kept.append((b"Sec-WebSocket-Version", b"13"))
    fields = (head.fields[0], (b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"), (b"Sec-WebSocket-Key", key),
              *kept)
    return RequestHead("GET", head.target, head.version, fields, _NO_BODY, True, False, head.host, b"Upgrade")


def parse_response(block: Iterable[Field], ended: bool, method: str, limits: Limits) -> ResponseHead:
    """The head of an answer to a `method` request, 1xx included. Raises MalformedMessage with status 502."""
    try:
        pseudo, lines = _split(block, _RESPONSE_PSEUDO, limits, 502)
        code = pseudo.get(b":status")
        if code is None or not _STATUS.match(code) or code == b"101":  # RFC 9113 §8.6: there is no 101
            raise MalformedMessage("no valid :status")
        status = int(code)
        if status < 200 and ended:  # RFC 9113 §8.1
            raise MalformedMessage("an interim answer that ends the stream")
        fields, say = _judged(lines, 502)
        length = _length(say.get(b"content-length"))
        if status < 200 or status in (204, 304) or method == "HEAD":
            framing = _NO_BODY
        elif length is not None:
            if ended and length:
                raise MalformedMessage("no body, but a content-length")
            framing = Framing(FramingKind.LENGTH, length)
        elif ended:  # what is not said in HTTP/2 must be said in HTTP/1
            framing = _EMPTY
            fields = (*fields, (b"content-length", b"0"))
        else:
            framing = _UNKNOWN_LENGTH
    except MalformedMessage as exc:
        raise MalformedMessage(exc.message, 502) from None
    return ResponseHead(status, reason_phrase(status), VERSION, fields, framing, True)


def parse_trailers(block: Iterable[Field], limits: Limits) -> Fields:
    """Raises ProtocolError."""
    _, lines = _split(block, _NO_PSEUDO, limits, 431)
    fields, _ = _judged(lines, 400)
    return fields


def _split(block: Iterable[Field], allowed: frozenset[bytes], limits: Limits, status: int) -> tuple[
        dict[bytes, bytes], list[Field]]:
    """Pseudo-header fields and the others, in bounds."""
    pseudo: dict[bytes, bytes] = {}
    lines: list[Field] = []
    size = 0
    for name, value in block:
        size += len(name) + len(value) + _ENTRY_OVERHEAD
        if name[:1] == b":":
            if lines or name in pseudo or name not in allowed:  # RFC 9113 §8.3
                raise MalformedMessage("a pseudo-header field that is repeated, unknown or out of place")
            pseudo[name] = value
        else:
            lines.append((name, value))
    if size > limits.head + _ENTRY_OVERHEAD or len(lines) > limits.fields:
        raise ProtocolError(status, "the header block is too large")
    return pseudo, lines


def _judged(lines: list[Field], status: int) -> tuple[Fields, dict[bytes, bytes]]:
    """The lines as fields, without Host and with the crumbs of Cookie joined, and the values of those with a say."""
    fields: list[Field] = []
    say: dict[bytes, bytes] = {}
    crumbs = -1
    for name, value in lines:
        if not _VALUE.match(value):
            raise MalformedMessage("an illegal field value")
        if name in _bystanders:
            fields.append((name, value))
            continue
        if name not in _WITH_A_SAY:
            if not _NAME.match(name):
                raise MalformedMessage("an illegal field name")
            if len(_bystanders) < _BYSTANDERS_MAX and len(name) <= _BYSTANDER_LENGTH:
                _bystanders.add(name)
        elif name in _CONNECTION_SPECIFIC or (name == b"te" and value.lower() != b"trailers"):  # RFC 9113 §8.2.2
            raise MalformedMessage("a connection-specific field")
        elif name == b"cookie" and crumbs >= 0:  # RFC 9113 §8.2.3
            fields[crumbs] = (name, fields[crumbs][1] + b"; " + value)
            continue
        else:
            if name == b"cookie":
                crumbs = len(fields)
            elif name in say and name != b"expect":
                raise MalformedMessage("a repeated field that must stand alone")
            say[name] = value
            if name == b"host":
                continue
        fields.append((name, value))
    return tuple(fields), say


def _authority(authority: bytes | None, host: bytes | None) -> str:
    """RFC 9113 §8.3.1: one of the two, or both the same."""
    value = host if authority is None else authority
    if value is None or not _AUTHORITY.match(value):
        raise MalformedMessage("no valid :authority")
    if host is not None and host.lower() != value.lower():
        raise MalformedMessage(":authority and host differ")
    return value.decode("ascii")


def _target(method: bytes, pseudo: dict[bytes, bytes], authority: str, limits: Limits) -> str:
    scheme, path = pseudo.get(b":scheme", b"").lower(), pseudo.get(b":path", b"")
    if scheme not in (b"http", b"https"):
        raise MalformedMessage("no valid :scheme")
    if len(path) > limits.request_line:
        raise ProtocolError(414, "the path is too long")
    if path == b"*" and method == b"OPTIONS":
        return f"{scheme.decode('ascii')}://{authority}"  # RFC 9112 §3.2.4
    if not _PATH.match(path):
        raise MalformedMessage("no valid :path")
    return f"{scheme.decode('ascii')}://{authority}{path.decode('ascii')}"


def _request_framing(content_length: bytes | None, ended: bool) -> Framing:
    length = _length(content_length)
    if length is None:
        return _NO_BODY if ended else _UNKNOWN_LENGTH
    if ended and length:
        raise MalformedMessage("no body, but a content-length")
    return Framing(FramingKind.LENGTH, length)


def _length(value: bytes | None) -> int | None:
    if value is None:
        return None
    if not value.isdigit() or len(value) > 19 or int(value) > _MAX_LENGTH:
        raise MalformedMessage("content-length is not a number")
    return int(value)
