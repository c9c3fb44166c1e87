"""Fields of the handshake: what an answer may say, and what is left of an offer."""

from __future__ import annotations

import pytest

from rulesproxy.codecs.websocket import (
    Deflate,
    HandshakeError,
    accept_token,
    agreed_deflate,
    check_answer,
    readable_offer,
    unknown_extensions,
)
from rulesproxy.model.headers import Headers

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
TOKEN = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 §1.3
EXTENSIONS = "sec-websocket-extensions"


def answer(**named: str) -> Headers:
    return Headers(**{"upgrade": "websocket", "connection": "Upgrade", "sec_websocket_accept": TOKEN, **named})


def check(request: Headers, response: Headers, key: bytes | None = KEY) -> None:
    check_answer(request, response.fields, key=key)


def test_the_example_of_the_rfc() -> None:
    assert accept_token(KEY) == TOKEN.encode()
    check(Headers(), answer())
    check(Headers(), answer(connection="keep-alive, UPGRADE", upgrade="WebSocket"))


@pytest.mark.parametrize("named", [
    {"sec_websocket_accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOO="},
    {"sec_websocket_accept": TOKEN.lower()},
    {"sec_websocket_accept": ""},
    {"upgrade": "h2c"},
    {"upgrade": "websocket, h2c"},
    {"connection": "keep-alive"},
    {"sec_websocket_protocol": "chat"},
    {"sec_websocket_extensions": "permessage-deflate"},
    {"sec_websocket_extensions": "x-other"},
])
def test_answers_to_something_else(named: dict[str, str]) -> None:
    with pytest.raises(HandshakeError):
        check(Headers(), answer(**named))


@pytest.mark.parametrize("name", ["upgrade", "connection", "sec-websocket-accept"])
def test_answers_that_lack_a_field(name: str) -> None:
    response = answer()
    del response[name]
    with pytest.raises(HandshakeError):
        check(Headers(), response)


def test_two_accept_fields_are_refused() -> None:
    response = answer()
    response.add("Sec-WebSocket-Accept", TOKEN)
    with pytest.raises(HandshakeError):
        check(Headers(), response)


def test_over_http2_there_is_no_key() -> None:
    check(Headers(sec_websocket_protocol="a, b"), Headers(sec_websocket_protocol="b"), key=None)
    with pytest.raises(HandshakeError):
        check(Headers(), Headers(sec_websocket_protocol="b"), key=None)


@pytest.mark.parametrize(("offered", "chosen", "fits"), [
    ("chat", "chat", True), ("a, chat", "chat", True), ("chat", "Chat", False), ("chat", "a", False), ("a", "", False),
    ("a, b", "a, b", False),
])
def test_subprotocols(offered: str, chosen: str, fits: bool) -> None:
    request, response = Headers(sec_websocket_protocol=offered), answer(sec_websocket_protocol=chosen)
    if fits:
        check(request, response)
        return
    with pytest.raises(HandshakeError, match="subprotocol"):
        check(request, response)


@pytest.mark.parametrize(("parameters", "expected"), [
    ("", Deflate()),
    ("; server_no_context_takeover", Deflate(server_no_context_takeover=True)),
    (";client_no_context_takeover ;  server_max_window_bits=10",
     Deflate(client_no_context_takeover=True, server_max_window_bits=10)),
    ('; client_max_window_bits="8"', Deflate(client_max_window_bits=8)),
    ("; SERVER_MAX_WINDOW_BITS=15", Deflate()),
])
def test_deflate_as_it_was_agreed_on(parameters: str, expected: Deflate) -> None:
    request = Headers(sec_websocket_extensions="permessage-deflate; client_max_window_bits")
    response = answer(sec_websocket_extensions="Permessage-Deflate" + parameters)
    check(request, response)
    assert agreed_deflate(response) == expected


@pytest.mark.parametrize("parameters", [
    "; server_max_window_bits=7", "; server_max_window_bits=16", "; server_max_window_bits=08",
    "; server_max_window_bits", "; server_no_context_takeover=1", "; unknown", "; unknown=1",
    "; client_max_window_bits=9; client_max_window_bits=9", ", permessage-deflate", "; server_max_window_bits=",
    "; server_max_window_bits=\uff11\uff10",
])
def test_deflate_that_makes_no_sense(parameters: str) -> None:
    response = answer(sec_websocket_extensions="permessage-deflate" + parameters)
    with pytest.raises(HandshakeError):
        check(Headers(sec_websocket_extensions="permessage-deflate"), response)


def test_no_compression() -> None:
    assert agreed_deflate(answer()) is None
    assert agreed_deflate(answer(sec_websocket_extensions="x-other; a=1")) is None
    assert unknown_extensions(answer(sec_websocket_extensions="x-other; a=1, permessage-deflate")) == ["x-other"]


@pytest.mark.parametrize(("offered", "left"), [
    ("permessage-deflate; client_max_window_bits", "permessage-deflate; client_max_window_bits"),
    ("x-webkit-deflate-frame, permessage-deflate; server_max_window_bits=10; client_max_window_bits, bbf-usp-protocol",
     "permessage-deflate; server_max_window_bits=10; client_max_window_bits"),
    ("permessage-deflate; client_max_window_bits, permessage-deflate, x",
     "permessage-deflate; client_max_window_bits, permessage-deflate"),
    ("x-other", None),
    ('x-other; a="b,c"', None),
])
def test_what_is_left_of_an_offer(offered: str, left: str | None) -> None:
    request = Headers(sec_websocket_extensions=offered, host="a")
    readable_offer(request)
    assert request.get(EXTENSIONS) == left
    assert request["host"] == "a"


def test_an_offer_of_nothing_stays() -> None:
    request = Headers(host="a")
    fields = request.fields
    readable_offer(request)
    assert request.fields is fields
