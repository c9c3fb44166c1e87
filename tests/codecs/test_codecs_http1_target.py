"""Targets and Host: every spelling of an origin leads to one identity, or to a refusal."""

from __future__ import annotations

import pytest

from rulesproxy.codecs.http1 import (
    Identity,
    ProtocolError,
    Receiver,
    RequestHead,
    Target,
    identity,
    parse_host_field,
    parse_target,
)


def request(line: bytes, host: bytes | None = b"a.example") -> RequestHead:
    receiver = Receiver()
    version = b"1.0" if host is None else b"1.1"
    fields = b"" if host is None else b"Host: " + host + b"\r\n"
    receiver.feed(line + b" HTTP/" + version + b"\r\n" + fields + b"\r\n")
    head = receiver.next_request()
    assert head is not None
    return head


@pytest.mark.parametrize(("method", "text", "expected"), [
    ("GET", "/", Target("origin", None, None, None, "/")),
    ("GET", "/a?b=c%2F\\", Target("origin", None, None, None, "/a?b=c%2F\\")),
    ("GET", "//evil.example/a", Target("origin", None, None, None, "//evil.example/a")),
    ("OPTIONS", "*", Target("asterisk", None, None, None, "*")),
    ("OPTIONS", "/a", Target("origin", None, None, None, "/a")),
    ("GET", "http://A.example", Target("absolute", "http", "A.example", None, "/")),
    ("GET", "HTTPS://a.example:8443/x?y", Target("absolute", "https", "a.example", 8443, "/x?y")),
    ("GET", "http://a.example?y", Target("absolute", "http", "a.example", None, "/?y")),
    ("OPTIONS", "http://a.example", Target("absolute", "http", "a.example", None, "*")),
    ("OPTIONS", "http://a.example/", Target("absolute", "http", "a.example", None, "/")),
    ("GET", "http://[::1]:81/", Target("absolute", "http", "[::1]", 81, "/")),
    ("GET", "http://a.example/http://b.example/", Target("absolute", "http", "a.example", None,
                                                         "/http://b.example/")),
    ("GET", "http://a.example/@b", Target("absolute", "http", "a.example", None, "/@b")),
    ("CONNECT", "a.example:443", Target("authority", None, "a.example", 443, "")),
    ("CONNECT", "[2001:DB8::1]:443", Target("authority", None, "[2001:DB8::1]", 443, "")),
])
def test_targets(method: str, text: str, expected: Target) -> None:
    assert parse_target(method, text) == expected


@pytest.mark.parametrize(("line", "host", "scheme", "expected"), [
    (b"GET /x", b"a.example", "http", Identity("http", "a.example", 80, "/x", "origin", False)),
    (b"GET /x", b"A.Example.", "https", Identity("https", "a.example", 443, "/x", "origin", False)),
    (b"GET /x", b"a.example:8080", "http", Identity("http", "a.example", 8080, "/x", "origin", False)),
    (b"GET /x", b"[::0001]:81", "http", Identity("http", "::1", 81, "/x", "origin", False)),
    (b"GET /x", b"127.0.0.1", "http", Identity("http", "127.0.0.1", 80, "/x", "origin", False)),
    (b"OPTIONS *", b"a.example", "http", Identity("http", "a.example", 80, "*", "asterisk", False)),
    (b"GET http://b.example/x", b"a.example", "http", Identity("http", "b.example", 80, "/x", "absolute", True)),
    (b"GET http://b.example/x", b"B.example:80", "http", Identity("http", "b.example", 80, "/x", "absolute", False)),
    (b"GET http://b.example/x", b"b.example:81", "http", Identity("http", "b.example", 80, "/x", "absolute", True)),
    (b"GET http://b.example/x", b"", "http", Identity("http", "b.example", 80, "/x", "absolute", True)),
    (b"GET http://b.example/x", None, "http", Identity("http", "b.example", 80, "/x", "absolute", True)),
    (b"GET https://b.example/x", b"b.example", "http",
     Identity("https", "b.example", 443, "/x", "absolute", False)),
    (b"CONNECT b.example:443", b"b.example:443", "http",
     Identity("", "b.example", 443, "", "authority", False)),
    (b"CONNECT b.example:443", b"c.example:443", "http",
     Identity("", "b.example", 443, "", "authority", True)),
])
def test_identity(line: bytes, host: bytes | None, scheme: str, expected: Identity) -> None:
    assert identity(request(line, host), scheme) == expected


def test_an_origin_form_request_without_host_has_no_identity() -> None:
    with pytest.raises(ProtocolError) as caught:
        identity(request(b"GET /", None), "http")
    assert caught.value.status == 400


def test_host_fields() -> None:
    assert parse_host_field(b"A.EXAMPLE") == ("a.example", None)
    assert parse_host_field(b"xn--bcher-kva.example:080") == ("xn--bcher-kva.example", 80)
    assert parse_host_field(b"under_score.example") == ("under_score.example", None)
