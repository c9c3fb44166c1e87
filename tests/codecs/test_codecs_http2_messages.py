"""HTTP/2 header blocks ⇄ heads: what is accepted, what is refused and how, what leaves."""

from __future__ import annotations

import pytest
from hpack import NeverIndexedHeaderTuple
from hypothesis import given
from hypothesis import strategies as st

from rulesproxy.codecs.http1 import FramingKind, Limits, ProtocolError, identity, serialize_request
from rulesproxy.codecs.http2 import (
    MalformedMessage,
    as_upgrade,
    parse_request,
    parse_response,
    parse_trailers,
    request_block,
    response_block,
    trailer_block,
)
from rulesproxy.model.headers import Field

LIMITS = Limits()
GET = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"host.test"), (b":path", b"/")]


def changed(name: bytes, value: bytes | None) -> list[Field]:
    """GET with another value for a pseudo-header field, or without it."""
    return [field for field in GET if field[0] != name] + ([(name, value)] if value is not None else [])


# --- requests --------------------------------------------------------------------------------------------------


def test_a_request_becomes_an_absolute_target_and_host() -> None:
    head, protocol = parse_request([*GET, (b"x-one", b"1")], True, LIMITS)
    assert (head.method, head.target, head.version) == ("GET", "https://host.test/", "HTTP/2.0")
    assert head.fields == ((b"Host", b"host.test"), (b"x-one", b"1"))
    assert head.framing.kind is FramingKind.NONE and head.keep_alive and protocol is None
    target = identity(head, "https")
    assert (target.host, target.port, target.path, target.host_differs) == ("host.test", 443, "/", False)


@pytest.mark.parametrize(("fields", "ended", "kind", "length"), [
    ([], True, FramingKind.NONE, 0), ([], False, FramingKind.CHUNKED, 0),
    ([(b"content-length", b"0")], True, FramingKind.LENGTH, 0),
    ([(b"content-length", b"7")], False, FramingKind.LENGTH, 7)])
def test_framing(fields: list[Field], ended: bool, kind: FramingKind, length: int) -> None:
    framing = parse_request([*GET, *fields], ended, LIMITS).head.framing
    assert (framing.kind, framing.length) == (kind, length)


def test_cookie_crumbs_are_joined_where_the_first_was() -> None:
    head = parse_request([*GET, (b"cookie", b"a=1"), (b"x", b"y"), (b"cookie", b"b=2"), (b"cookie", b"c=3")], True,
                         LIMITS).head
    assert head.fields[1:] == ((b"cookie", b"a=1; b=2; c=3"), (b"x", b"y"))


def test_host_alone_and_equal_hosts_are_fine() -> None:
    alone = [*changed(b":authority", None), (b"host", b"host.test")]
    assert parse_request(alone, True, LIMITS).head.host == b"host.test"
    assert parse_request([*GET, (b"host", b"HOST.test")], True, LIMITS).head.fields == ((b"Host", b"host.test"),)


def test_connect_has_an_authority_only() -> None:
    head = parse_request([(b":method", b"CONNECT"), (b":authority", b"host.test:443")], False, LIMITS).head
    assert (head.method, head.target) == ("CONNECT", "host.test:443")
    assert identity(head, "http").port == 443


def test_options_for_the_server() -> None:
    block = [(b":method", b"OPTIONS"), *GET[1:3], (b":path", b"*")]
    head = parse_request(block, True, LIMITS).head
    assert identity(head, "https").path == "*"


def test_an_extended_connect_becomes_an_upgrade() -> None:
    head, protocol = parse_request([
        (b":method", b"CONNECT"), (b":protocol", b"websocket"), (b":scheme", b"https"), (b":authority", b"host.test"),
        (b":path", b"/chat"), (b"sec-websocket-key", b"theirs"), (b"origin", b"https://host.test")], False, LIMITS)
    assert protocol == b"websocket"
    upgrade = as_upgrade(head, b"ours")
    assert (upgrade.method, upgrade.target) == ("GET", "https://host.test/chat")
    assert upgrade.framing.kind is FramingKind.NONE
    assert dict(upgrade.fields)[b"Sec-WebSocket-Key"] == b"ours" and b"sec-websocket-key" not in dict(upgrade.fields)
    assert (b"Upgrade", b"websocket") in upgrade.fields and (b"origin", b"https://host.test") in upgrade.fields


