"""Which protocol a client speaks, from as few of its first bytes as decide it.

In: the bytes so far. Out: a `Protocol`, or None while more bytes could change the answer.
"""

from __future__ import annotations

import enum
import re

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # RFC 9113 §3.4
_LONGEST_LINE = 16 * 1024  # the limit of a request line
_METHOD_START = re.compile(rb"(?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH) ")
_REQUEST_START = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}+)(?: ([\x21-\x7e]++)?(?: ([HTP/0-9.]{0,8}+)?)?)?")


class Protocol(enum.Enum):
    TLS = "tls"
    HTTP1 = "http1"
    HTTP2 = "http2"
    OTHER = "other"


def detect(prefix: bytes) -> Protocol | None:
    """None needs more bytes."""
    if not prefix:
        return None
    if prefix[0] == 0x16:  # a TLS handshake record, version 3.x (RFC 8446 §5.1)
        if len(prefix) == 1:
            return None
        return Protocol.TLS if prefix[1] == 3 else Protocol.OTHER
    if _METHOD_START.match(prefix):
        return Protocol.HTTP1
    if prefix.startswith(b"PRI * HTTP/2"):
        return Protocol.HTTP2
    if _PREFACE.startswith(prefix):
        return None
    return _detect_request(prefix)


def _detect_request(prefix: bytes) -> Protocol | None:
    """An unusual method is told from other text protocols by the version at the end of its request line."""
    start = 0
    while start < 8 and prefix.startswith(b"\r\n", start):  # RFC 9112 §2.2
        start += 2
    rest = prefix[start:]
    if rest in (b"", b"\r"):
        return None
    if start:
        answer = Protocol.OTHER if rest[0] == 0x0D else detect(rest)
        return answer if answer in (None, Protocol.HTTP1) else Protocol.OTHER
    match = _REQUEST_START.match(prefix)
    if match is None:
        return Protocol.OTHER
    version = match[3] or b""
    if version.startswith(b"HTTP/1."):
        return Protocol.HTTP1
    if match.end() < len(prefix) or len(prefix) > _LONGEST_LINE or not b"HTTP/1.".startswith(version):
        return Protocol.OTHER
    return None
