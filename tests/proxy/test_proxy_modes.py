"""Mode specifications."""

from __future__ import annotations

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
    ("reverse:http://a@9000", "not available yet"),
    ("socks5", "not available yet"),
    ("transparent@80", "not available yet"),
])
def test_what_is_wrong_is_said_in_one_line(spec: str, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("(", r"\(")) as caught:
        parse_mode(spec)
    assert "\n" not in str(caught.value)


def test_a_mode_prints_as_its_specification() -> None:
    for spec in ("regular@127.0.0.1:8080", "dns@[::1]:53"):
        assert str(parse_mode(spec)) == spec
    assert str(Mode("x", "d", "h", 1)) == "x:d@h:1"