MALFORMED = {
    "no method": changed(b":method", None), "an empty method": changed(b":method", b""),
    "a method that is no token": changed(b":method", b"G T"), "no scheme": changed(b":scheme", None),
    "another scheme": changed(b":scheme", b"ftp"), "no path": changed(b":path", None),
    "an empty path": changed(b":path", b""), "a relative path": changed(b":path", b"x"),
    "an absolute path": changed(b":path", b"https://host.test/"), "a space in the path": changed(b":path", b"/a b"),
    "a control character in the path": changed(b":path", b"/\x01"), "a byte beyond ASCII": changed(b":path", b"/\xe4"),
    "a star for GET": changed(b":path", b"*"), "no authority": changed(b":authority", None),
    "an empty authority": changed(b":authority", b""), "user information": changed(b":authority", b"a@host.test"),
    "a path in the authority": changed(b":authority", b"host.test/x"),
    "a space in the authority": changed(b":authority", b"host test"), "an unknown pseudo-header": [*GET, (b":x", b"")],
    "a pseudo-header of responses": [*GET, (b":status", b"200")], "a repeated pseudo-header": [*GET, GET[0]],
    "a pseudo-header after a field": [*GET[:3], (b"x", b"y"), GET[3]], "another host": [*GET, (b"host", b"b.test")],
    "two hosts": [*GET, (b"host", b"host.test"), (b"host", b"host.test")],
    "a name in upper case": [*GET, (b"X-One", b"1")], "an empty name": [*GET, (b"", b"1")],
    "a name with a colon": [*GET, (b"a:b", b"1")], "a name with a space": [*GET, (b"a b", b"1")],
    "a line end in a value": [*GET, (b"x", b"a\r\nb: c")], "NUL in a value": [*GET, (b"x", b"a\0")],
    "a control character in a value": [*GET, (b"x", b"a\x7f")], "a space before a value": [*GET, (b"x", b" a")],
    "a tab after a value": [*GET, (b"x", b"a\t")], "connection": [*GET, (b"connection", b"close")],
    "transfer-encoding": [*GET, (b"transfer-encoding", b"chunked")], "upgrade": [*GET, (b"upgrade", b"h2c")],
    "keep-alive": [*GET, (b"keep-alive", b"1")], "te": [*GET, (b"te", b"gzip")],
    "a length that is none": [*GET, (b"content-length", b"+5")],
    "a negative length": [*GET, (b"content-length", b"-1")],
    "two lengths": [*GET, (b"content-length", b"0"), (b"content-length", b"0")],
    "a list of lengths": [*GET, (b"content-length", b"0, 0")],
    "a length without a body": [*GET, (b"content-length", b"5")],
    "a protocol without CONNECT": [*GET[:1], (b":protocol", b"websocket"), *GET[1:]],
    "CONNECT with a path": changed(b":method", b"CONNECT"),
}


@pytest.mark.parametrize("block", MALFORMED.values(), ids=MALFORMED)
def test_malformed_requests(block: list[Field]) -> None:
    with pytest.raises(MalformedMessage):
        parse_request(block, True, LIMITS)


@pytest.mark.parametrize(("block", "status"), [
    (changed(b":path", b"/" + b"x" * LIMITS.request_line), 414),
    ([*GET, *((b"x-%d" % number, b"") for number in range(LIMITS.fields + 1))], 431),
    ([*GET, (b"x", b"y" * LIMITS.head)], 431)])
def test_limits(block: list[Field], status: int) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_request(block, True, LIMITS)
    assert caught.value.status == status and not isinstance(caught.value, MalformedMessage)


_names = st.binary(max_size=6) | st.sampled_from([
    b":method", b":path", b":scheme", b":authority", b":protocol", b"host", b"cookie", b"te", b"content-length",
    b"connection", b"expect", b"x-one"])
_values = st.binary(max_size=8) | st.sampled_from([
    b"GET", b"CONNECT", b"/", b"*", b"https", b"host.test", b"a=b", b"trailers", b"5", b"100-continue"])


@given(st.lists(st.tuples(_names, _values), max_size=10), st.booleans(), st.booleans())
def test_whatever_is_accepted_is_valid_http1(fields: list[Field], ended: bool, begins_well: bool) -> None:
    try:
        head = parse_request([*(GET if begins_well else []), *fields], ended, LIMITS).head
        target = identity(head, "https")
    except ProtocolError:
        return
    block = serialize_request(head.method, target.path or head.target, head.fields)
    assert block.count(b"\r\n") == len(head.fields) + 2


