"""HTTP/2 with origins, whatever the client speaks: sharing, translation, GOAWAY, resets, prior knowledge."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes

from rulesproxy.model.policy import TlsDecision, TlsVerdict
from tests.support.certificates import OriginCA
from tests.support.http2 import (
    Http2Peer,
    Message,
    answering,
    hello,
    http2_client,
    run_http2_origin,
)
from tests.support.leaks import until
from tests.support.origin import OriginConnection, run_origin
from tests.support.proxy import RunningProxy

MakeProxy = Callable[..., Awaitable[RunningProxy]]
SECONDS = 10.0


class Intercept:
    """Decrypts everything."""

    def tls_decision(self, tunnel: Any) -> TlsDecision:
        return TlsDecision(TlsVerdict.INTERCEPT)


def h2_context(ca: OriginCA) -> Any:
    return ca.server_context("localhost", alpn=("h2", "http/1.1"))


# --- from HTTP/1 -----------------------------------------------------------------------------------------------


async def test_a_request_of_an_http1_client(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    proxy = await make_proxy(Intercept())
    async with run_http2_origin(tls=h2_context(origin_ca)) as origin:
        done = await proxy.curl("--http1.1", "--include", "-H", "X-One: 1", "-H", "Cookie: a=b",
                                f"https://localhost:{origin.port}/a?b=c")
        assert b"HTTP/1.1 200 OK\r\n" in done.out and done.out.endswith(b"\r\n\r\nhello")
        (connection,) = origin.connections
        request = connection.streams[1]
        assert request.head[":path"] == "/a?b=c" and request.head[":scheme"] == "https"
        assert request.head[":authority"] == f"localhost:{origin.port}" and "host" not in request.head
        assert request.head["x-one"] == "1" and request.head["cookie"] == "a=b"
    (flow,) = proxy.recorder.arguments("response")
    assert flow.response.http_version == "HTTP/2.0" and flow.server_conn.alpn == b"h2"


async def test_a_chunked_body_with_trailers(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    def answer(peer: Http2Peer, stream: int, request: Message) -> None:
        peer.respond(stream, body=b"ok", end=False)
        peer.send_trailers(stream, [("x-sum", "7")])

    proxy = await make_proxy()
    async with run_http2_origin(answering(answer)) as origin, http2_client(proxy, origin.port, tls=False) as client:
        stream = client.send_request(scheme="http", method="POST", end=False)
        await client.send_body(stream, b"body", end=False)
        client.send_trailers(stream, [("x-check", "9")])
        reply = await client.over(stream)
        assert (reply.body, reply.trailers) == (b"ok", {"x-sum": "7"})
        request = origin.connections[0].streams[1]
        assert (request.body, request.trailers) == (b"body", {"x-check": "9"})
        assert "content-length" not in request.head and "transfer-encoding" not in request.head


async def test_trailers_for_an_http1_client(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    def answer(peer: Http2Peer, stream: int, request: Message) -> None:
        peer.respond(stream, body=b"ok", end=False)
        peer.send_trailers(stream, [("x-sum", "7")])

    proxy = await make_proxy(Intercept())
    async with run_http2_origin(answering(answer), tls=h2_context(origin_ca)) as origin:
        done = await proxy.curl("--http1.1", "--raw", "--include", f"https://localhost:{origin.port}/")
        assert b"Transfer-Encoding: chunked" in done.out
        assert done.out.endswith(b"2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n")


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
async def test_an_answer_without_a_body(make_proxy: MakeProxy, origin_ca: OriginCA, version: str) -> None:
    def answer(peer: Http2Peer, stream: int, request: Message) -> None:
        peer.respond(stream, "200", [("x-one", "1")])

    proxy = await make_proxy(Intercept())
    async with run_http2_origin(answering(answer), tls=h2_context(origin_ca)) as origin:
        address = f"https://localhost:{origin.port}/"
        done = await proxy.curl(version, "--include", address, "--next", "-q", "--include", version, "--cacert",
                                str(proxy.ca), "--proxy", f"http://{proxy.address}", "--head", address)
        assert done.code == 0 and done.out.count(b"x-one: 1") == 2


async def test_interim_answers(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    def answer(peer: Http2Peer, stream: int, request: Message) -> None:
        peer.h2.send_headers(stream, [(":status", "103"), ("link", "</a.css>")])
        hello(peer, stream, request)

    proxy = await make_proxy(Intercept())
    async with run_http2_origin(answering(answer), tls=h2_context(origin_ca)) as origin:
        done = await proxy.curl("--http1.1", "--include", f"https://localhost:{origin.port}/")
        assert b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\nHTTP/1.1 200 OK" in done.out


async def test_an_answer_streams_while_the_request_does(make_proxy: MakeProxy) -> None:
    async def script(peer: Http2Peer) -> None:
        await peer.wait(lambda: bool(peer.streams.get(1) and peer.streams[1].head))
        peer.respond(1, end=False)
        for number in range(3):
            expected = (number + 1) * 4
            await peer.wait(lambda expected=expected: len(peer.streams[1].body) >= expected)
            peer.h2.send_data(1, b"pong")
            peer.flush()
        await peer.over(1)
        peer.h2.end_stream(1)
        peer.flush()

    proxy = await make_proxy()
    async with run_http2_origin(script) as origin, http2_client(proxy, origin.port, tls=False) as client:
        stream = client.send_request(scheme="http", method="POST", end=False)
        for number in range(3):
            await client.send_body(stream, b"ping", end=False)
            expected = (number + 1) * 4
            await client.wait(lambda expected=expected: len(client.streams[stream].body) >= expected)
        client.h2.end_stream(stream)
        client.flush()
        assert (await client.over(stream)).ended


# --- sharing ---------------------------------------------------------------------------------------------------


async def test_exchanges_share_one_connection(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    proxy = await make_proxy(Intercept(), record=False)
    async with run_http2_origin(tls=h2_context(origin_ca)) as origin:
        async with http2_client(proxy, origin.port) as one, http2_client(proxy, origin.port) as other:
            streams = [(client, client.send_request(f"/{number}")) for number in range(30) for client in (one, other)]
            for client, stream in streams:
                assert (await client.over(stream)).body == b"hello"
        assert len(origin.connections) == 1


async def test_a_limit_of_streams_opens_further_connections(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    together = asyncio.Event()
    waiting: list[int] = []

    async def answer(peer: Http2Peer, stream: int, request: Message) -> None:
        waiting.append(stream)
        if len(waiting) == 6:
            together.set()
        await together.wait()
        hello(peer, stream, request)

    proxy = await make_proxy(Intercept(), record=False)
    async with run_http2_origin(answering(answer), tls=h2_context(origin_ca),
                                settings={SettingCodes.MAX_CONCURRENT_STREAMS: 2}) as origin:
        async with http2_client(proxy, origin.port) as client:
            together.set()
            assert (await client.get()).body == b"hello"  # its settings are known now
            together.clear()
            waiting.clear()
            streams = [client.send_request() for _ in range(6)]
            for stream in streams:
                assert (await client.over(stream)).body == b"hello"
        assert len(origin.connections) == 3


async def test_http1_is_not_held_up_by_the_first_dial(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    proxy = await make_proxy(Intercept(), record=False)
    together = asyncio.Event()

    async def script(connection: OriginConnection) -> None:
        await connection.read_request()
        if len(origin.connections) == 8:
            together.set()
        await together.wait()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    async with (run_origin(script, tls=origin_ca.server_context("localhost")) as origin,
                http2_client(proxy, origin.port) as client):
        streams = [client.send_request() for _ in range(8)]
        for stream in streams:
            assert (await client.over(stream)).body == b"hello"


async def test_an_origin_out_of_reach_is_dialled_once(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(Intercept())
    async with http2_client(proxy, 1, host="127.0.0.1") as client:
        streams = [client.send_request(authority="127.0.0.1") for _ in range(20)]
        for stream in streams:
            assert (await client.over(stream)).status == "502"
    assert 1 <= len(proxy.recorder.arguments("server_connect_error")) < 20


async def test_an_idle_connection_is_closed(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    proxy = await make_proxy(Intercept(), record=False)
    proxy.core.upstream._idle_timeout = 0.1
    async with run_http2_origin(tls=h2_context(origin_ca)) as origin, http2_client(proxy, origin.port) as client:
        assert (await client.get()).body == b"hello"
        (connection,) = origin.connections
        await connection.wait(lambda: connection.goaway is not None)


# --- GOAWAY and resets -----------------------------------------------------------------------------------------


async def test_goaway_lets_go_on_what_it_covers(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    """Two requests are on their way; the origin has seen the first only."""
    first = True

    async def script(peer: Http2Peer) -> None:
        nonlocal first
        if not first:
            await answering(hello)(peer)
        first = False
        await peer.wait(lambda: all(number in peer.streams and peer.streams[number].ended for number in (1, 3)))
        peer.h2.close_connection(last_stream_id=1)
        peer.respond(1, body=b"first")
        await peer.wait(lambda: peer.closed)

    proxy = await make_proxy(Intercept())
    async with (run_http2_origin(script, tls=h2_context(origin_ca)) as origin,
                http2_client(proxy, origin.port) as client):
        one, other = client.send_request("/1", method="POST"), client.send_request("/2", method="POST")
        assert (await client.over(one)).body == b"first"
        assert (await client.over(other)).body == b"hello"
        assert len(origin.connections) == 2


async def test_a_refused_stream_is_sent_again(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    async def script(peer: Http2Peer) -> None:
        if len(origin.connections) > 1:
            await answering(hello)(peer)
        await peer.over(1)
        peer.reset(1, ErrorCodes.REFUSED_STREAM)
        await peer.wait(lambda: peer.closed)

    proxy = await make_proxy(Intercept())
    async with (run_http2_origin(script, tls=h2_context(origin_ca)) as origin,
                http2_client(proxy, origin.port) as client):
        assert (await client.get(method="POST")).body == b"hello"


async def test_an_origin_that_wants_http1_gets_it(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    def refuse(peer: Http2Peer, stream: int, request: Message) -> None:
        peer.reset(stream, ErrorCodes.HTTP_1_1_REQUIRED)

    proxy = await make_proxy(Intercept())
    async with (run_http2_origin(answering(refuse), tls=h2_context(origin_ca)) as origin,
                http2_client(proxy, origin.port) as client):
        answer = await client.get()
        assert answer.status == "502"  # the scripted origin speaks HTTP/2 only
    offers = [data.server.alpn_offers for data in proxy.recorder.arguments("server_connected")]
    assert len(offers) == 2
    assert [server.alpn_offers for server in (data.server for data in proxy.recorder.arguments("server_disconnected"))
            ][-1] == (b"http/1.1",)


async def test_another_reset_ends_its_flow_only(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    def answer(peer: Http2Peer, stream: int, request: Message) -> None:
        if request.head[":path"] == "/bad":
            peer.reset(stream, ErrorCodes.INTERNAL_ERROR)
        else:
            hello(peer, stream, request)

    proxy = await make_proxy(Intercept())
    async with (run_http2_origin(answering(answer), tls=h2_context(origin_ca)) as origin,
                http2_client(proxy, origin.port) as client):
        bad, good = client.send_request("/bad"), client.send_request("/good")
        assert (await client.over(bad)).status == "502" and b"INTERNAL_ERROR" in client.streams[bad].body
        assert (await client.over(good)).body == b"hello"
        assert len(origin.connections) == 1


async def test_an_early_answer_that_wants_no_more_is_fine(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    async def script(peer: Http2Peer) -> None:
        await peer.wait(lambda: bool(peer.streams.get(1) and peer.streams[1].head))
        peer.respond(1, "413", body=b"too much")
        peer.reset(1, ErrorCodes.NO_ERROR)
        await peer.wait(lambda: peer.closed)

    proxy = await make_proxy(Intercept())
    async with (run_http2_origin(script, tls=h2_context(origin_ca)) as origin,
                http2_client(proxy, origin.port) as client):
        stream = client.send_request(method="POST", end=False)
        await client.wait(lambda: client.streams[stream].ended)
        assert (client.streams[stream].status, client.streams[stream].body) == ("413", b"too much")
        await client.wait(lambda: client.streams[stream].reset is not None)
        assert client.streams[stream].reset == ErrorCodes.NO_ERROR


@pytest.mark.parametrize("fields", [
    [(":status", "200"), ("x", "a\r\nb")], [(":status", "20")], [("x", "no status")],
    [(":status", "200"), ("connection", "close")], [(":status", "200"), ("content-length", "3")], [(":status", "101")]])
async def test_a_malformed_answer_ends_its_flow_only(make_proxy: MakeProxy, origin_ca: OriginCA,
                                                     fields: list[tuple[str, str]]) -> None:
    def answer(peer: Http2Peer, stream: int, request: Message) -> None:
        if request.head[":path"] == "/bad":
            peer.h2.send_headers(stream, fields, end_stream=fields[0][1] != "101")
            peer.flush()
        else:
            hello(peer, stream, request)

    proxy = await make_proxy(Intercept())
    async with (run_http2_origin(answering(answer), tls=h2_context(origin_ca)) as origin,
                http2_client(proxy, origin.port) as client):
        bad, good = client.send_request("/bad"), client.send_request("/good")
        assert (await client.over(bad)).status == "502"
        assert (await client.over(good)).body == b"hello"
        assert len(origin.connections) == 1


async def test_a_client_that_leaves_resets_the_origins_stream(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    async def script(peer: Http2Peer) -> None:
        await peer.wait(lambda: peer.closed)

    proxy = await make_proxy(Intercept())
    async with (run_http2_origin(script, tls=h2_context(origin_ca)) as origin,
                http2_client(proxy, origin.port) as client):
        stream = client.send_request()
        assert await until(lambda: bool(origin.connections) and 1 in origin.connections[0].streams)
        client.reset(stream)
        await origin.connections[0].wait(lambda: origin.connections[0].streams[1].reset is not None)
        assert origin.connections[0].streams[1].reset == ErrorCodes.CANCEL


# --- flow control ----------------------------------------------------------------------------------------------


async def test_a_slow_reader_holds_up_the_origin(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    """The client takes nothing: the origin can send what fits into the windows and buffers between, and no more."""
    size = 64 * 2**20
    sent = 0

    async def answer(peer: Http2Peer, stream: int, request: Message) -> None:
        nonlocal sent
        peer.respond(stream, end=False)
        while sent < size:
            await peer.send_body(stream, b"x" * 16384, end=False)
            sent += 16384

    proxy = await make_proxy(Intercept(), record=False)
    async with (run_http2_origin(answering(answer), tls=h2_context(origin_ca)) as origin,
                http2_client(proxy, origin.port) as client):
        client.holds = True
        client.send_request()
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.2)
        assert 0 < sent < 2 * 2**20


async def test_a_stalled_stream_does_not_hold_up_its_neighbours(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    async def answer(peer: Http2Peer, stream: int, request: Message) -> None:
        peer.respond(stream, end=False)
        await peer.send_body(stream, b"x" * 2_000_000)

    proxy = await make_proxy(Intercept())
    async with (run_http2_origin(answering(answer), tls=h2_context(origin_ca)) as origin,
                http2_client(proxy, origin.port) as client):
        client.h2.increment_flow_control_window(8_000_000)
        client.flush()
        client.holds = True
        stalled = client.send_request("/stalled")
        await client.wait(lambda: len(client.streams[stalled].body) == 65535)
        client.holds = False
        for _ in range(3):
            assert len((await client.get("/other")).body) == 2_000_000
        assert len(client.streams[stalled].body) == 65535


async def test_large_bodies_arrive_whole_both_ways(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    def answer(peer: Http2Peer, stream: int, request: Message) -> Awaitable[None]:
        peer.respond(stream, end=False)
        return peer.send_body(stream, request.body[::-1])

    body = bytes(range(256)) * 12_000
    proxy = await make_proxy(Intercept())
    async with (run_http2_origin(answering(answer), tls=h2_context(origin_ca)) as origin,
                http2_client(proxy, origin.port) as client):
        streams = [client.send_request(method="POST", end=False) for _ in range(3)]
        await asyncio.gather(*(client.send_body(stream, body) for stream in streams))
        for stream in streams:
            assert (await client.over(stream)).body == body[::-1]


# --- prior knowledge -------------------------------------------------------------------------------------------


async def test_without_tls_an_http2_client_reaches_an_http2_origin(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()
    async with run_http2_origin() as origin, http2_client(proxy, origin.port, tls=False) as client:
        assert (await client.get(scheme="http")).body == b"hello"
        assert origin.connections[0].streams[1].head[":scheme"] == "http"


async def test_an_http1_origin_is_tried_once(make_proxy: MakeProxy) -> None:
    async def script(connection: OriginConnection) -> None:
        while not (await connection.read_until(b"\r\n\r\n")).startswith(b"PRI"):
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        await connection.send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        connection.close()

    proxy = await make_proxy()
    async with run_origin(script) as origin, http2_client(proxy, origin.port, tls=False) as client:
        assert (await client.get(scheme="http")).body == b"hello"
        assert (await client.get(scheme="http")).body == b"hello"
        assert sum(connection.received.startswith(b"PRI") for connection in origin.connections) == 1


async def test_switched_off_neither_side_speaks_it(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    proxy = await make_proxy(Intercept(), http2=False)
    async with run_origin(tls=h2_context(origin_ca)) as origin:
        done = await proxy.curl("--http2", "-w", " %{http_version}", f"https://localhost:{origin.port}/")
        assert done.text == "hello 1.1"
    (data,) = proxy.recorder.arguments("tls_start_server")
    assert data.server.alpn_offers == (b"http/1.1",)
