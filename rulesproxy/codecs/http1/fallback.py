"""Heads that the strict grammar does not accept: h11 must accept them, and then our policy must agree.

h11 is the authority on what a valid message is. It is lenient in places where RFC 9112 leaves the choice to the
recipient, and this is what we choose:

* bare LF as a line end: refused in requests (the safe choice), accepted in responses (§2.2 allows it);
* obs-fold: refused in requests, replaced by SP in responses (§5.2);
* HTTP/1.2 to HTTP/1.9: taken as HTTP/1.1 (RFC 9110 §2.5); another major version is refused;
* control characters in values, which h11 lets pass, are refused.

What comes out is written anew by our serializer, so no leniency is ever handed on.
"""

from __future__ import annotations

import re

import h11

from rulesproxy.codecs.http1.fields import parse_fields
from rulesproxy.codecs.http1.grammar import ANY_REQUEST_LINE, BARE_LF, FIELD_VALUE
from rulesproxy.codecs.http1.messages import Limits, ProtocolError
from rulesproxy.model.headers import Fields

# The first that is found names the fault; h11's own words may quote what was received.
_FAULTS: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"\x00"), "a NUL character in the head"),
    (re.compile(rb"\r(?!\n)"), "a bare CR in the head"),  # RFC 9112 §2.2
    (re.compile(rb"\n[ \t]"), "a folded field line"),  # RFC 9112 §5.2
    (re.compile(rb"\n[^:\r\n]*[ \t]:"), "whitespace in or after a field name"),  # RFC 9112 §5.1
    (re.compile(rb"\n:"), "a field without a name"),
    (re.compile(rb"\n[^:\r\n]+\r?\n"), "a field line without a colon"),
    (re.compile(rb"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]"), "a control character in the head"),
)
# What clients do that do not encode their URLs (RFC 9112 §3.2); the second one needs a version to be told from noise.
_LINE_FAULTS: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"[^\r\n]*[\x80-\xff]"), "a character in the request target that must be percent-encoded"),
    (re.compile(rb"[!-~]+ [^\r\n ]+ [^\r\n]* HTTP/[0-9.]+\r\n"), "a space in the request target"),
)
_FOLD = re.compile(rb"\r?\n[ \t]++")
_LINE_END = re.compile(rb"\r?\n")


def request_head(raw: bytes, limits: Limits) -> tuple[str, str, str, Fields]:
    """`(method, target, version, fields)`. Raises ProtocolError."""
    if BARE_LF.search(raw):
        raise ProtocolError(400, "a line that does not end in CRLF")
    if re.search(rb"\r\n[ \t]", raw):
        raise ProtocolError(400, "a folded field line")
    line = ANY_REQUEST_LINE.match(raw)
    if line is None:
        fault = next((message for pattern, message in _LINE_FAULTS if pattern.match(raw)), "")
        raise ProtocolError(400, fault or _fault(raw, "request"))
    if line[1] != b"1":
        raise ProtocolError(505, "the HTTP version is not supported")
    conn = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head)
    try:
        conn.receive_data(raw)
        event = conn.next_event()
    except h11.RemoteProtocolError as exc:
        # 501 is h11's word on a transfer coding; everything else it finds wrong is a plain bad request.
        raise ProtocolError(501 if exc.error_status_hint == 501 else 400, _fault(raw, "request")) from None
    if not isinstance(event, h11.Request):
        raise ProtocolError(400, _fault(raw, "request"))
    http_version = _version(event.http_version, 400)
    return event.method.decode("ascii"), event.target.decode("ascii"), http_version, _fields(raw, 400)


def response_head(raw: bytes, limits: Limits) -> tuple[int, bytes, str, Fields]:
    """`(status, reason, version, fields)`. Raises ProtocolError."""
    conn = h11.Connection(h11.CLIENT, max_incomplete_event_size=limits.head)
    # h11 wants to know the question. This one makes every status possible, 101 too; framing is not h11's to decide.
    conn.send(h11.Request(method="GET", target="/", headers=[
        ("Host", "x"), ("Connection", "upgrade"), ("Upgrade", "x")]))
    conn.send(h11.EndOfMessage())
    try:
        conn.receive_data(raw)
        event = conn.next_event()
    except h11.RemoteProtocolError:
        raise ProtocolError(502, _fault(raw, "response")) from None
    if not isinstance(event, h11.Response | h11.InformationalResponse):
        raise ProtocolError(502, _fault(raw, "response"))
    reason = bytes(event.reason)
    if not FIELD_VALUE.match(reason):
        raise ProtocolError(502, _fault(raw, "response"))
    return event.status_code, reason, _version(event.http_version, 502), _fields(raw, 502)


def _fields(raw: bytes, status: int) -> Fields:
    """The fields of a head h11 accepted, read by our grammar: h11 folds repeated Content-Length into one."""
    lines = _LINE_END.sub(b"\r\n", _FOLD.sub(b" ", raw))
    fields = parse_fields(lines, lines.index(b"\n") + 1, len(lines) - 2)
    if fields is None:
        raise ProtocolError(status, "an illegal character in a field")
    return fields


def _version(version: bytes, status: int) -> str:
    if not version.startswith(b"1."):
        raise ProtocolError(status, "the HTTP version is not supported")
    return "HTTP/1.0" if version == b"1.0" else "HTTP/1.1"


def _fault(raw: bytes, what: str) -> str:
    for pattern, message in _FAULTS:
        if pattern.search(raw):
            return message
    return f"not an HTTP/1 {what}"
