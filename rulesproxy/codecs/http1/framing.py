"""Where a message ends and whether its connection lives on: RFC 9112 §6 and §9.3, decided in one place.

In: version, status or method, and the fields, whichever parser read them. Out: framing and connection facts, or
ProtocolError. Anything two implementations might read differently is refused: that is what smuggling is made of.
"""

from __future__ import annotations

from rulesproxy.codecs.http1.messages import (
    BODY_UNTIL_CLOSE,
    CHUNKED_BODY,
    NO_BODY,
    Framing,
    FramingKind,
    ProtocolError,
)
from rulesproxy.model.headers import Fields

_LENGTH = FramingKind.LENGTH
_MAX_LENGTH = 2**63 - 1
_MAX_DIGITS = 19
_REQUEST_NAMES = frozenset((b"host", b"content-length", b"transfer-encoding", b"connection", b"expect"))
_RESPONSE_NAMES = frozenset((b"content-length", b"transfer-encoding", b"connection"))
_BODYLESS_STATUS = frozenset((204, 304))

#: Names, as spelled, that have no say here: most lines of most heads. Bounded, for names come from the network.
_bystanders: set[bytes] = set()
_BYSTANDERS_MAX = 4096
_BYSTANDER_LENGTH = 64


def _remember(name: bytes) -> None:
    if len(_bystanders) < _BYSTANDERS_MAX and len(name) <= _BYSTANDER_LENGTH:
        _bystanders.add(name)


def frame_request(method: str, version: str, fields: Fields) -> tuple[
        Framing, bool, bool, bytes | None, bytes | None]:
    """Framing, whether the client wants another exchange, whether it waits for 100-continue, the Host value, and the
    Connection fields, joined."""
    host = length = coding = connection = None
    expect_continue = False
    for name, value in fields:
        if name in _bystanders:
            continue
        key = name.lower()
        if key not in _REQUEST_NAMES:
            _remember(name)
            continue
        if key == b"host":
            if host is not None:  # RFC 9112 §3.2
                raise ProtocolError(400, "more than one Host field")
            host = value
        elif key == b"content-length":
            length = _only(length, value, 400)
        elif key == b"transfer-encoding":
            coding = _joined(coding, value)
        elif key == b"connection":
            connection = _joined(connection, value)
        elif value.lower() == b"100-continue":
            expect_continue = True
    modern = version == "HTTP/1.1"
    if host is None and modern:  # RFC 9112 §3.2
        raise ProtocolError(400, "a Host field is required")
    if length is None and coding is None:
        framing = NO_BODY
    else:
        framing = _body(length, coding, modern, is_request=True)
        if method == "CONNECT" and framing != (FramingKind.LENGTH, 0):  # RFC 9110 §9.3.6: what follows is the tunnel
            raise ProtocolError(400, "a CONNECT request cannot have a body")
    # RFC 9112 §9.3: a proxy does not keep a connection with an HTTP/1.0 client.
    keep_alive = modern and (connection is None or not _has_option(connection, b"close"))
    return framing, keep_alive, expect_continue and modern, host, connection


def frame_response(request_method: str, status: int, version: str, fields: Fields) -> tuple[
        Framing, bool, bytes | None]:
    """Framing, whether the server keeps the connection open, and its Connection fields, joined."""
    length = coding = connection = None
    for name, value in fields:
        if name in _bystanders:
            continue
        key = name.lower()
        if key not in _RESPONSE_NAMES:
            if key not in _REQUEST_NAMES:
                _remember(name)
            continue
        if key == b"content-length":
            length = _only(length, value, 502)
        elif key == b"transfer-encoding":
            coding = _joined(coding, value)
        else:
            connection = _joined(connection, value)
    modern = version == "HTTP/1.1"
    if length is None and coding is None:
        framing = BODY_UNTIL_CLOSE
    else:
        framing = _body(length, coding, modern, is_request=False)
    opens_tunnel = request_method == "CONNECT" and status < 300  # RFC 9112 §6.3, 2
    if status < 200 or status in _BODYLESS_STATUS or request_method == "HEAD" or opens_tunnel:  # RFC 9112 §6.3, 1
        framing = NO_BODY
    if framing is BODY_UNTIL_CLOSE:
        return framing, False, connection
    if connection is None:
        return framing, modern, None
    keep_alive = modern or _has_option(connection, b"keep-alive")
    return framing, keep_alive and not _has_option(connection, b"close"), connection


def _body(length: bytes | None, coding: bytes | None, modern: bool, *, is_request: bool) -> Framing:
    status = 400 if is_request else 502
    if coding is not None:
        if not modern:  # RFC 9112 §6.1
            raise ProtocolError(status, "Transfer-Encoding in an HTTP/1.0 message")
        if length is not None:  # RFC 9112 §6.1: ought to be handled as an error
            raise ProtocolError(status, "both Content-Length and Transfer-Encoding")
        if coding.lower() != b"chunked":
            raise _coding_error(coding, is_request)
        return CHUNKED_BODY
    if length is None or not length.isdigit() or len(length) > _MAX_DIGITS:  # RFC 9110 §8.6; `5, 5` is refused as well
        raise ProtocolError(status, "Content-Length is not a number")
    size = int(length)
    if size > _MAX_LENGTH:
        raise ProtocolError(status, "Content-Length is too large")
    return Framing(_LENGTH, size)


def _coding_error(coding: bytes, is_request: bool) -> ProtocolError:
    names = [part.strip(b" \t").lower() for part in coding.split(b",")]
    if is_request and names[-1] == b"chunked" and names.count(b"chunked") == 1 and all(names):
        return ProtocolError(501, "a transfer coding other than chunked")  # RFC 9112 §6.1
    return ProtocolError(400 if is_request else 502, "Transfer-Encoding is not chunked")  # RFC 9112 §6.3, 4


def _only(seen: bytes | None, value: bytes, status: int) -> bytes:
    # RFC 9112 §6.3, 5 would allow equal repeats; refusing them leaves nothing to disagree about.
    if seen is not None:
        raise ProtocolError(status, "more than one Content-Length field")
    return value


def _joined(seen: bytes | None, value: bytes) -> bytes:
    return value if seen is None else seen + b"," + value


def _has_option(connection: bytes, option: bytes) -> bool:
    options = connection.lower()
    if options == option:
        return True
    return option in options and any(part.strip(b" \t") == option for part in options.split(b","))