# --- responses -------------------------------------------------------------------------------------------------


def test_a_response() -> None:
    head = parse_response([(b":status", b"200"), (b"x", b"y")], False, "GET", LIMITS)
    assert (head.status, head.reason, head.fields) == (200, "OK", ((b"x", b"y"),))
    assert head.framing.kind is FramingKind.CHUNKED


def test_a_response_that_ends_at_once_says_so_for_http1() -> None:
    head = parse_response([(b":status", b"200")], True, "GET", LIMITS)
    assert head.framing == (FramingKind.LENGTH, 0) and head.fields == ((b"content-length", b"0"),)


@pytest.mark.parametrize(("status", "method"), [(b"204", "GET"), (b"304", "GET"), (b"200", "HEAD"), (b"103", "GET")])
def test_responses_without_a_body(status: bytes, method: str) -> None:
    block = [(b":status", status), (b"content-length", b"5")] if status != b"204" else [(b":status", status)]
    assert parse_response(block, status != b"103", method, LIMITS).framing.kind is FramingKind.NONE


@pytest.mark.parametrize("block", [
    [], [(b":status", b"20")], [(b":status", b"+20")], [(b":status", b"101")], [(b":status", b"099")],
    [(b":status", b"200"), (b":path", b"/")], [(b":status", b"200"), (b"connection", b"close")],
    [(b":status", b"103")], [(b":status", b"200"), (b"content-length", b"5")], [(b"x", b"y"), (b":status", b"200")],
    [(b":status", b"200"), (b"X", b"y")], [(b":status", b"200"), (b"x", b"a\nb")]])
def test_malformed_responses(block: list[Field]) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_response(block, True, "GET", LIMITS)
    assert caught.value.status == 502


def test_trailers() -> None:
    assert parse_trailers([(b"grpc-status", b"0")], LIMITS) == ((b"grpc-status", b"0"),)
    for block in ([(b":status", b"200")], [(b"X", b"y")], [(b"connection", b"x")]):
        with pytest.raises(MalformedMessage):
            parse_trailers(block, LIMITS)


# --- sending ---------------------------------------------------------------------------------------------------


def test_a_request_block() -> None:
    block = request_block("GET", "https", b"host.test", "/", (
        (b"Host", b"host.test"), (b"X-One", b" 1 "), (b"Connection", b"TE"), (b"TE", b"trailers"),
        (b"Transfer-Encoding", b"chunked"), (b"Upgrade", b"h2c"), (b"Keep-Alive", b"5"), (b"Content-Length", b"5")))
    assert block == [*GET[:3], (b":path", b"/"), (b"x-one", b"1"), (b"te", b"trailers"), (b"content-length", b"5")]


def test_secrets_are_never_indexed() -> None:
    block = request_block("GET", "https", b"host.test", "/", (
        (b"Authorization", b"Basic x"), (b"Cookie", b"a=b"), (b"Cookie", b"a=" + b"b" * 40)))
    assert [isinstance(field, NeverIndexedHeaderTuple) for field in block[4:]] == [True, True, False]


def test_a_response_and_a_trailer_block() -> None:
    assert response_block(200, ((b"Content-Type", b"text/plain"),)) == [(b":status", b"200"),
                                                                       (b"content-type", b"text/plain")]
    assert trailer_block(((b"Grpc-Status", b"0"),)) == [(b"grpc-status", b"0")]


@pytest.mark.parametrize("field", [(b"x", b"a\r\nb"), (b"x", b"\0"), (b"a b", b"c"), (b":x", b"y"), (b"", b"y")])
def test_what_an_addon_must_not_send(field: Field) -> None:
    with pytest.raises(ProtocolError) as caught:
        response_block(200, (field,))
    assert caught.value.status == 500


@pytest.mark.parametrize(("method", "authority", "path"), [
    ("G T", b"h", "/"), ("GET", b"", "/"), ("GET", b"a\nb", "/"), ("GET", b"h", "/ x"), ("GET", b"h", "")])
def test_illegal_request_lines(method: str, authority: bytes, path: str) -> None:
    with pytest.raises(ProtocolError):
        request_block(method, "https", authority, path, ())
