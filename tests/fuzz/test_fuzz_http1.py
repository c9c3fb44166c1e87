"""Random and mutated input: only ProtocolError comes out, and input is never lost or made up."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from rulesproxy.codecs.client_hello import ClientHelloError, parse_client_hello
from rulesproxy.codecs.detect import detect
from rulesproxy.codecs.http1 import EndOfBody, ProtocolError, Receiver, identity, safe_trailers, strip_hop_by_hop

SEEDS = [
    b"GET http://a.example/x HTTP/1.1\r\nHost: a.example\r\nTE: trailers\r\nConnection: TE, x\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: a.example:80\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.0\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=\"b\"\r\nhello\r\n0\r\nX: y\r\n\r\n",
    b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    b"HTTP/1.1 200 OK\nServer: x\n y\nTransfer-Encoding: chunked\n\n2\r\nhi\r\n0\r\n\r\n",
]
FRAGMENTS = [b"\r\n", b"\n", b"\r", b"\x00", b" ", b"\t", b":", b";", b"0", b"chunked", b"5", b",", b"\xff",
             b"Host: b\r\n"]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    raw = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(raw)))
        cut = draw(st.integers(0, 3))
        raw = raw[:at] + draw(st.sampled_from([b"", *FRAGMENTS])) + raw[at + cut:]
    return raw


INPUT = st.one_of(mutated(), st.binary(max_size=80))


def read_all(receiver: Receiver, *, request: bool) -> None:
    while True:
        if request:
            head = receiver.next_request()
            if head is None:
                return
            identity(head, "http")
            strip_hop_by_hop(head.fields)
        else:
            answer = receiver.next_response("GET")
            if answer is None or answer.status == 101:
                return
            strip_hop_by_hop(answer.fields)
        while not isinstance(piece := receiver.next_body(), EndOfBody):
            if piece is None:
                return
            assert piece
        safe_trailers(piece.trailers)


@settings(max_examples=800, deadline=None)
@given(INPUT, st.booleans())
def test_the_reader_raises_nothing_but_protocol_errors(raw: bytes, request: bool) -> None:
    receiver = Receiver()
    receiver.feed(raw)
    receiver.feed_eof()
    try:
        read_all(receiver, request=request)
    except ProtocolError as exc:
        assert exc.status in ((400, 413, 414, 431, 501, 505) if request else (502,))
        assert exc.message.isascii() and exc.message.isprintable()
    else:
        assert receiver.at_eof or not request


@settings(max_examples=400, deadline=None)
@given(INPUT)
def test_detection_and_hello_raise_nothing_undeclared(raw: bytes) -> None:
    detect(raw)
    for data in (raw, b"\x16\x03\x01" + raw, b"\x16\x03\x01\x00\x20\x01\x00\x00\x1c\x03\x03" + raw):
        try:
            parse_client_hello(data)
        except ClientHelloError as exc:
            assert str(exc).isprintable()
