"""SOCKS5 as a server speaks it: every message whole, in pieces, and wrong."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rulesproxy.codecs.socks import (
    Command,
    Credentials,
    Greeting,
    Method,
    Reply,
    SocksError,
    SocksRequest,
    choose_method,
    judge_credentials,
    read_credentials,
    read_greeting,
    read_request,
    reply,
)

V4 = b"\x05\x01\x00\x01\xc0\x00\x02\x07\x01\xbb"
V6 = b"\x05\x01\x00\x04" + bytes.fromhex("20010db8000000000000000000000001") + b"\x00\x50"
NAME = b"\x05\x01\x00\x03\x09Shop.TEST\x00\x50"


@pytest.mark.parametrize(("data", "expected"), [
    (V4, SocksRequest(Command.CONNECT, "192.0.2.7", 443)),
    (V6, SocksRequest(Command.CONNECT, "2001:db8::1", 80)),
    (NAME, SocksRequest(Command.CONNECT, "shop.test", 80)),
    (b"\x05\x02" + V4[2:], SocksRequest(Command.BIND, "192.0.2.7", 443)),
    (b"\x05\x03" + V4[2:], SocksRequest(Command.UDP_ASSOCIATE, "192.0.2.7", 443)),
    # An address may be sent as a name, and an IPv4 address as an IPv6 one.
    (b"\x05\x01\x00\x03\x09127.0.0.1\x00\x50", SocksRequest(Command.CONNECT, "127.0.0.1", 80)),
    (b"\x05\x01\x00\x03\x03::1\x00\x50", SocksRequest(Command.CONNECT, "::1", 80)),
    (b"\x05\x01\x00\x04" + bytes(10) + b"\xff\xff\x7f\x00\x00\x01\x00\x50",
     SocksRequest(Command.CONNECT, "127.0.0.1", 80)),
    ("\x05\x01\x00\x03\x0cbücher.test\x00\x50".encode(), SocksRequest(Command.CONNECT, "xn--bcher-kva.test", 80)),
])
def test_requests_are_read(data: bytes, expected: SocksRequest) -> None:
    assert read_request(data) == (expected, len(data))


def test_greetings_and_credentials_are_read() -> None:
    greeting = read_greeting(b"\x05\x02\x00\x02")
    assert greeting == (Greeting(b"\x00\x02"), 4)
    assert greeting is not None
    assert greeting[0].offers(Method.NONE)
    assert greeting[0].offers(Method.PASSWORD)
    assert not Greeting(b"\x01").offers(Method.NONE)
    assert read_greeting(b"\x05\x00") == (Greeting(b""), 2)
    assert read_credentials(b"\x01\x02me\x06secret") == (Credentials("me", "secret"), 11)
    assert read_credentials(b"\x01\x00\x00") == (Credentials("", ""), 3)
    assert read_credentials(b"\x01\x01\xff\x00") == (Credentials("\udcff", ""), 4)
    assert "secret" not in repr(Credentials("me", "secret"))


@pytest.mark.parametrize(("read", "data"), [
    (read_greeting, b"\x05\x02\x00\x02"), (read_credentials, b"\x01\x02me\x06secret"),
    (read_request, V4), (read_request, V6), (read_request, NAME),
])
def test_every_prefix_waits_and_what_follows_is_left(read: Any, data: bytes) -> None:
    for length in range(len(data)):
        assert read(data[:length]) is None
    assert read(data + b"\x16\x03\x01") == read(data)
    assert read(data)[1] == len(data)


@pytest.mark.parametrize(("read", "data", "words", "answer"), [
    (read_greeting, b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00", "SOCKS4", b""),
    (read_greeting, b"GET / HTTP/1.1\r\n", "HTTP, it seems; configure socks5://", b""),
    (read_greeting, b"\x16\x03\x01", "not SOCKS5", b""),
    (read_credentials, b"\x05\x01\x00", "no user and password", b"\x01\x01"),
    (read_request, b"\x04\x01\x00", "no SOCKS5 request", b"\x05\x01"),
    (read_request, b"\x05\x01\x00\x02\x01", "no kind of address 2", b"\x05\x08"),
    (read_request, b"\x05\x09" + V4[2:], "no command 9", b"\x05\x07"),
    (read_request, b"\x05\x01\x00\x03\x00\x00\x50", "not a host name", b"\x05\x01"),
    (read_request, b"\x05\x01\x00\x03\x05a\r\nbc\x00\x50", "not a host name", b"\x05\x01"),
    (read_request, b"\x05\x01\x00\x03\x03\xff\xfea\x00\x50", "not a host name", b"\x05\x01"),
    (read_request, b"\x05\x01\x00\x03\x05127.1\x00\x50", "ambiguous", b"\x05\x01"),
])
def test_what_no_client_sends_is_refused(read: Any, data: bytes, words: str, answer: bytes) -> None:
    with pytest.raises(SocksError, match=words) as caught:
        read(data)
    assert caught.value.answer[:2] == answer


def test_answers_are_as_the_rfcs_have_them() -> None:
    assert choose_method(Method.PASSWORD) == b"\x05\x02"
    assert choose_method(Method.UNACCEPTABLE) == b"\x05\xff"
    assert judge_credentials(True) == b"\x01\x00"
    assert judge_credentials(False) == b"\x01\x01"
    assert reply(Reply.SUCCEEDED) == b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"
    assert reply(Reply.NOT_ALLOWED, ("::1", 258)) == b"\x05\x02\x00\x04" + bytes(15) + b"\x01\x01\x02"


@given(st.binary(max_size=300))
def test_nothing_else_is_ever_raised(data: bytes) -> None:
    for read in (read_greeting, read_credentials, read_request):
        try:
            found = read(data)
        except SocksError:
            continue
        assert found is None or found[1] <= len(data)
