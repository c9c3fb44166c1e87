"""Written messages: what goes out is what was meant, and nothing can be smuggled through a name or a value."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rulesproxy.codecs.http1 import (
    EndOfBody,
    ProtocolError,
    Receiver,
    encode_chunk,
    encode_last_chunk,
    serialize_request,
    serialize_response,
)
from rulesproxy.model.headers import Field


def test_a_request_is_written_as_given() -> None:
    fields = [(b"X-b", b"1"), (b"hOST", b"a.example"), (b"X-Empty", b""), (b"X-Text", b"caf\xc3\xa9")]
    assert serialize_request("GET", "/a?b", fields) == (
        b"GET /a?b HTTP/1.1\r\nX-b: 1\r\nhOST: a.example\r\nX-Empty: \r\nX-Text: caf\xc3\xa9\r\n\r\n")


def test_a_response_is_written_as_given() -> None:
    assert serialize_response(204, "No Content", ()) == b"HTTP/1.1 204 No Content\r\n\r\n"
    assert serialize_response(200, "", iter([(b"A", b"b")]), "HTTP/1.0") == b"HTTP/1.0 200 \r\nA: b\r\n\r\n"


BAD_VALUES = [b"a\r\nX: y", b"a\nX: y", b"a\rX", b"\x00", b"\r\n", b"a\r\n\r\nbody", b"\x1b[0m", b"\x7f", b"\x0b"]
BAD_NAMES = [b"", b"X A", b"X:", b"X: y", b"X\r\nY", b"X\n", b"X\x00", b"X\xe9", b"X\t", b"(X)", b" X"]


@pytest.mark.parametrize("value", BAD_VALUES)
def test_illegal_values_are_refused(value: bytes) -> None:
    for fields in ([(b"X", value)], [(b"Host", b"a"), (b"X", value), (b"Y", b"z")]):
        for write in (lambda f: serialize_request("GET", "/", f), lambda f: serialize_response(200, "OK", f),
                      encode_last_chunk):
            with pytest.raises(ProtocolError) as caught:
                write(fields)
            assert caught.value.status == 500


@pytest.mark.parametrize("name", BAD_NAMES)
def test_illegal_names_are_refused_every_time(name: bytes) -> None:
    for _ in range(2):  # the second time past any memory of names
        for write in (lambda f: serialize_request("GET", "/", f), lambda f: serialize_response(200, "OK", f),
                      encode_last_chunk):
            with pytest.raises(ProtocolError):
                write([(b"Host", b"a"), (name, b"b")])


@pytest.mark.parametrize(("method", "target", "version"), [
    ("", "/", "HTTP/1.1"), ("GE T", "/", "HTTP/1.1"), ("GET\r\n", "/", "HTTP/1.1"), ("GÉT", "/", "HTTP/1.1"),
    ("GET", "", "HTTP/1.1"), ("GET", "/a b", "HTTP/1.1"), ("GET", "/\r\nX: y", "HTTP/1.1"), ("GET", "/\n", "HTTP/1.1"),
    ("GET", "/é", "HTTP/1.1"), ("GET", "/\x00", "HTTP/1.1"), ("GET", "/", "HTTP/2"), ("GET", "/", "HTTP/1.1\r\n"),
    ("GET\n", "/", "HTTP/1.1"),
])
def test_illegal_request_lines_are_refused(method: str, target: str, version: str) -> None:
    with pytest.raises(ProtocolError):
        serialize_request(method, target, [(b"Host", b"a")], version)


@pytest.mark.parametrize(("status", "reason"), [
    (99, "OK"), (1000, "OK"), (-1, "OK"), (200, "OK\r\nX: y"), (200, "O\nK"), (200, "O\rK"), (200, "\x00"),
])
def test_illegal_status_lines_are_refused(status: int, reason: str) -> None:
    with pytest.raises(ProtocolError):
        serialize_response(status, reason, ())


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=8), st.binary(max_size=12)), max_size=4), st.text(max_size=8))
def test_what_is_written_reads_back_as_it_was_meant(fields: list[Field], reason: str) -> None:
    try:
        raw = serialize_response(200, reason, [*fields, (b"X-Last", b"end")])
    except ProtocolError:
        return
    receiver = Receiver()
    receiver.feed(raw)
    try:
        head = receiver.next_response("GET")
    except ProtocolError as exc:  # framing fields may contradict each other; that is not the writer's to judge
        assert "Content-Length" in exc.message or "Transfer-Encoding" in exc.message
        return
    assert head is not None and not receiver.has_data
    assert head.reason == reason
    assert head.fields == (*((name, value.strip(b" \t")) for name, value in fields), (b"X-Last", b"end"))


def test_chunks() -> None:
    assert encode_chunk(b"hello world!!!!!") == b"10\r\nhello world!!!!!\r\n"
    assert encode_chunk(b"") == b""
    assert encode_last_chunk() == b"0\r\n\r\n"
    assert encode_last_chunk([(b"X-Sum", b"1")]) == b"0\r\nX-Sum: 1\r\n\r\n"


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_chunks_read_back(parts: list[bytes]) -> None:
    receiver = Receiver()
    receiver.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                  + b"".join(map(encode_chunk, parts)) + encode_last_chunk([(b"A", b"b")]))
    receiver.next_response("GET")
    body = b""
    while not isinstance(piece := receiver.next_body(), EndOfBody):
        assert piece
        body += piece
    assert body == b"".join(parts) and piece.trailers == ((b"A", b"b"),)
