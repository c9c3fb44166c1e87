"""Which protocol a client speaks, from as few of its first bytes as decide it.

In: the bytes so far. Out: a `Protocol`, or None while more bytes could change the answer.
"""

from __future__ import annotations

import enum
import re

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # RFC 9113 §3.4
_LONGEST_LINE = 16 * 1024  # the limit of a request line
_METHOD_START = re.compile(rb"(?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH) ")
_BLANK = b"\t\n\x0b\x0c\r "
_WORD = re.compile(rb"[\x21-\x7e][\x21-\x7e\x80-\xff]*+")
#: What some server takes for a request, or for the line of another proxy in front of one.
_LIKE_A_REQUEST = re.compile(rb"(?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH|PROXY)[\t\n\x0b\x0c\r ]"
                             rb"|[^\n]*?HTTP/", re.IGNORECASE)


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
    if prefix[0] & 0x80:
        return _detect_old_hello(prefix)
    return _detect_request(prefix)


def _detect_old_hello(prefix: bytes) -> Protocol | None:
    """A ClientHello in the format of SSL 2, which some servers still take for TLS (RFC 5246 appendix E.2)."""
    if len(prefix) < 5:
        return None if prefix[2:3] in (b"", b"\x01") and prefix[3:4] in (b"", b"\x00", b"\x03") else Protocol.OTHER
    return Protocol.TLS if prefix[2] == 1 and (prefix[3] == 3 or prefix[3:5] == b"\x00\x02") else Protocol.OTHER


def _detect_request(prefix: bytes) -> Protocol | None:
    """Everything that some server might read as a request is one, so that none passes by as another protocol.

    The codec is stricter than servers are: what begins with blanks, or has a first line like that of a request, is
    refused there if it is malformed. Other text protocols are told by their first line.
    """
    unfinished = None if len(prefix) <= _LONGEST_LINE else Protocol.HTTP1
    if prefix[0] in _BLANK:
        return Protocol.HTTP1 if prefix.lstrip(_BLANK) else unfinished
    word = _WORD.match(prefix)
    if word is None:
        return Protocol.OTHER
    if _LIKE_A_REQUEST.match(prefix):
        return Protocol.HTTP1
    end = word.end()
    if end == len(prefix):
        return unfinished
    return Protocol.OTHER if prefix[end] not in b" \t\x0b\x0c" or b"\n" in prefix else unfinished
