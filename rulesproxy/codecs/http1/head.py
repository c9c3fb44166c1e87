"""Message heads: the strict fast path, with h11 as the second opinion on everything it does not accept.

In: a buffer and the span of one head, blank line included. Out: a head with its framing decided, or ProtocolError.
One regular expression reads the start line, one `findall` all field lines. What they do not accept goes to
`fallback`. Limits are checked here, so they also hold for a head that arrives in one read.
"""

from __future__ import annotations

from http import HTTPStatus

from rulesproxy.codecs.http1 import fallback
from rulesproxy.codecs.http1.fields import parse_fields
from rulesproxy.codecs.http1.framing import frame_request, frame_response
from rulesproxy.codecs.http1.grammar import REQUEST_LINE, STATUS_LINE
from rulesproxy.codecs.http1.messages import Limits, ProtocolError, RequestHead, ResponseHead
from rulesproxy.model.headers import Fields, to_text

_METHODS = {name.encode(): name for name in (
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")}
_REASONS = {status.phrase.encode(): status.phrase for status in HTTPStatus}
_VERSIONS = {b"1": "HTTP/1.1", b"0": "HTTP/1.0"}


def parse_request_head(buf: bytes | bytearray, start: int, end: int, limits: Limits) -> RequestHead:
    if end - start > limits.request_line and buf.find(b"\n", start, start + limits.request_line + 2) < 0:
        raise ProtocolError(414, "the request line is too long")
    if end - start > limits.head:
        raise ProtocolError(431, "the request head is too large")
    line = REQUEST_LINE.match(buf, start, end)
    fields = parse_fields(buf, line.end(), end - 2) if line is not None else None
    if line is None or fields is None:
        method, target, version, fields = fallback.request_head(bytes(buf[start:end]), limits)
    else:
        raw_method, raw_target, minor = line.groups()
        method = _METHODS.get(raw_method) or raw_method.decode("ascii")
        target = raw_target.decode("ascii")
        version = _VERSIONS[minor]
    if len(fields) > limits.fields:
        raise ProtocolError(431, "too many header fields")
    framing, keep_alive, expect_continue, host, connection = frame_request(method, version, fields)
    return RequestHead(method, target, version, fields, framing, keep_alive, expect_continue, host, connection)


def parse_response_head(buf: bytes | bytearray, start: int, end: int, request_method: str,
                        limits: Limits) -> ResponseHead | None:
    """None if the fast path does not accept it: the head may then end earlier, see `parse_odd_response_head`."""
    line = STATUS_LINE.match(buf, start, end)
    fields = parse_fields(buf, line.end(), end - 2) if line is not None else None
    if line is None or fields is None:
        return None
    minor, code, raw_reason = line.groups()
    reason = _REASONS.get(raw_reason) or to_text(raw_reason or b"")
    return _response(int(code), reason, _VERSIONS[minor], fields, request_method, limits)


def parse_odd_response_head(raw: bytes, request_method: str, limits: Limits) -> ResponseHead:
    status, reason, version, fields = fallback.response_head(raw, limits)
    return _response(status, to_text(reason), version, fields, request_method, limits)


def _response(status: int, reason: str, version: str, fields: Fields, request_method: str,
              limits: Limits) -> ResponseHead:
    if len(fields) > limits.fields:
        raise ProtocolError(502, "too many header fields")
    framing, keep_alive, connection = frame_response(request_method, status, version, fields)
    return ResponseHead(status, reason, version, fields, framing, keep_alive, connection)
