"""Well-formed messages: heads, framing, bodies, pipelining, end of input, and what reading them may cost."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from rulesproxy.codecs.http1 import EndOfBody, Framing, FramingKind, Limits, ProtocolError, Receiver
from rulesproxy.model.headers import Fields

NONE = Framing(FramingKind.NONE, 0)
CHUNKED = Framing(FramingKind.CHUNKED, 0)
UNTIL_CLOSE = Framing(FramingKind.UNTIL_CLOSE, 0)
HOST = b"Host: a.example\r\n"


def length(size: int) -> Framing:
    return Framing(FramingKind.LENGTH, size)


def pieces(raw: bytes, step: int) -> Iterator[bytes]:
    return (raw[at:at + step] for at in range(0, len(raw), step))


def body_of(receiver: Receiver) -> tuple[bytes, Fields]:
    """A body that is complete in the buffer."""
    out = b""
    while not isinstance(piece := receiver.next_body(), EndOfBody):
        assert piece, "the body is not complete"
        out += piece
    return out, piece.trailers


def fed(raw: bytes, limits: Limits | None = None) -> Receiver:
    receiver = Receiver(limits)
    receiver.feed(raw)
    return receiver


def test_a_request_head_keeps_case_order_and_values() -> None:
    raw = b"GET /a?b=c HTTP/1.1\r\nhOsT: a.example\r\nX-B:  spaced out \t\r\nX-b:\r\nX-C: caf\xc3\xa9\r\n\r\n"
    head = fed(raw).next_request()
    assert head is not None
    assert (head.method, head.target, head.version) == ("GET", "/a?b=c", "HTTP/1.1")
    assert head.fields == ((b"hOsT", b"a.example"), (b"X-B", b"spaced out"), (b"X-b", b""), (b"X-C", b"caf\xc3\xa9"))
    assert head.framing == NONE and head.keep_alive and not head.expect_continue
    assert head.host == b"a.example"


@pytest.mark.parametrize(("fields", "framing"), [
    (b"", NONE),
    (b"Content-Length: 0\r\n", length(0)),
    (b"content-length: 5\r\n", length(5)),
    (b"CONTENT-LENGTH:\t005 \r\n", length(5)),
    (b"Content-Length: 9223372036854775807\r\n", length(2**63 - 1)),
    (b"Transfer-Encoding: chunked\r\n", CHUNKED),
    (b"transfer-encoding: Chunked\r\n", CHUNKED),
    (b"TRANSFER-ENCODING: CHUNKED \r\n", CHUNKED),
])
def test_request_framing(fields: bytes, framing: Framing) -> None:
    head = fed(b"POST / HTTP/1.1\r\n" + HOST + fields + b"\r\n").next_request()
    assert head is not None and head.framing == framing


@pytest.mark.parametrize(("method", "status", "version", "fields", "framing", "keep_alive"), [
    ("GET", 200, b"1.1", b"", UNTIL_CLOSE, False),
    ("GET", 200, b"1.1", b"Content-Length: 5\r\n", length(5), True),
    ("GET", 200, b"1.1", b"Content-Length: 5\r\nConnection: Close\r\n", length(5), False),
    ("GET", 200, b"1.1", b"Content-Length: 5\r\nConnection: foo, close\r\n", length(5), False),
    ("GET", 200, b"1.1", b"Content-Length: 5\r\nConnection: foo\r\nConnection: close\r\n", length(5), False),
    ("GET", 200, b"1.1", b"Content-Length: 5\r\nConnection: not-close\r\n", length(5), True),
    ("GET", 200, b"1.1", b"Transfer-Encoding: chunked\r\n", CHUNKED, True),
    ("GET", 200, b"1.0", b"Content-Length: 5\r\n", length(5), False),
    ("GET", 200, b"1.0", b"Content-Length: 5\r\nConnection: keep-alive\r\n", length(5), True),
    ("GET", 200, b"1.0", b"Connection: keep-alive\r\n", UNTIL_CLOSE, False),
    ("GET", 204, b"1.1", b"", NONE, True),
    ("GET", 204, b"1.1", b"Content-Length: 5\r\n", NONE, True),
    ("GET", 205, b"1.1", b"Content-Length: 0\r\n", length(0), True),
    ("GET", 304, b"1.1", b"Content-Length: 500\r\n", NONE, True),
    ("GET", 100, b"1.1", b"", NONE, True),
    ("GET", 103, b"1.1", b"Link: </a>\r\n", NONE, True),
    ("HEAD", 200, b"1.1", b"Content-Length: 500\r\n", NONE, True),
    ("HEAD", 200, b"1.1", b"Transfer-Encoding: chunked\r\n", NONE, True),
    ("HEAD", 200, b"1.1", b"", NONE, True),
    ("CONNECT", 200, b"1.1", b"", NONE, True),
    ("CONNECT", 403, b"1.1", b"Content-Length: 5\r\n", length(5), True),
    ("GET", 999, b"1.1", b"Content-Length: 5\r\n", length(5), True),
])
def test_response_framing(method: str, status: int, version: bytes, fields: bytes, framing: Framing,
                          keep_alive: bool) -> None:
    head = fed(b"HTTP/%b %d Reason\r\n%b\r\n" % (version, status, fields)).next_response(method)
    assert head is not None
    assert (head.status, head.reason, head.framing, head.keep_alive) == (status, "Reason", framing, keep_alive)


@pytest.mark.parametrize(("line", "fields", "keep_alive"), [
    (b"GET / HTTP/1.1", b"", True),
    (b"GET / HTTP/1.1", b"Connection: close\r\n", False),
    (b"GET / HTTP/1.1", b"Connection: TE, Close\r\n", False),
    (b"GET / HTTP/1.1", b"Connection: closed\r\n", True),
    (b"GET / HTTP/1.1", b"Connection: keep-alive\r\n", True),
    (b"GET / HTTP/1.0", b"", False),
    (b"GET / HTTP/1.0", b"Connection: keep-alive\r\n", False),  # RFC 9112 §9.3: not for a proxy
    (b"GET / HTTP/1.2", b"", True),  # RFC 9110 §2.5: read as 1.1
])
def test_whether_a_client_connection_persists(line: bytes, fields: bytes, keep_alive: bool) -> None:
    head = fed(line + b"\r\n" + HOST + fields + b"\r\n").next_request()
    assert head is not None and head.keep_alive is keep_alive


def test_a_higher_minor_version_is_read_as_1_1() -> None:
    head = fed(b"GET / HTTP/1.9\r\n" + HOST + b"\r\n").next_request()
    assert head is not None and head.version == "HTTP/1.1" and head.fields == ((b"Host", b"a.example"),)


def test_http_1_0_needs_no_host() -> None:
    head = fed(b"GET / HTTP/1.0\r\n\r\n").next_request()
    assert head is not None and head.version == "HTTP/1.0" and head.fields == () and head.host is None


@pytest.mark.parametrize(("version", "value", "expected"), [
    (b"1.1", b"100-continue", True), (b"1.1", b"100-Continue", True), (b"1.0", b"100-continue", False),
    (b"1.1", b"something-else", False),
])
def test_expect_continue(version: bytes, value: bytes, expected: bool) -> None:
    raw = b"PUT / HTTP/%b\r\n%bContent-Length: 1\r\nExpect: %b\r\n\r\n" % (version, HOST, value)
    head = fed(raw).next_request()
    assert head is not None and head.expect_continue is expected


@pytest.mark.parametrize("step", [1, 2, 3, 5, 64, 100_000])
def test_pipelined_requests_come_out_in_order(step: int) -> None:
    raw = b"".join((
        b"GET /1 HTTP/1.1\r\n" + HOST + b"\r\n",
        b"POST /2 HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhello",
        b"\r\n",  # RFC 9112 §2.2: some clients add one after a body
        b"POST /3 HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n0A;x=\"y;z\" ; q\r\n0123456789\r\n0\r\nX-Sum: 1\r\nX-B: 2 \r\n\r\n",
        b"GET /4 HTTP/1.1\r\n" + HOST + b"\r\n",
    ))
    receiver = Receiver()
    seen: list[tuple[str, bytes, Fields]] = []
    target, body = None, b""
    for piece in pieces(raw, step):
        receiver.feed(piece)
        while True:
            if target is None:
                head = receiver.next_request()
                if head is None:
                    break
                target, body = head.target, b""
            part = receiver.next_body()
            if part is None:
                break
            if isinstance(part, EndOfBody):
                seen.append((target, body, part.trailers))
                target = None
            else:
                body += part
    assert seen == [
        ("/1", b"", ()), ("/2", b"hello", ()),
        ("/3", b"abc0123456789", ((b"X-Sum", b"1"), (b"X-B", b"2"))), ("/4", b"", ()),
    ]
    assert not receiver.has_data and not receiver.at_eof
    receiver.feed_eof()
    assert receiver.next_request() is None and receiver.at_eof


@pytest.mark.parametrize("step", [1, 4, 100_000])
def test_interim_responses_come_before_the_answer(step: int) -> None:
    receiver = Receiver()
    raw = (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
           b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    heads = []
    body = b""
    for piece in pieces(raw, step):
        receiver.feed(piece)
        while len(heads) < 3 and (head := receiver.next_response("GET")) is not None:
            heads.append(head)
        while len(heads) == 3 and (part := receiver.next_body()) is not None:
            if isinstance(part, EndOfBody):
                break
            body += part
    assert [head.status for head in heads] == [100, 103, 200]
    assert heads[1].fields == ((b"Link", b"</a>"),)
    assert body == b"hi"


@pytest.mark.parametrize("step", [1, 3, 100_000])
def test_lenient_response_heads_are_read_as_the_rfc_allows(step: int) -> None:
    """Bare LF (RFC 9112 §2.2), obs-fold (§5.2), no reason and no space before it."""
    receiver = Receiver()
    raw = b"HTTP/1.1 200\nServer: old\nX-Fold: a\r\n\t b\nContent-Length: 2\n\nhi\r\n\r\n"
    head = None
    rest = b""
    for piece in pieces(raw, step):
        receiver.feed(piece)
        head = head or receiver.next_response("GET")
    assert head is not None
    assert (head.status, head.reason) == (200, "")
    assert head.fields == ((b"Server", b"old"), (b"X-Fold", b"a b"), (b"Content-Length", b"2"))
    while not isinstance(part := receiver.next_body(), EndOfBody):
        assert part
        rest += part
    assert rest == b"hi" and receiver.take_rest() == b"\r\n\r\n"


def test_a_reason_survives_odd_bytes() -> None:
    head = fed(b"HTTP/1.1 200 d\xe9j\xc3\xa0\tvu\r\nContent-Length: 0\r\n\r\n").next_response("GET")
    assert head is not None and head.reason.encode("utf-8", "surrogateescape") == b"d\xe9j\xc3\xa0\tvu"


def test_a_body_until_close_ends_with_the_connection() -> None:
    receiver = fed(b"HTTP/1.1 200 OK\r\n\r\nabc")
    assert receiver.next_response("GET") is not None
    assert receiver.next_body() == b"abc"
    assert receiver.next_body() is None
    receiver.feed(b"def")
    receiver.feed_eof()
    assert receiver.next_body() == b"def"
    assert receiver.next_body() == EndOfBody()
    assert receiver.at_eof and receiver.next_response("GET") is None


def test_what_follows_connect_is_handed_over() -> None:
    receiver = fed(b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n\x16\x03\x01rest")
    assert receiver.next_request() is not None and receiver.has_data
    assert receiver.take_rest() == b"\x16\x03\x01rest"
    assert not receiver.has_data
    with pytest.raises(RuntimeError):
        receiver.next_request()


@pytest.mark.parametrize(("method", "line"), [("GET", b"101 Switching Protocols"), ("CONNECT", b"200 OK")])
def test_what_follows_an_upgrade_is_handed_over(method: str, line: bytes) -> None:
    receiver = fed(b"HTTP/1.1 " + line + b"\r\nUpgrade: websocket\r\n\r\nframes")
    assert receiver.next_response(method) is not None
    with pytest.raises(RuntimeError):
        receiver.next_response(method)
    assert receiver.take_rest() == b"frames"


def test_a_refused_connect_may_be_followed_by_another_request() -> None:
    receiver = fed(b"CONNECT a.example:443 HTTP/1.1\r\n" + HOST + b"\r\nGET / HTTP/1.1\r\n" + HOST + b"\r\n")
    assert receiver.next_request() is not None
    second = receiver.next_request()
    assert second is not None and second.method == "GET"


def test_asking_for_a_head_inside_a_body_is_a_bug() -> None:
    receiver = fed(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhel")
    assert receiver.next_request() is not None
    with pytest.raises(RuntimeError):
        receiver.next_request()


@pytest.mark.parametrize("raw", [b"", b"\r\n", b"\r\n\r\n"])
def test_end_of_input_between_requests_is_quiet(raw: bytes) -> None:
    receiver = fed(raw)
    assert receiver.next_request() is None
    receiver.feed_eof()
    assert receiver.next_request() is None and receiver.at_eof


@pytest.mark.parametrize("head", [b"Content-Length: 5\r\n\r\nhel", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel"])
def test_a_cut_body_is_an_error(head: bytes) -> None:
    receiver = fed(b"HTTP/1.1 200 OK\r\n" + head)
    receiver.next_response("GET")
    assert receiver.next_body() == b"hel"
    assert receiver.next_body() is None
    receiver.feed_eof()
    with pytest.raises(ProtocolError, match="body ended early") as caught:
        receiver.next_body()
    assert caught.value.status == 502


def test_a_body_piece_is_handed_on_without_a_copy() -> None:
    receiver = fed(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n")
    receiver.next_response("GET")
    piece = b"x" * 100_000
    receiver.feed(piece)
    assert receiver.next_body() is piece


@pytest.mark.parametrize(("size", "status"), [(200, None), (201, 431)])
def test_the_limit_of_fields(size: int, status: int | None) -> None:
    receiver = fed(b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n" * (size - 1) + b"\r\n")
    check(receiver, status)


@pytest.mark.parametrize(("size", "status"), [(100, None), (101, 414)])
def test_the_limit_of_the_request_line(size: int, status: int | None) -> None:
    line = b"GET /" + b"a" * (size - 14) + b" HTTP/1.1"
    for raw in (line + b"\r\n" + HOST + b"\r\n", line + b"\r\n" + HOST, line + b"\r"):
        receiver = fed(raw, Limits(request_line=100))
        if status is None and not raw.endswith(b"\r\n\r\n"):
            assert receiver.next_request() is None
        else:
            check(receiver, status)


@pytest.mark.parametrize(("size", "status"), [(1000, None), (1001, 431)])
def test_the_limit_of_the_head(size: int, status: int | None) -> None:
    raw = b"GET / HTTP/1.1\r\n" + HOST + b"A: " + b"\r\n\r\n"
    raw = raw.replace(b"A: ", b"A: " + b"b" * (size - len(raw)))
    check(fed(raw, Limits(head=1000)), status)


def check(receiver: Receiver, status: int | None) -> None:
    if status is None:
        assert receiver.next_request() is not None
    else:
        with pytest.raises(ProtocolError) as caught:
            receiver.next_request()
        assert caught.value.status == status


def seconds_for(raw: bytes) -> float:
    receiver = Receiver(Limits(request_line=1 << 30, head=1 << 30))
    started = time.perf_counter()
    for at in range(len(raw)):
        receiver.feed(raw[at:at + 1])
        assert receiver.next_request() is None
    return time.perf_counter() - started


@pytest.mark.parametrize("raw", [
    b"GET /" + b"a" * 400_000,
    b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 66_000,
    b"GET / HTTP/1.1\r\nA: " + b"b" * 400_000,
], ids=["line", "fields", "value"])
def test_an_endless_head_costs_linear_time(raw: bytes) -> None:
    """Searching from the start each time would take minutes for these."""
    short = min(seconds_for(raw[:50_000]) for _ in range(2))
    assert seconds_for(raw) < 8 * 4 * short + 1  # 8 times the bytes; generous, for other work on the machine
