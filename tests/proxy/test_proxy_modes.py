"""Mode specifications."""

from __future__ import annotations

import re

import pytest

from rulesproxy.proxy.modes import Mode, parse_mode


@pytest.mark.parametrize(("spec", "expected"), [
    ("regular", ("regular", "127.0.0.1", 8080)),
    ("dns", ("dns", "127.0.0.1", 8053)),
    ("regular@9000", ("regular", "127.0.0.1", 9000)),
    ("regular@:9000", ("regular", "127.0.0.1", 9000)),
    ("regular@0.0.0.0:9000", ("regular", "0.0.0.0", 9000)),
    ("regular@0.0.0.0", ("regular", "0.0.0.0", 8080)),
    ("dns@[::1]:53", ("dns", "::1", 53)),
    ("dns@[::1]", ("dns", "::1", 8053)),
    ("regular@LOCALHOST:0", ("regular", "localhost", 0)),
    ("socks5", ("socks5", "127.0.0.1", 1080)),
    ("transparent@0.0.0.0", ("transparent", "0.0.0.0", 8081)),
])
def test_specifications_are_read(spec: str, expected: tuple[str, str, int]) -> None:
    mode = parse_mode(spec)
    assert (mode.name, mode.host, mode.port) == expected
    assert mode.data == ""


