"""What a proxy passes on, and what a Connection field may take away."""

from __future__ import annotations

import pytest

from rulesproxy.codecs.http1 import safe_trailers, strip_hop_by_hop
from rulesproxy.model.headers import Fields

PLAIN: Fields = ((b"Host", b"a"), (b"X-A", b"b"), (b"x-a", b"c"))


def test_nothing_to_strip_is_handed_back_as_it_is() -> None:
    assert strip_hop_by_hop(PLAIN) is PLAIN


@pytest.mark.parametrize("field", [
    (b"Connection", b"keep-alive"), (b"Proxy-Connection", b"keep-alive"), (b"Keep-Alive", b"timeout=5"),
    (b"TE", b"gzip"), (b"Transfer-Encoding", b"chunked"), (b"UPGRADE", b"h2c"), (b"Proxy-Authorization", b"Basic eA=="),
    (b"Proxy-Authenticate", b"Basic"), (b"HTTP2-Settings", b"AAMAAABkAAQAAP__"),
])
def test_hop_by_hop_fields_go(field: tuple[bytes, bytes]) -> None:
    assert strip_hop_by_hop((PLAIN[0], field, *PLAIN[1:])) == PLAIN


def test_nominated_fields_go_whatever_the_case_and_line() -> None:
    fields = ((b"connection", b"X-Drop, close"), *PLAIN, (b"x-drop", b"1"), (b"Connection", b",\tx-too "),
              (b"X-Too", b"2"))
    assert strip_hop_by_hop(fields) == PLAIN


@pytest.mark.parametrize("name", [b"Host", b"Content-Length", b"Cookie", b"Authorization", b"Cache-Control",
                                  b"X-Forwarded-For", b"Content-Type"])
def test_a_nomination_cannot_remove_end_to_end_fields(name: bytes) -> None:
    kept = ((name, b"1"),)
    assert strip_hop_by_hop((*kept, (b"Connection", b"close, " + name.lower()))) == kept


def test_te_trailers_travels_on_alone() -> None:
    fields = ((b"TE", b"gzip;q=0.5, Trailers"), (b"Connection", b"TE"), (b"TE", b"deflate"))
    assert strip_hop_by_hop(fields) == ((b"TE", b"trailers"),)


def test_upgrade_stays_only_when_asked_for_and_nominated() -> None:
    upgrade = ((b"Upgrade", b"websocket"), (b"Connection", b"keep-alive, Upgrade"), (b"X", b"y"))
    assert strip_hop_by_hop(upgrade) == ((b"X", b"y"),)
    assert strip_hop_by_hop(upgrade, keep_upgrade=True) == (
        (b"X", b"y"), (b"Upgrade", b"websocket"), (b"Connection", b"upgrade"))
    assert strip_hop_by_hop((upgrade[0], upgrade[2]), keep_upgrade=True) == ((b"X", b"y"),)


def test_proxy_auth_stays_for_a_next_proxy() -> None:
    fields = ((b"Proxy-Authorization", b"Basic eA=="), (b"Proxy-Connection", b"close"))
    assert strip_hop_by_hop(fields, keep_proxy_auth=True) == (fields[0],)


def test_a_huge_connection_field_is_read_like_any_other() -> None:
    fields = ((b"Connection", b",".join(b"x-%d" % number for number in range(500))), (b"X-499", b"1"), (b"X-500", b"2"))
    assert strip_hop_by_hop(fields) == ((b"X-500", b"2"),)


def test_trailers_that_frame_route_or_authenticate_are_dropped() -> None:
    good = ((b"X-Checksum", b"1"), (b"Server-Timing", b"a"), (b"grpc-status", b"0"), (b"ETag", b'"a"'))
    bad = tuple((name, b"1") for name in (
        b"Content-Length", b"Transfer-Encoding", b"HOST", b"Trailer", b"Authorization", b"Set-Cookie", b"Cookie",
        b"Cache-Control", b"Content-Type", b"Content-Encoding", b"Connection", b"Proxy-Authorization", b"TE", b"Range"))
    assert safe_trailers(bad[:7] + good + bad[7:]) == good
