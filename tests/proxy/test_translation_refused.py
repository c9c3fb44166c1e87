"""What is not HTTP/1 grammar goes nowhere, whatever version of HTTP it came in: it could mean something else there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from h2.errors import ErrorCodes

from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.policy import TlsDecision, TlsVerdict
from tests.support.certificates import OriginCA
from tests.support.http2 import Http2Peer, http2_client
from tests.support.origin import OriginConnection, run_origin
from tests.support.proxy import RunningProxy
from tests.support.translation import WAYS, Sent, on_the_way

MakeProxy = Callable[..., Awaitable[RunningProxy]]
Block = list[tuple[str, str]]


class Intercept:
    """Decrypts everything."""

    def tls_decision(self, tunnel: Any) -> TlsDecision:
        return TlsDecision(TlsVerdict.INTERCEPT)


def head(*fields: tuple[str, str], **pseudo: str | None) -> Block:
    """A request block; a pseudo-header field that is None is left out."""
    said = {"method": "GET", "scheme": "https", "authority": "localhost", "path": "/"} | pseudo
    return [*((f":{name}", value) for name, value in said.items() if value is not None), *fields]


BLOCKS: dict[str, Block] = {
    "CR LF in a value": head(("x", "a\r\ny: b")),
    "CR in a value": head(("x", "a\ry")),
    "LF in a value": head(("x", "a\ny: b")),
    "NUL in a value": head(("x", "a\0b")),
    "DEL in a value": head(("x", "a\x7fb")),
    "a control in a value": head(("x", "a\x01b")),
    "a value that begins with a space": head(("x", " a")),
    "a value that ends with a tab": head(("x", "a\t")),
    "upper case in a name": head(("X-Upper", "a")),
    "a space in a name": head(("x y", "a")),
    "a colon in a name": head(("x:y", "a")),
    "CR LF in a name": head(("x\r\ny", "a")),
    "NUL in a name": head(("x\0", "a")),
    "an empty name": head(("", "a")),
    "a name beyond ASCII": head(("naïve", "a")),
    "an unknown pseudo-header field": head((":proto", "a")),
    "a pseudo-header field after others": [*head(path=None), ("x", "a"), (":path", "/")],
    "a response's pseudo-header field": head((":status", "200")),
    "two paths": [*head(), (":path", "/b")],
    "two methods": [(":method", "GET"), *head()],
    "no method": head(method=None),
    "no scheme": head(scheme=None),
    "no path": head(path=None),
    "nobody asked": head(authority=None),
    "an empty method": head(method=""),
    "a space in the method": head(method="GET /b"),
    "CR LF in the method": head(method="GET / HTTP/1.1\r\nx: y\r\n\r\nGET"),
    "an empty path": head(path=""),
    "a relative path": head(path="a"),
    "an absolute path": head(path="http://else.test/"),
    "a star for GET": head(path="*"),
    "a space in the path": head(path="/a b"),
    "a request in the path": head(path="/ HTTP/1.1\r\nHost: else.test\r\n\r\nGET /"),
    "a tab in the path": head(path="/a\tb"),
    "NUL in the path": head(path="/a\0b"),
    "a path beyond ASCII": head(path="/é"),
    "user information": head(authority="user@localhost"),
    "a path in the authority": head(authority="localhost/a"),
    "a space in the authority": head(authority="localhost a"),
    "CR LF in the authority": head(authority="localhost\r\nx: y"),
    "a comma in the authority": head(authority="localhost,else.test"),
    "an empty authority": head(authority=""),
    "host differs": head(("host", "else.test")),
    "two hosts": head(("host", "localhost"), ("host", "localhost")),
    "connection": head(("connection", "close")),
    "connection that names a field": head(("connection", "x-auth"), ("x-auth", "1")),
    "keep-alive": head(("keep-alive", "5")),
    "proxy-connection": head(("proxy-connection", "close")),
    "upgrade": head(("upgrade", "h2c")),
    "transfer-encoding": head(("transfer-encoding", "chunked"), method="POST"),
    "te that is not trailers": head(("te", "gzip")),
    "te that is more than trailers": head(("te", "trailers, deflate")),
    "content-length without a body": head(("content-length", "4"), method="POST"),
    "two content-lengths": head(("content-length", "0"), ("content-length", "0"), method="POST"),
    "a list of content-lengths": head(("content-length", "0, 0"), method="POST"),
    "a content-length with a sign": head(("content-length", "+0"), method="POST"),
    "a content-length in hex": head(("content-length", "0x0"), method="POST"),
    "a content-length beyond counting": head(("content-length", "9" * 25), method="POST"),
    "another scheme": head(scheme="ftp"),
    "CR LF in the scheme": head(scheme="https\r\nx: y"),
    "CONNECT with a path": head(method="CONNECT"),
    "a protocol without CONNECT": head(protocol="websocket"),
}


@pytest.mark.parametrize("version", ["h1", "h2"])
@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS.keys())
async def test_a_bad_block_reaches_nobody(make_proxy: MakeProxy, origin_ca: OriginCA, block: Block, version: str
                                          ) -> None:
    proxy = await make_proxy(Intercept())
    async with on_the_way(f"h2→{version}", proxy, origin_ca) as stage:
        peer = stage.client.peer  # type: ignore[union-attr]
        answer = await peer.over(peer.send_block(block))
        assert answer.reset == ErrorCodes.PROTOCOL_ERROR or answer.status in ("400", "421"), answer
        assert not stage.requests and not proxy.recorder.of("requestheaders")
        received, answered = await stage.exchange(Sent(), Sent(body=b"hello"))  # the others go on
        assert answered.body == b"hello"
        assert stage.requests == [received]


@pytest.mark.parametrize("version", ["h1", "h2"])
@pytest.mark.parametrize("trailer", [("x", "a\r\nb: c"), ("x y", "a"), ("X", "a"), (":path", "/"), ("connection", "x"),
                                     ("transfer-encoding", "chunked"), ("x", "a\0")], ids=repr)
async def test_a_bad_trailer_leaves_the_request_incomplete(make_proxy: MakeProxy, origin_ca: OriginCA, version: str,
                                                           trailer: tuple[str, str]) -> None:
    proxy = await make_proxy(Intercept())
    async with on_the_way(f"h2→{version}", proxy, origin_ca) as stage:
        peer = stage.client.peer  # type: ignore[union-attr]
        stream = peer.send_request(method="POST", authority=f"localhost:{stage.port}", end=False)
        await peer.send_body(stream, b"body", end=False)
        peer.send_trailers(stream, [trailer])
        answer = await peer.over(stream)
        assert answer.reset == ErrorCodes.PROTOCOL_ERROR or answer.status == "400"
        assert not any(request.whole for request in stage.requests)


@pytest.mark.parametrize("trailer", ["content-length", "host", "authorization", "content-type", "set-cookie",
                                     "x-forwarded-for", "trailer"])
async def test_a_trailer_that_would_mean_more_there_is_dropped(make_proxy: MakeProxy, origin_ca: OriginCA,
                                                               trailer: str) -> None:
    """RFC 9110 §6.5.1: a recipient may merge trailers into the head."""
    proxy = await make_proxy(Intercept())
    trailers = ((trailer, "1"), ("x-kept", "2"))
    for way in WAYS:
        async with on_the_way(way, proxy, origin_ca) as stage:
            received, answered = await stage.exchange(Sent("POST", body=b"x", sized=False, trailers=trailers),
                                                      Sent(body=b"x", sized=False, trailers=trailers))
            assert received.trailers == answered.trailers == [("x-kept", "2")]


@pytest.mark.parametrize("version", ["h1", "h2"])
@pytest.mark.parametrize(("length", "pieces"), [(4, [b"abc"]), (4, [b"abc", b"de"]), (4, [b""]), (0, [b"a"])],
                         ids=["less", "more", "nothing", "more than nothing"])
async def test_a_body_that_is_not_what_was_said(make_proxy: MakeProxy, origin_ca: OriginCA, version: str, length: int,
                                                pieces: list[bytes]) -> None:
    """RFC 9113 §8.1.1: over HTTP/1 the rest would be the next request, or the next request the rest."""
    proxy = await make_proxy(Intercept())
    async with on_the_way(f"h2→{version}", proxy, origin_ca) as stage:
        peer = stage.client.peer  # type: ignore[union-attr]
        stream = peer.send_block(head(("content-length", str(length)), method="POST"), end=False)
        for number, piece in enumerate(pieces):
            if stream in peer.streams and peer.streams[stream].reset is None:
                peer.h2.send_data(stream, piece, end_stream=number == len(pieces) - 1)
                peer.flush()
        answer = await peer.over(stream)
        assert answer.reset == ErrorCodes.PROTOCOL_ERROR or answer.status == "400"
        assert not any(request.whole and request.body for request in stage.requests)
        await stage.exchange(Sent(), Sent(body=b"hello"))


# --- answers -------------------------------------------------------------------------------------------------------


ANSWERS: dict[str, Block] = {
    "no status": [("x", "a")],
    "an empty status": [(":status", "")],
    "a status of words": [(":status", "OK")],
    "CR LF in the status": [(":status", "200\r\nx: y")],
    "a status of four digits": [(":status", "2000")],
    "two statuses": [(":status", "200"), (":status", "200")],
    "101": [(":status", "101")],
    "a request's pseudo-header field": [(":status", "200"), (":path", "/")],
    "a pseudo-header field after others": [("x", "a"), (":status", "200")],
    "CR LF in a value": [(":status", "200"), ("x", "a\r\nset-cookie: b")],
    "LF in a value": [(":status", "200"), ("x", "a\nb")],
    "NUL in a value": [(":status", "200"), ("x", "a\0b")],
    "upper case in a name": [(":status", "200"), ("X", "a")],
    "CR LF in a name": [(":status", "200"), ("x\r\ny", "a")],
    "an empty name": [(":status", "200"), ("", "a")],
    "connection": [(":status", "200"), ("connection", "close")],
    "transfer-encoding": [(":status", "200"), ("transfer-encoding", "chunked")],
    "keep-alive": [(":status", "200"), ("keep-alive", "5")],
    "upgrade": [(":status", "200"), ("upgrade", "h2c")],
    "two content-lengths": [(":status", "200"), ("content-length", "5"), ("content-length", "5")],
    "a content-length of words": [(":status", "200"), ("content-length", "five")],
    "an interim answer that is bad": [(":status", "103"), ("x", "a\r\nb: c")],
}


@pytest.mark.parametrize("version", ["h1", "h2"])
@pytest.mark.parametrize("block", ANSWERS.values(), ids=ANSWERS.keys())
async def test_a_bad_answer_is_a_502(make_proxy: MakeProxy, origin_ca: OriginCA, block: Block, version: str) -> None:
    def misbehave(peer: Http2Peer, stream: int) -> None:
        peer.h2.send_headers(stream, block)
        if block[0] not in ((":status", "101"), (":status", "103")):
            peer.h2.send_data(stream, b"hello", end_stream=True)
        peer.flush()

    proxy = await make_proxy(Intercept())
    async with on_the_way(f"{version}→h2", proxy, origin_ca) as stage:
        stage.misbehave = misbehave
        bad = await stage.client.ask(Sent())
        assert bad.start == ("502",) and bad.whole
        assert not bad.values("set-cookie") and not bad.values("b")
        stage.misbehave = None
        assert (await stage.exchange(Sent(), Sent(body=b"hello")))[1].body == b"hello"
        assert stage.connections() == 1  # a stream is no reason to end the others


@pytest.mark.parametrize("version", ["h1", "h2"])
@pytest.mark.parametrize(("length", "body"), [(4, b"abc"), (4, b"abcde"), (4, b"")], ids=["less", "more", "nothing"])
async def test_an_answer_that_is_not_what_was_said(make_proxy: MakeProxy, origin_ca: OriginCA, version: str,
                                                   length: int, body: bytes) -> None:
    """The client sees that it is not complete: a page, a reset or an end that comes too early."""
    sent = Sent(fields=(("content-length", str(length)),), body=body, sized=False)
    proxy = await make_proxy(Intercept())
    async with on_the_way(f"{version}→h2", proxy, origin_ca) as stage:
        stage.answer = sent
        answered = await stage.client.ask(Sent())
    assert answered.start == ("502",) or not answered.whole


RAW_ANSWERS = {
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "length and coding": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "another coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello",
    "a bare LF in the head": b"HTTP/1.1 200 OK\nX: a\n\r\r\n\r\n",
    "NUL in a value": b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
    "a space before a colon": b"HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 0\r\n\r\n",
    "no name": b"HTTP/1.1 200 OK\r\n: a\r\nContent-Length: 0\r\n\r\n",
    "another protocol": b"ICY 200 OK\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "101 unasked": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
    "nothing": b"",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
}


@pytest.mark.parametrize("raw", RAW_ANSWERS.values(), ids=RAW_ANSWERS.keys())
async def test_a_bad_answer_over_http1_is_a_502_over_http2(make_proxy: MakeProxy, origin_ca: OriginCA, raw: bytes
                                                           ) -> None:
    async def script(connection: OriginConnection) -> None:
        await connection.read_request()
        await connection.send(raw)

    proxy = await make_proxy(Intercept())
    async with (run_origin(script, tls=origin_ca.server_context("localhost")) as origin,
                http2_client(proxy, origin.port) as client):
        answer = await client.get(method="POST")  # which is not asked again
    assert answer.status == "502" and answer.ended
    assert len(origin.connections) == 1


@pytest.mark.parametrize("raw", [
    b"5\r\nhel", b"5\r\nhello\r\n", b"5\r\nhello\r\nz\r\n", b"5\r\nhelloworld\r\n0\r\n\r\n",
    b"5\r\nhello\r\n0\r\nx y: a\r\n\r\n", b"-5\r\nhello\r\n0\r\n\r\n"], ids=repr)
async def test_a_body_cut_over_http1_is_a_reset_over_http2(make_proxy: MakeProxy, origin_ca: OriginCA, raw: bytes
                                                           ) -> None:
    async def script(connection: OriginConnection) -> None:
        await connection.read_request()
        await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + raw)

    proxy = await make_proxy(Intercept())
    async with (run_origin(script, tls=origin_ca.server_context("localhost")) as origin,
                http2_client(proxy, origin.port) as client):
        answer = await client.get()
    assert answer.reset == ErrorCodes.INTERNAL_ERROR or answer.status == "502"


# --- addons --------------------------------------------------------------------------------------------------------


INJECTIONS: dict[str, Callable[[HTTPFlow], None]] = {
    "CR LF in a value": lambda flow: flow.request.headers.add("x-bad", "a\r\ninjected: b"),
    "LF in a value": lambda flow: flow.request.headers.add("x-bad", "a\ninjected: b"),
    "NUL in a value": lambda flow: flow.request.headers.add("x-bad", "a\0"),
    "CR LF in a name": lambda flow: flow.request.headers.add("x\r\ninjected", "b"),
    "a request in the path": lambda flow: setattr(flow.request, "path", "/ HTTP/1.1\r\ninjected: b\r\n\r\nGET /"),
    "a space in the path": lambda flow: setattr(flow.request, "path", "/a b"),
    "a request in the method": lambda flow: setattr(flow.request, "method", "GET / HTTP/1.1\r\ninjected: b\r\n\r\nX"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("inject", INJECTIONS.values(), ids=INJECTIONS.keys())
async def test_an_addon_cannot_write_another_message(make_proxy: MakeProxy, origin_ca: OriginCA, way: str,
                                                     inject: Callable[[HTTPFlow], None]) -> None:
    class Careless:
        def request(self, flow: HTTPFlow) -> None:
            if flow.request.path == "/bad":
                inject(flow)

    proxy = await make_proxy(Intercept(), Careless())
    async with on_the_way(way, proxy, origin_ca) as stage:
        stage.answer = Sent(body=b"hello")
        async with asyncio.timeout(10):
            answered = await stage.client.ask(Sent(path="/bad"))
        assert answered.start[0] in ("200", "500", "502")  # 200: the model refused the assignment
        assert all(not request.values("injected") and request.start[1] == "/bad" for request in stage.requests)
        assert len(stage.requests) == (answered.start[0] == "200")