@pytest.mark.parametrize(("spec", "words"), [
    ("", "no mode"),
    ("regulr", "no mode 'regulr'"),
    ("regular@", "nothing follows"),
    ("regular:data", "takes no data"),
    ("regular:a@b@9000", "takes no data"),
    ("regular@host:port", "port must be a number"),
    ("regular@host:70000", "0 to 65535"),
    ("regular@host:-1", "0 to 65535"),
    ("regular@::1", "brackets"),
    ("regular@::1:8080", "brackets"),
    ("regular@ho st:80", "not a host name"),
    ("regular@127.1:80", "ambiguous"),
    ("regular@9000²", "port must be a number"),
    ("local", "not available; there are regular, reverse, upstream, socks5, transparent, dns"),
    ("socks5:x", "takes no data; write socks5@host:port"),
    ("transparent:@80", "takes no data"),
    ("reverse", "needs a destination; write reverse:http://host:port"),
    ("reverse:", "needs a destination"),
    ("sock5", "no mode 'sock5' (did you mean socks5?); there are regular,"),
    ("SOCKS5", "did you mean socks5?"),
    ("socks", "did you mean socks5?"),
    ("http", "did you mean regular?"),
    ("9000", "did you mean regular@9000?"),
    ("socks5:1080", "takes no data; write socks5@1080"),
    ("socks5://127.0.0.1:1080", "takes no data; write socks5@127.0.0.1:1080"),
    ("regular://[::1]:9000", "takes no data; write regular@[::1]:9000"),
    ("regular@8080x", "the port must be a number from 0 to 65535, not '8080x'"),
    ("reverse:shop.test:80", "no URL; write reverse:http|https|tcp|tls|udp|dns://shop.test:80"),
    ("reverse:http//shop.test", "no URL; write reverse:http|https|tcp|tls|udp|dns://host:port"),
    ("upstream:proxy:3128", "no URL; write upstream:http|https://proxy:3128"),
    ("reverse:ftp://shop.test", "knows no ftp://; write reverse:http|"),
    ("reverse:http://shop.test/items", "has no path"),
    ("reverse:http://shop.test?x", "has no path"),
    ("reverse:http://:80", "has no host"),
    ("reverse:http://::1", "no host"),
    ("reverse:http://[::1", "brackets"),
    ("reverse:http://127.1", "ambiguous"),
    ("reverse:http://shop.test:0", "from 1 to 65535"),
    ("reverse:http://shop.test:99999", "from 1 to 65535"),
    ("reverse:tcp://db.test", "tcp:// has no usual port; write reverse:tcp://db.test:port"),
    ("reverse:tls://db.test:", "has no usual port; write reverse:tls://db.test:port"),
    ("reverse:http://a@", "nothing follows"),
    ("upstream", "needs a destination; write upstream:http://host:port"),
    ("upstream:socks5://proxy:1080", "host:port; SOCKS5 proxies are for rules with upstream_proxy"),
])
def test_what_is_wrong_is_said_in_one_line(spec: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        parse_mode(spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("spec", "scheme", "destination", "where"), [
    ("reverse:http://shop.test", "http", ("shop.test", 80), ("127.0.0.1", 8080)),
    ("reverse:HTTPS://Shop.Test./@9000", "https", ("shop.test", 443), ("127.0.0.1", 9000)),
    ("reverse:tcp://10.0.0.7:5432@:5432", "tcp", ("10.0.0.7", 5432), ("127.0.0.1", 5432)),
    ("reverse:tls://[2001:db8::1]:993@[::1]:993", "tls", ("2001:db8::1", 993), ("::1", 993)),
    ("reverse:udp://10.0.0.7:514", "udp", ("10.0.0.7", 514), ("127.0.0.1", 8080)),
    ("reverse:dns://9.9.9.9", "dns", ("9.9.9.9", 53), ("127.0.0.1", 8053)),
    ("reverse:http://shop.test@0.0.0.0", "http", ("shop.test", 80), ("0.0.0.0", 8080)),
    ("reverse:http://shop.test@localhost:1", "http", ("shop.test", 80), ("localhost", 1)),
    ("upstream:http://proxy.test:3128", "http", ("proxy.test", 3128), ("127.0.0.1", 8080)),
    ("upstream:https://proxy.test@7", "https", ("proxy.test", 443), ("127.0.0.1", 7)),
])
def test_a_destination_is_read(spec: str, scheme: str, destination: tuple[str, int], where: tuple[str, int]) -> None:
    mode = parse_mode(spec)
    assert (mode.scheme, mode.destination, (mode.host, mode.port)) == (scheme, destination, where)
    assert parse_mode(str(mode)) == mode


@pytest.mark.parametrize("spec", [
    "upstream:http://me:secret@proxy.test:3128",
    "upstream:http://me:secret@proxy.test:3128@8080",
    "upstream:http://me:5ecret@proxy.test",
    "upstream:http://me:12345@proxy.test:3128",
    "upstream:http://me@proxy.test:3128",
])
def test_credentials_of_a_proxy_have_an_option_of_their_own(spec: str) -> None:
    with pytest.raises(ValueError, match=r"upstream:http://host:port and set upstream_auth to user:password") as caught:
        parse_mode(spec)
    assert "secret" not in str(caught.value)
    assert "12345" not in str(caught.value)


@pytest.mark.parametrize("spec", ["reverse:http://me:secret@shop.test:80", "reverse:http://me:secret@shop.test:80@81"])
def test_credentials_of_a_server_are_refused(spec: str) -> None:
    with pytest.raises(ValueError, match="destination has no credentials") as caught:
        parse_mode(spec)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("spec", "transport", "is_proxy"), [
    ("regular", "tcp", True), ("upstream:http://a", "tcp", True), ("socks5", "tcp", True),
    ("transparent", "tcp", False), ("reverse:http://a", "tcp", False), ("reverse:tls://a:1", "tcp", False),
    ("reverse:udp://a:1", "udp", False), ("reverse:dns://a", "dns", False), ("dns", "dns", False),
])
def test_what_a_mode_is(spec: str, transport: str, is_proxy: bool) -> None:
    mode = parse_mode(spec)
    assert (mode.transport, mode.is_proxy) == (transport, is_proxy)


def test_a_mode_prints_as_its_specification() -> None:
    for spec in ("regular@127.0.0.1:8080", "dns@[::1]:53"):
        assert str(parse_mode(spec)) == spec
    assert str(Mode("x", "d", "h", 1)) == "x:d@h:1"
