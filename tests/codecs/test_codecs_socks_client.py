"""SOCKS5 as a client speaks it: what it sends, what it accepts, and that pieces of any size do (RFC 1928, RFC 1929)."""

from __future__ import annotations

import pytest

from rulesproxy.codecs.socks_client import TIMED_OUT, SocksClient, SocksError

GRANTED = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x1f\x90"


def talk(client: SocksClient, answers: bytes, step: int) -> bytes:
    """Everything the client sends when the answers come `step` bytes at a time."""
    sent = client.hello
    for at in range(0, len(answers), step):
        sent += client.feed(answers[at:at + step])
    return sent


@pytest.mark.parametrize("step", [1, 2, 3, 100])
@pytest.mark.parametrize(("host", "address"), [
    ("shop.test", b"\x03\x09shop.test"), ("192.0.2.7", b"\x01\xc0\x00\x02\x07"),
    ("2001:db8::1", b"\x04\x20\x01\x0d\xb8" + b"\x00" * 11 + b"\x01"),
])
def test_asks_for_the_host_as_it_is_written(host: str, address: bytes, step: int) -> None:
    client = SocksClient(host, 443)
    assert talk(client, b"\x05\x00" + GRANTED, step) == b"\x05\x01\x00" + b"\x05\x01\x00" + address + b"\x01\xbb"
    assert client.done and client.rest == b""


@pytest.mark.parametrize("step", [1, 2, 100])
def test_says_who_it_is_when_asked(step: int) -> None:
    client = SocksClient("a.test", 80, ("ada", "pä:ss"))
    sent = talk(client, b"\x05\x02\x01\x00" + GRANTED, step)
    assert sent == (b"\x05\x02\x00\x02" + b"\x01\x03ada\x06p\xc3\xa4:ss"
                    + b"\x05\x01\x00\x03\x06a.test\x00\x50")
    assert client.done


def test_keeps_its_password_when_nobody_asks() -> None:
    client = SocksClient("a.test", 80, ("ada", "secret"))
    assert b"secret" not in talk(client, b"\x05\x00" + GRANTED, 100)
    assert client.done


@pytest.mark.parametrize("bound", [b"\x01\x7f\x00\x00\x01", b"\x03\x03abc", b"\x03\x00", b"\x04" + b"\x00" * 16])
@pytest.mark.parametrize("step", [1, 7, 100])
def test_what_follows_the_answer_belongs_to_the_tunnel(bound: bytes, step: int) -> None:
    client = SocksClient("a.test", 25)
    answers = b"\x05\x00" + b"\x05\x00\x00" + bound + b"\x1f\x90" + b"220 hello"
    fed = 0
    while not client.done:
        client.feed(answers[fed:fed + step])
        fed += step
    assert client.rest + answers[fed:] == b"220 hello"


@pytest.mark.parametrize(("answers", "auth", "why"), [
    (b"\x04\x5a", None, "does not speak SOCKS5"), (b"HTTP/1.1 400", None, "does not speak SOCKS5"),
    (b"\x05\xff", None, "wants a user"), (b"\x05\x02", None, "wants a user"), (b"\x05\x01", None, "wants a user"),
    (b"\x05\xff", ("ada", "x"), "neither"), (b"\x05\x02\x01\x01", ("ada", "x"), "does not accept the user"),
    (b"\x05\x00\x05\x02", None, "not allowed"), (b"\x05\x00\x05\x05", None, "connection refused"),
    (b"\x05\x00\x05\x63", None, "reply 99"), (b"\x05\x00\x04\x00", None, "does not speak SOCKS5"),
    (b"\x05\x00\x05\x00\x00\x09\x00", None, "no known type"),
])
def test_every_refusal_says_what_it_is(answers: bytes, auth: tuple[str, str] | None, why: str) -> None:
    with pytest.raises(SocksError, match=why) as failed:
        talk(SocksClient("a.test", 80, auth), answers, 1)
    assert failed.value.auth == ("user" in why or why == "neither")


def test_a_timeout_of_the_proxy_can_be_told() -> None:
    with pytest.raises(SocksError) as failed:
        talk(SocksClient("a.test", 80), b"\x05\x00\x05\x06", 100)
    assert failed.value.code == TIMED_OUT
