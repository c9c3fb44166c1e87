"""The text of ways through other proxies."""

from __future__ import annotations

import pytest

from rulesproxy.model.effects import Via
from rulesproxy.model.via import DIRECT, BadVia, chosen, parse_auth, parse_via


@pytest.mark.parametrize(("text", "shown"), [
    ("http://proxy.test:3128", "http://proxy.test:3128"), ("http://Proxy.Test", "http://proxy.test:80"),
    ("https://proxy.test/", "https://proxy.test:443"), ("HTTPS://192.0.2.1:1", "https://192.0.2.1:1"),
    ("socks5://proxy.test", "socks5://proxy.test:1080"), ("socks5h://proxy.test:9", "socks5://proxy.test:9"),
    ("http://[2001:DB8::1]:8080", "http://[2001:db8::1]:8080"), ("direct", "direct"), ("none", "direct"),
])
def test_texts_that_name_a_proxy(text: str, shown: str) -> None:
    assert str(parse_via(text)) == shown


@pytest.mark.parametrize("text", [
    "", "proxy.test:3128", "http://", "http://proxy.test:0", "http://proxy.test:65536", "http://proxy.test/path",
    "http://proxy.test?x", "ftp://proxy.test", "socks4://proxy.test", "http://a b", "http://0x7f.1", "Direct ",
    "http://2001:db8::1", "http://proxy.test:12:13", "http://proxy.test\n",
])
def test_texts_that_name_none(text: str) -> None:
    with pytest.raises(BadVia):
        parse_via(text)


@pytest.mark.parametrize("text", ["http://ada:secret@proxy.test:3128", "socks5://secret@proxy.test", "secret@", "a@b"])
def test_a_password_in_a_url_is_an_error_that_does_not_repeat_it(text: str) -> None:
    with pytest.raises(BadVia) as failed:
        parse_via(text)
    assert "secret" not in str(failed.value)


@pytest.mark.parametrize(("text", "pair"), [
    ("ada:secret", ("ada", "secret")), ("ada:a:b@c", ("ada", "a:b@c")), ("ada:", ("ada", "")),
])
def test_user_and_password(text: str, pair: tuple[str, str]) -> None:
    assert parse_auth(text) == pair


@pytest.mark.parametrize("text", ["", "ada", ":secret", "ada:sec\nret", "a" * 256 + ":x", "ada:" + "ä" * 128])
def test_what_is_no_user_and_password_is_not_repeated(text: str) -> None:
    with pytest.raises(BadVia) as failed:
        parse_auth(text)
    assert not text or text not in str(failed.value)


def test_whoever_decides_first_is_obeyed() -> None:
    mode, rule = Via("http", "a.test", 1), Via("http", "b.test", 2)
    assert chosen(None, None) is None
    assert chosen(None, mode) is mode
    assert chosen(rule, mode) is rule
    assert chosen(DIRECT, mode) is None
    assert chosen(Via("direct", "", 0, rule="stay"), mode) is None


def test_the_password_is_part_of_what_is_compared_and_not_of_what_is_shown() -> None:
    ada, bob = (Via("http", "a.test", 1, (user, "secret")) for user in ("ada", "bob"))
    assert ada != bob and ada != Via("http", "a.test", 1)
    assert "secret" not in repr(ada) + str(ada)
    assert ada == Via("http", "a.test", 1, ("ada", "secret"), rule="another")
