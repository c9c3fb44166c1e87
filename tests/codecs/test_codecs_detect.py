"""Protocol detection: the right answer, from no more bytes than needed, however they arrive."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rulesproxy.codecs.detect import Protocol, detect


def first_answer(data: bytes) -> tuple[Protocol | None, int]:
    """The first answer and how many bytes it took."""
    for size in range(len(data) + 1):
        answer = detect(data[:size])
        if answer is not None:
            return answer, size
    return None, len(data)


@pytest.mark.parametrize(("data", "protocol", "size"), [
    (b"\x16\x03\x01\x02\x00\x01", Protocol.TLS, 2),
    (b"\x16\x03\x03", Protocol.TLS, 2),
    (b"\x16\x02\x00", Protocol.OTHER, 2),
    (b"\x80\x2e\x01\x03\x01", Protocol.TLS, 5),  # in the format of SSL 2
    (b"\x80\x2e\x01\x00\x02", Protocol.TLS, 5),
    (b"\x80\x2e\x02\x03\x01", Protocol.OTHER, 3),
    (b"GET / HTTP/1.1\r\n", Protocol.HTTP1, 4),
    (b"CONNECT a:443 HTTP/1.1\r\n", Protocol.HTTP1, 8),
    (b"POST / HTTP/1.1\r\n", Protocol.HTTP1, 5),
    (b"PUT / HTTP/1.1\r\n", Protocol.HTTP1, 4),
    (b"PATCH / HTTP/1.1\r\n", Protocol.HTTP1, 6),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Protocol.HTTP2, 12),
    (b"PRI / HTTP/1.1\r\n", Protocol.HTTP1, 11),
    (b"PROPFIND /a HTTP/1.1\r\n", Protocol.HTTP1, 17),
    (b"M-SEARCH * HTTP/1.0\r\n", Protocol.HTTP1, 16),
    (b"get / HTTP/1.1\r\n", Protocol.HTTP1, 4),
    (b"\r\nGET / HTTP/1.1\r\n", Protocol.HTTP1, 3),
    (b"\r\n\r\nBREW /pot HTTP/1.1\r\n", Protocol.HTTP1, 5),
    (b"SSH-2.0-OpenSSH_9.6\r\n", Protocol.OTHER, 20),
    (b"SSH-2.0-OpenSSH_9.6 Debian-1\r\n", Protocol.OTHER, 30),
    (b"EHLO mail.example\r\n", Protocol.OTHER, 19),
    (b"QUERY SELECT 1;\r\n", Protocol.OTHER, 17),
    (b"\x00\x00\x00\x01", Protocol.OTHER, 1),
    (b"\x13BitTorrent protocol", Protocol.OTHER, 1),
    (b"\nGET / HTTP/1.1", Protocol.HTTP1, 2),
    (b"\r\r\n", None, 3),
    (b"\r\n\x16\x03\x01", Protocol.HTTP1, 3),
    (b"a" * 65, None, 65),
    (b"FOO / HTTP/2.0\r\n", Protocol.HTTP1, 11),
    (b"", None, 0),
    (b"G", None, 1),
    (b"\r\n", None, 2),
    (b"PROPFIND /aaa", None, 13),
])
def test_detection(data: bytes, protocol: Protocol | None, size: int) -> None:
    assert first_answer(data) == (protocol, size)


def test_an_endless_line_is_given_up() -> None:
    assert detect(b"FOO /" + b"a" * 10_000) is None
    assert detect(b"FOO /" + b"a" * 20_000) is Protocol.HTTP1
    assert detect(b"\r\n" * 50_000) is Protocol.HTTP1


@given(st.one_of(st.binary(max_size=40), st.sampled_from([b"GET ", b"PRI * HTTP/2.0", b"\x16\x03"]),
                 st.text("\r\n GETPRI*/HTTP12.0", max_size=24).map(str.encode)), st.binary(max_size=10))
def test_an_answer_does_not_change_with_more_bytes(data: bytes, more: bytes) -> None:
    answer = detect(data)
    if answer is not None:
        assert detect(data + more) is answer
