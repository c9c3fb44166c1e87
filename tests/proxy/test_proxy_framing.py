"""The fields a message leaves with."""

from __future__ import annotations

import pytest

from rulesproxy.model.headers import Headers
from rulesproxy.model.http import Request, Response
from rulesproxy.proxy.framing import (
    CHUNKED,
    NO_BODY,
    NOTHING_RECEIVED,
    UNTIL_CLOSE,
    is_bodyless,
    is_endless,
    outgoing_request_fields,
    outgoing_response_fields,
    sized,
    streamed_framing,
    whole_request_framing,
    with_framing,
    with_host,
    without_http3,
)

FIELDS = ((b"A", b"1"), (b"Content-Length", b"5"), (b"B", b"2"))


def test_a_length_that_is_right_keeps_its_place() -> None:
    assert with_framing(FIELDS, sized(5)) is FIELDS


@pytest.mark.parametrize(("fields", "framing", "expected"), [
    (FIELDS, sized(6), ((b"A", b"1"), (b"B", b"2"), (b"Content-Length", b"6"))),
    (FIELDS, CHUNKED, ((b"A", b"1"), (b"B", b"2"), (b"Transfer-Encoding", b"chunked"))),
    (FIELDS, UNTIL_CLOSE, ((b"A", b"1"), (b"B", b"2"))),
    (FIELDS, NO_BODY, ((b"A", b"1"), (b"B", b"2"))),
    (((b"content-length", b"5"), (b"Content-Length", b"5")), sized(5), ((b"Content-Length", b"5"),)),
    (((b"transfer-encoding", b"chunked"), (b"Content-Length", b"5")), sized(5), ((b"Content-Length", b"5"),)),
])
def test_exactly_the_framing_that_was_decided(fields: tuple[tuple[bytes, bytes], ...], framing: object,
                                              expected: object) -> None:
    assert with_framing(fields, framing) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(("fields", "expected"), [
    ((), ((b"Host", b"h"),)),
    (((b"A", b"1"),), ((b"Host", b"h"), (b"A", b"1"))),
    (((b"A", b"1"), (b"HOST", b"x"), (b"B", b"2")), ((b"A", b"1"), (b"HOST", b"h"), (b"B", b"2"))),
    (((b"Host", b"x"), (b"A", b"1"), (b"host", b"y")), ((b"Host", b"h"), (b"A", b"1"))),
])
def test_one_host_in_its_old_place(fields: tuple[tuple[bytes, bytes], ...], expected: object) -> None:
    assert with_host(fields, b"h") == expected


def test_te_trailers_travels_with_its_connection_option() -> None:
    request = Request("GET", "http", "a", 80, "/", Headers(((b"TE", b"gzip, trailers"), (b"Connection", b"TE"))), b"")
    fields = outgoing_request_fields(request, NO_BODY, NOTHING_RECEIVED, host=None, drop_expect=False,
                                     keep_upgrade=False)
    assert fields == ((b"TE", b"trailers"), (b"Connection", b"TE"))


@pytest.mark.parametrize(("method", "body", "fields", "framing"), [
    ("GET", b"", (), NO_BODY), ("POST", b"", (), sized(0)), ("GET", b"x", (), sized(1))])
def test_framing_of_a_request_in_memory(method: str, body: bytes, fields: tuple[tuple[bytes, bytes], ...],
                                        framing: object) -> None:
    assert whole_request_framing(Request(method, "http", "a", 80, "/", Headers(fields), body)) == framing


def test_a_passing_body_keeps_its_length_unless_something_can_change_it() -> None:
    assert streamed_framing(sized(3), transformed=False, http10=False) == sized(3)
    assert streamed_framing(sized(3), transformed=True, http10=False) == CHUNKED
    assert streamed_framing(sized(3), transformed=True, http10=True) == UNTIL_CLOSE
    assert streamed_framing(CHUNKED, transformed=False, http10=True) == UNTIL_CLOSE
    assert streamed_framing(UNTIL_CLOSE, transformed=False, http10=False) == CHUNKED
    assert streamed_framing(NO_BODY, transformed=True, http10=False) == NO_BODY


@pytest.mark.parametrize(("method", "status", "expected"), [
    ("GET", 204, ()), ("GET", 304, ((b"Content-Length", b"7"),)), ("HEAD", 200, ((b"Content-Length", b"7"),))])
def test_lengths_of_responses_without_a_body(method: str, status: int, expected: object) -> None:
    request = Request(method, "http", "a", 80, "/", Headers(), b"")
    response = Response(status, "", Headers(((b"Content-Length", b"7"),)), b"")
    assert is_bodyless(method, status)
    assert outgoing_response_fields(request, response, NO_BODY) == expected


@pytest.mark.parametrize(("content_type", "endless"), [
    ("text/event-stream", True), ("Text/Event-Stream; charset=utf-8", True), ("application/grpc+proto", True),
    ("multipart/x-mixed-replace;boundary=x", True), ("text/html", False), (None, False)])
def test_endless_types(content_type: str | None, endless: bool) -> None:
    assert is_endless(content_type) is endless


@pytest.mark.parametrize("value, left", [
    (b'h3=":443"; ma=86400', None), (b'h3-29=":443", h2=":443"', b'h2=":443"'), (b'h2="alt:443"', b'h2="alt:443"'),
    (b"clear", b"clear"),
])
def test_an_intercepted_answer_does_not_offer_http3(value: bytes, left: bytes | None) -> None:
    fields = without_http3(((b"Alt-Svc", value), (b"x", b"y")))
    assert fields == ((((b"Alt-Svc", left),) if left is not None else ()) + ((b"x", b"y"),))
