"""Every malformed message of the tables is refused with its status, however it is cut, and nothing follows it."""

from __future__ import annotations

import pytest
from http1_tables import CHUNKED, REQUESTS, RESPONSES

from rulesproxy.codecs.http1 import EndOfBody, ProtocolError, Receiver, identity


class Connection:
    """Reads messages as a session would: head, identity, body."""

    def __init__(self, *, request: bool) -> None:
        self.receiver = Receiver()
        self.request = request
        self.in_body = False
        self.complete = 0

    def pump(self) -> None:
        """Read as far as possible. Raises ProtocolError."""
        while self._body() if self.in_body else self._head():
            pass

    def _head(self) -> bool:
        if self.request:
            head = self.receiver.next_request()
            if head is not None:
                identity(head, "http")
            self.in_body = head is not None
        else:
            self.in_body = self.receiver.next_response("GET") is not None
        return self.in_body

    def _body(self) -> bool:
        piece = self.receiver.next_body()
        if isinstance(piece, EndOfBody):
            self.in_body = False
            self.complete += 1
        return piece is not None


def refusal(raw: bytes, *, request: bool, step: int) -> ProtocolError:
    connection = Connection(request=request)
    with pytest.raises(ProtocolError) as caught:
        for at in range(0, len(raw), step):
            connection.receiver.feed(raw[at:at + step])
            connection.pump()
        connection.receiver.feed_eof()
        connection.pump()
    assert connection.complete == 0
    return caught.value


@pytest.mark.parametrize("step", [1, 7, 1_000_000], ids=["bytewise", "sevens", "whole"])
@pytest.mark.parametrize(("raw", "clause", "status"), [pytest.param(*case[1:], id=case[0]) for case in REQUESTS])
def test_malformed_requests_are_refused(raw: bytes, clause: str, status: int, step: int) -> None:
    error = refusal(raw, request=True, step=step)
    assert error.status == status, (clause, error)
    assert error.message.isprintable() and error.message.isascii()


@pytest.mark.parametrize("step", [1, 7, 1_000_000], ids=["bytewise", "sevens", "whole"])
@pytest.mark.parametrize(("raw", "clause"), [pytest.param(*case[1:], id=case[0]) for case in RESPONSES])
def test_malformed_responses_are_refused(raw: bytes, clause: str, step: int) -> None:
    error = refusal(raw, request=False, step=step)
    assert error.status == 502, (clause, error)
    assert error.message.isprintable() and error.message.isascii()


def test_the_tables_are_large_enough() -> None:
    assert len({case[0] for case in REQUESTS}) == len(REQUESTS) >= 120
    assert len(RESPONSES) >= 50


def test_no_request_is_read_after_an_error() -> None:
    receiver = Receiver()
    receiver.feed(b"GET / HTTP/1.1\nHost: a\r\n\r\n" + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    for _ in range(3):
        with pytest.raises(ProtocolError, match="CRLF"):
            receiver.next_request()
    receiver.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    with pytest.raises(ProtocolError, match="CRLF"):
        receiver.next_body()


def test_no_request_is_read_after_a_broken_body() -> None:
    receiver = Receiver()
    receiver.feed(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n")
    receiver.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert receiver.next_request() is not None
    for read in (receiver.next_body, receiver.next_body, receiver.next_request):
        with pytest.raises(ProtocolError, match="chunk size"):
            read()


@pytest.mark.parametrize("raw", [
    b"GET / HTTP/1.1\nHost", b"GET /\r\n", b"GET / HTTP/1.1\r\nHost: a\nX", b"\x16\x03\x01\n", b"hello world\r\n",
    CHUNKED + b"0\r\n\n", CHUNKED + b"0\r\nX: y\nZ", CHUNKED + b"5\nhello", CHUNKED + b"5\r\nhelloX",
    CHUNKED + b"x" * 300,
])
def test_what_can_never_become_valid_is_refused_at_once(raw: bytes) -> None:
    """No waiting for an end of head, of trailers or of input that may never come."""
    connection = Connection(request=True)
    connection.receiver.feed(raw)
    with pytest.raises(ProtocolError):
        connection.pump()


@pytest.mark.parametrize(("line", "message"), [
    ("GET http://a.test/\u00fc HTTP/1.1", "must be percent-encoded"),
    ("GET /a b HTTP/1.1", "a space in the request target"),
    ("GET /a\tb HTTP/1.1", "not an HTTP/1 request"), ("rubbish", "not an HTTP/1 request"),
])  # fmt: skip
def test_targets_that_were_not_encoded_are_told_from_rubbish(line: str, message: str) -> None:
    assert message in refusal(line.encode() + b"\r\nHost: a.test\r\n\r\n", request=True, step=1_000_000).message
