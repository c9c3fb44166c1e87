"""h11 is the authority: what our fast path accepts, h11 accepts with the same result."""

from __future__ import annotations

import h11
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rulesproxy.codecs.http1 import EndOfBody, FramingKind, ProtocolError, Receiver, RequestHead, ResponseHead
from rulesproxy.model.headers import Fields

TOKEN_BYTES = b"!#$%&'*+-.^_`|~09azAZ"
NAMES = st.sampled_from([
    b"Host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"Expect", b"X-A", b"host", b"content-length ",
    b"X A", b"", b"X\xe9", b"TE",
])
VALUES = st.one_of(
    st.sampled_from([
        b"a.example", b"5", b"0", b"chunked", b"Chunked", b"gzip, chunked", b"close", b"100-continue", b"", b"5, 5",
        b"-1", b"a b\tc", b"\x00", b"a\rb", b"a\nb", b"a\r\n b", b"\x7f", b"caf\xc3\xa9", b"a\x0bb",
    ]),
    st.binary(max_size=12),
)
SEPARATORS = st.sampled_from([b": ", b":", b":\t ", b" : ", b" "])
ENDS = st.sampled_from([b"\r\n"] * 12 + [b"\n", b"\r", b" \r\n", b"\r\r\n"])
TOKENS = st.lists(st.sampled_from([bytes([code]) for code in TOKEN_BYTES]), min_size=1, max_size=5).map(b"".join)
METHODS = st.one_of(
    st.sampled_from([b"GET", b"POST", b"HEAD", b"OPTIONS", b"get", b"M-SEARCH", b"G T", b""]),
    TOKENS,
    st.binary(max_size=4),
)
TARGETS = st.one_of(
    st.sampled_from([b"/", b"*", b"/a?b=c", b"http://a.example/", b"/a b", b"/\xe9", b"", b"a.example:80"]),
    st.binary(max_size=8),
)
VERSIONS = st.sampled_from([b"HTTP/1.1"] * 6 + [b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b"HTTP/1.1 ", b""])


@st.composite
def blocks(draw: st.DrawFn) -> bytes:
    lines = draw(st.lists(st.tuples(NAMES, SEPARATORS, VALUES, ENDS), max_size=5))
    host = draw(st.sampled_from([b"Host: a.example\r\n", b"Host: a.example\r\n", b"hOST:  a.example \r\n", b""]))
    return host + b"".join(name + sep + value + end for name, sep, value, end in lines)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    line = b" ".join((draw(METHODS), draw(TARGETS), draw(VERSIONS)))
    return line + draw(ENDS) + draw(blocks()) + b"\r\n"


@st.composite
def responses(draw: st.DrawFn) -> bytes:
    code = draw(st.one_of(st.sampled_from([b"200", b"204", b"304", b"100", b"101", b"404", b"99", b"099", b"999"]),
                          st.integers(0, 9999).map(lambda code: b"%d" % code)))
    reason = draw(st.one_of(st.sampled_from([b" OK", b"", b" ", b" Not Found", b" caf\xe9", b" a\x01"]),
                            st.binary(max_size=6)))
    return draw(VERSIONS) + b" " + code + reason + draw(ENDS) + draw(blocks()) + b"\r\n"


def ours(raw: bytes) -> RequestHead | None:
    receiver = Receiver()
    receiver.feed(raw)
    receiver.feed_eof()
    try:
        return receiver.next_request()
    except ProtocolError:
        return None


def h11_fields(event: h11.Request | h11.Response | h11.InformationalResponse) -> Fields:
    return tuple((bytes(name), bytes(value)) for name, value in event.headers.raw_items())


def without_coding_case(fields: Fields) -> Fields:
    """h11 writes the value of Transfer-Encoding in lower case."""
    return tuple((name, value.lower() if name.lower() == b"transfer-encoding" else value) for name, value in fields)


def well_formed(start_lines: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Heads that must be accepted: any legal field, any legal padding, at most one framing field."""
    text = st.lists(st.sampled_from([bytes([code]) for code in b"a~,= \t:\xe9\xff"]), max_size=8).map(b"".join)
    line = st.builds(lambda name, pad, value, end: name + b":" + pad + value + end + b"\r\n",
                     TOKENS.map(lambda name: b"x" + name), st.sampled_from([b"", b" ", b"\t "]), text,
                     st.sampled_from([b"", b"", b" ", b" \t"]))
    framing = st.sampled_from([
        b"", b"Content-Length: 0\r\n", b"content-length:7 \r\n", b"Transfer-Encoding: Chunked\r\n"])
    return st.builds(lambda start, first, frame, last: start + b"\r\n" + first + b"HOST: a.example\r\n" + frame + last
                     + b"\r\n", start_lines, st.lists(line, max_size=3).map(b"".join), framing,
                     st.lists(line, max_size=3).map(b"".join))


@settings(max_examples=300, deadline=None)
@given(well_formed(st.builds(b"%b %b HTTP/1.%d".__mod__, st.tuples(
    TOKENS, st.sampled_from([b"/", b"*", b"/a?b=%zz&c", b"http://a.example/", b"a:1"]), st.just(1)))))
def test_well_formed_request_heads_are_accepted_like_h11_does(raw: bytes) -> None:
    head = ours(raw)
    assert head is not None
    same_as_h11(head, raw)


@settings(max_examples=400, deadline=None)
@given(requests())
@example(b"GET / HTTP/1.1\r\nHost: a.example\r\nX-A:  b \t\r\n\r\n")
@example(b"GET / HTTP/1.7\r\nHost: a.example\r\n\r\n")
def test_h11_accepts_every_request_head_we_accept(raw: bytes) -> None:
    head = ours(raw)
    if head is not None:
        same_as_h11(head, raw)


def same_as_h11(head: RequestHead, raw: bytes) -> None:
    conn = h11.Connection(h11.SERVER)
    conn.receive_data(raw)
    event = conn.next_event()
    assert isinstance(event, h11.Request)
    assert event.method == head.method.encode()
    assert event.target == head.target.encode()
    assert h11_fields(event) == without_coding_case(head.fields)
    assert event.http_version[2:] == head.version[-1:].encode() or event.http_version not in (b"1.0", b"1.1")
    # The same framing: h11 sees the body end where we see it end.
    if head.framing.kind is FramingKind.NONE or head.framing == (FramingKind.LENGTH, 0):
        assert isinstance(conn.next_event(), h11.EndOfMessage)
    else:
        assert conn.next_event() is h11.NEED_DATA


@settings(max_examples=300, deadline=None)
@given(well_formed(st.builds(b"HTTP/1.%d %d %b".__mod__, st.tuples(
    st.just(1), st.integers(100, 999), st.sampled_from([b"", b"OK", b"Not Found", b"\tcaf\xe9 "])))))
def test_well_formed_response_heads_are_accepted_like_h11_does(raw: bytes) -> None:
    answer = our_response(raw)
    assert answer is not None
    same_response_as_h11(answer, raw)


@settings(max_examples=400, deadline=None)
@given(responses())
@example(b"HTTP/1.1 200 OK\r\nX-A: b \t\r\n \t\r\n  c\nX-B: d\n\n")
def test_h11_accepts_every_response_head_we_accept(raw: bytes) -> None:
    answer = our_response(raw)
    if answer is not None:
        same_response_as_h11(answer, raw)


def our_response(raw: bytes) -> ResponseHead | None:
    receiver = Receiver()
    receiver.feed(raw)
    try:
        return receiver.next_response("GET")
    except ProtocolError:
        return None


def same_response_as_h11(head: ResponseHead, raw: bytes) -> None:
    conn = h11.Connection(h11.CLIENT)
    question = [("Host", "x"), ("Connection", "upgrade"), ("Upgrade", "x")]
    conn.send(h11.Request(method="GET", target="/", headers=question))
    conn.send(h11.EndOfMessage())
    conn.receive_data(raw)
    event = conn.next_event()
    assert isinstance(event, h11.Response | h11.InformationalResponse)
    assert (event.status_code, bytes(event.reason)) == (head.status, head.reason.encode("utf-8", "surrogateescape"))
    assert h11_fields(event) == without_coding_case(head.fields)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6),
       st.lists(st.tuples(st.sampled_from([b"X-A", b"x-b"]), st.sampled_from([b"", b"1", b"a b"])), max_size=3),
       st.data())
def test_chunked_bodies_are_read_as_h11_reads_them(chunks: list[bytes], trailers: list[tuple[bytes, bytes]],
                                                   data: st.DataObject) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    raw = (head + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
           + b"0\r\n" + b"".join(b"%b: %b\r\n" % line for line in trailers) + b"\r\n")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    receiver = Receiver()
    body, end, seen_head = b"", None, False
    for start, stop in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        receiver.feed(raw[start:stop])
        seen_head = seen_head or receiver.next_request() is not None
        while seen_head and end is None and (piece := receiver.next_body()) is not None:
            if isinstance(piece, EndOfBody):
                end = piece
            else:
                body += piece
    conn = h11.Connection(h11.SERVER)
    conn.receive_data(raw)
    events = []
    while not events or not isinstance(events[-1], h11.EndOfMessage):
        events.append(conn.next_event())
    assert body == b"".join(bytes(event.data) for event in events if isinstance(event, h11.Data))
    assert end is not None and end.trailers == h11_fields(events[-1])  # type: ignore[arg-type]


@settings(max_examples=300, deadline=None)
@given(st.one_of(requests(), responses(), st.binary(max_size=60)), st.integers(1, 20))
def test_cutting_the_input_changes_nothing(raw: bytes, step: int) -> None:
    def outcome(step: int, *, request: bool) -> RequestHead | ResponseHead | int | None:
        receiver = Receiver()
        try:
            for at in range(0, len(raw), step):
                receiver.feed(raw[at:at + step])
                head = receiver.next_request() if request else receiver.next_response("GET")
                if head is not None:
                    return head
        except ProtocolError as exc:
            return exc.status
        return None

    for request in (True, False):
        assert outcome(step, request=request) == outcome(len(raw) or 1, request=request)
