"""HTTP/2 with clients, whatever the origin speaks: translation, limits, resets, tunnels."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from h2.errors import ErrorCodes
from h2.settings import Settings

from rulesproxy.model.effects import Drop
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.http import Response
from rulesproxy.model.policy import TlsDecision, TlsVerdict
from tests.support.certificates import OriginCA
from tests.support.http2 import http2_client, http2_to_proxy
from tests.support.leaks import until
from tests.support.origin import OriginConnection, run_origin
from tests.support.proxy import RunningProxy

MakeProxy = Callable[..., Awaitable[RunningProxy]]
SECONDS = 10.0


class Intercept:
    """Decrypts everything."""

    def tls_decision(self, tunnel: Any) -> TlsDecision:
        return TlsDecision(TlsVerdict.INTERCEPT)


# --- translation to HTTP/1 -------------------------------------------------------------------------------------


async def test_a_request_reaches_an_http1_origin(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    proxy = await make_proxy(Intercept())
    async with (run_origin(tls=origin_ca.server_context("localhost")) as origin,
                http2_client(proxy, origin.port) as client):
        answer = await client.get("/a?b=c", authority=f"localhost:{origin.port}",
                                  fields=[("x-one", "1"), ("cookie", "a=b"), ("cookie", "c=d")])
    assert (answer.status, answer.body) == ("200", b"hello")
    assert answer.head["content-type"] == "text/plain"
    (request,) = origin.requests
    assert request.line == b"GET /a?b=c HTTP/1.1"
    assert request.values(b"host") == [b"localhost:%d" % origin.port]
    assert request.values(b"cookie") == [b"a=b; c=d"]
    assert request.values(b"x-one") == [b"1"]
    (flow,) = proxy.recorder.arguments("request")
    assert flow.request.http_version == "HTTP/2.0" and flow.request.host_header == f"localhost:{origin.port}"


async def test_a_body_without_length_goes_on_chunked(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    proxy = await make_proxy(Intercept())
    async with (run_origin(tls=origin_ca.server_context("localhost")) as origin,
                http2_client(proxy, origin.port) as client):
        stream = client.send_request(method="POST", end=False)
        await client.send_body(stream, b"body")
        assert (await client.over(stream)).body == b"hello"
    (request,) = origin.requests
    assert request.values(b"transfer-encoding") == [b"chunked"] and not request.values(b"content-length")
    assert request.body == b"4\r\nbody\r\n0\r\n\r\n"


async def test_a_body_with_length_keeps_it(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    proxy = await make_proxy(Intercept())
    async with (run_origin(tls=origin_ca.server_context("localhost")) as origin,
                http2_client(proxy, origin.port) as client):
        stream = client.send_request(method="POST", fields=[("content-length", "4")], end=False)
        await client.send_body(stream, b"body")
        assert (await client.over(stream)).status == "200"
    (request,) = origin.requests
    assert request.values(b"content-length") == [b"4"] and not request.values(b"transfer-encoding")
    assert request.body == b"body"


async def test_trailers_pass_both_ways(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    async def script(connection: OriginConnection) -> None:
        await connection.read_request()
        await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
                              b"2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n")

    proxy = await make_proxy(Intercept())
    async with (run_origin(script, tls=origin_ca.server_context("localhost")) as origin,
                http2_client(proxy, origin.port) as client):
        stream = client.send_request(method="POST", fields=[("te", "trailers")], end=False)
        await client.send_body(stream, b"x", end=False)
        client.send_trailers(stream, [("x-check", "9")])
        answer = await client.over(stream)
    assert (answer.body, answer.trailers) == (b"ok", {"x-sum": "7"})
    (request,) = origin.requests
    assert request.body.endswith(b"0\r\nx-check: 9\r\n\r\n")
    assert request.values(b"te") == [b"trailers"]


async def test_interim_answers_pass(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    async def script(connection: OriginConnection) -> None:
        await connection.read_request()
        await connection.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
                              b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    proxy = await make_proxy(Intercept())
    async with (run_origin(script, tls=origin_ca.server_context("localhost")) as origin,
                http2_client(proxy, origin.port) as client):
        answer = await client.get()
    assert answer.interim == [{":status": "103", "link": "</a.css>"}]
    assert (answer.status, answer.body) == ("200", b"ok")


@pytest.mark.parametrize(("method", "status", "fields"), [
    ("HEAD", "200", b"Content-Length: 10\r\n"), ("GET", "204", b""), ("GET", "304", b"ETag: x\r\n")])
async def test_answers_without_a_body(make_proxy: MakeProxy, origin_ca: OriginCA, method: str, status: str,
                                      fields: bytes) -> None:
    proxy = await make_proxy(Intercept())
    answered = b"HTTP/1.1 %s X\r\n%s\r\n" % (status.encode(), fields)
    async with (run_origin(answered, tls=origin_ca.server_context("localhost")) as origin,
                http2_client(proxy, origin.port) as client):
        for _ in range(2):
            answer = await client.get(method=method)
            assert (answer.status, answer.body, answer.ended) == (status, b"", True)
        assert answer.head.get("content-length") == ("10" if method == "HEAD" else None)
        assert len(origin.connections) == 1


async def test_a_client_that_waits_for_100_gets_it(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    async def script(connection: OriginConnection) -> None:
        await connection.read_head()
        await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await connection.read_exactly(4)
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    proxy = await make_proxy(Intercept())
    async with (run_origin(script, tls=origin_ca.server_context("localhost")) as origin,
                http2_client(proxy, origin.port) as client):
        stream = client.send_request(method="PUT", end=False,
                                     fields=[("content-length", "4"), ("expect", "100-continue")])
        await client.wait(lambda: bool(client.streams[stream].interim))
        assert client.streams[stream].interim[0][":status"] == "100"
        await client.send_body(stream, b"body")
        assert (await client.over(stream)).body == b"ok"


async def test_an_answer_until_close_that_is_cut_is_reset(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    async def script(connection: OriginConnection) -> None:
        await connection.read_request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        connection.close()

    proxy = await make_proxy(Intercept())
    async with (run_origin(script, tls=origin_ca.server_context("localhost")) as origin,
                http2_client(proxy, origin.port) as client):
        answer = await client.get()
    assert answer.reset == ErrorCodes.INTERNAL_ERROR and not answer.ended


# --- streams are independent -----------------------------------------------------------------------------------


async def test_a_hook_that_waits_holds_up_its_own_stream_only(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    released = asyncio.Event()

    class Slow(Intercept):
        async def requestheaders(self, flow: HTTPFlow) -> None:
            if flow.request.path == "/slow":
                await released.wait()

    proxy = await make_proxy(Slow())
    async with (run_origin(tls=origin_ca.server_context("localhost")) as origin,
                http2_client(proxy, origin.port) as client):
        slow = client.send_request("/slow")
        others = [client.send_request(f"/{number}") for number in range(99)]
        for stream in others:
            assert (await client.over(stream)).body == b"hello"
        assert not client.streams[slow].over
        released.set()
        assert (await client.over(slow)).body == b"hello"


async def test_a_reset_ends_its_own_flow_only(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    proxy = await make_proxy(Intercept())
    asked = asyncio.Event()

    async def script(connection: OriginConnection) -> None:
        request = await connection.read_request()
        if request.target == b"/never":
            asked.set()
            await connection.read_to_end()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    async with (run_origin(script, tls=origin_ca.server_context("localhost")) as origin,
                http2_client(proxy, origin.port) as client):
        gone = client.send_request("/never")
        async with asyncio.timeout(SECONDS):
            await asked.wait()
        client.reset(gone)
        assert (await client.get("/other")).body == b"hello"
        assert await until(lambda: bool(proxy.recorder.arguments("error")))
        (flow,) = proxy.recorder.arguments("error")
        assert flow.request.path == "/never" and "the client left" in flow.error.msg
        assert [flow.request.path for flow in proxy.recorder.arguments("response")] == ["/other"]


async def test_every_flow_ends_when_the_connection_does(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    async def script(connection: OriginConnection) -> None:
        await connection.read_to_end()

    proxy = await make_proxy(Intercept())
    async with run_origin(script, tls=origin_ca.server_context("localhost")) as origin:
        async with http2_client(proxy, origin.port) as client:
            for _ in range(3):
                client.send_request()
            assert await until(lambda: len(proxy.recorder.arguments("request")) == 3)
        assert await until(lambda: len(proxy.recorder.arguments("error")) == 3)


@pytest.mark.parametrize("drop", [Drop.CLOSE, Drop.RESET])
async def test_a_dropped_flow_resets_its_stream_only(make_proxy: MakeProxy, origin_ca: OriginCA, drop: Drop) -> None:
    class Dropping(Intercept):
        def request(self, flow: HTTPFlow) -> None:
            if flow.request.path == "/drop":
                flow.drop = drop

    proxy = await make_proxy(Dropping())
    async with (run_origin(tls=origin_ca.server_context("localhost")) as origin,
                http2_client(proxy, origin.port) as client):
        assert (await client.get("/drop")).reset is not None
        assert (await client.get("/other")).body == b"hello"


async def test_an_answer_made_here_does_not_wait_for_the_body(make_proxy: MakeProxy) -> None:
    class Answering(Intercept):
        def requestheaders(self, flow: HTTPFlow) -> None:
            flow.response = Response.make(413, "too much")

    proxy = await make_proxy(Answering())
    async with http2_client(proxy, 443) as client:
        stream = client.send_request(method="POST", fields=[("content-length", "10000000")], end=False)
        await client.wait(lambda: client.streams[stream].ended)
        answer = client.streams[stream]
        assert (answer.status, answer.body) == ("413", b"too much")
        await client.wait(lambda: answer.reset is not None)
        assert answer.reset == ErrorCodes.NO_ERROR  # RFC 9113 §8.1


# --- what is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [
    [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/ x")],
    [(":method", "GET"), (":scheme", "https"), (":authority", "user@localhost"), (":path", "/")],
    [(":method", "G T"), (":scheme", "https"), (":authority", "localhost"), (":path", "/")],
    [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "")],
    [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/"), ("x", "a\r\nb: c")],
    [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/"), ("X-Upper", "a")],
    [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/"), ("connection", "x")],
    [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/"), ("host", "other")],
])
async def test_what_is_not_http1_grammar_resets_the_stream(make_proxy: MakeProxy, block: list[tuple[str, str]]) -> None:
    proxy = await make_proxy(Intercept())
    async with http2_client(proxy, 443) as client:
        answer = await client.over(client.send_block(block))
        assert answer.reset == ErrorCodes.PROTOCOL_ERROR
    assert not proxy.recorder.arguments("requestheaders")


@pytest.mark.parametrize("body", [b"abc", b"abcde"])
async def test_a_body_of_another_length_resets_the_stream(make_proxy: MakeProxy, origin_ca: OriginCA,
                                                          body: bytes) -> None:
    proxy = await make_proxy(Intercept())
    async with (run_origin(tls=origin_ca.server_context("localhost")) as origin,
                http2_client(proxy, origin.port) as client):
        stream = client.send_request(method="POST", fields=[("content-length", "4")], end=False)
        client.h2.send_data(stream, body, end_stream=True)
        client.flush()
        assert (await client.over(stream)).reset == ErrorCodes.PROTOCOL_ERROR
        assert (await client.get()).body == b"hello"


async def test_limits_are_answered(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(Intercept())
    async with http2_client(proxy, 443) as client:
        assert (await client.get("/" + "x" * 17000)).status == "414"
        assert (await client.get(fields=[(f"x-{number}", "1") for number in range(201)])).status == "431"
        assert (await client.get(fields=[("x", "y" * 70000)])).status == "431"


async def test_another_host_than_the_tunnels_is_refused(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(Intercept())
    async with http2_client(proxy, 443) as client:
        assert (await client.get(authority="other.test")).status == "421"


async def test_streams_beyond_the_limit_are_refused_one_by_one(make_proxy: MakeProxy) -> None:
    class Never(Intercept):
        async def requestheaders(self, flow: HTTPFlow) -> None:
            await asyncio.Event().wait() if flow.request.path == "/wait" else None
            flow.response = Response.make(200, "here")

    proxy = await make_proxy(Never(), idle_timeout=5.0)
    async with http2_client(proxy, 443) as client:
        await client.wait(lambda: client.h2.remote_settings.max_concurrent_streams == 100)
        client.h2.remote_settings = Settings(client=False)  # a client that does not care
        waiting = [client.send_request("/wait") for _ in range(100)]
        assert (await client.over(client.send_request("/late"))).reset == ErrorCodes.REFUSED_STREAM
        client.reset(waiting[0])
        assert (await client.get("/now")).body == b"here"


# --- CONNECT over HTTP/2 ---------------------------------------------------------------------------------------


async def test_connect_makes_a_tunnel_of_its_stream(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()
    async with run_origin() as origin, http2_to_proxy(proxy) as client:
        stream = client.send_block([(":method", "CONNECT"), (":authority", f"127.0.0.1:{origin.port}")], end=False)
        await client.wait(lambda: bool(client.streams[stream].head))
        assert client.streams[stream].status == "200"
        await client.send_body(stream, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", end=False)
        await client.wait(lambda: client.streams[stream].body.endswith(b"hello"))
        client.h2.end_stream(stream)
        client.flush()
        assert (await client.over(stream)).ended
    assert await until(lambda: len(proxy.recorder.arguments("client_disconnected")) == 2)
    outer, inner = proxy.recorder.arguments("client_connected")
    assert outer is not inner
    (flow,) = proxy.recorder.arguments("http_connected")
    assert flow.client_conn is inner


async def test_requests_for_other_servers_on_the_proxy_port(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()
    async with run_origin() as origin, http2_to_proxy(proxy) as client:
        answer = await client.get("/x", scheme="http", authority=f"127.0.0.1:{origin.port}")
        assert (answer.status, answer.body) == ("200", b"hello")
    assert origin.requests[0].line == b"GET /x HTTP/1.1"


async def test_connect_for_another_protocol_is_not_implemented(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(Intercept())
    async with http2_client(proxy, 443) as client:
        answer = await client.over(client.send_block([
            (":method", "CONNECT"), (":protocol", "connect-udp"), (":scheme", "https"), (":path", "/"),
            (":authority", "localhost")]))
        assert answer.status == "501"


# --- the end ---------------------------------------------------------------------------------------------------


async def test_an_idle_connection_ends_with_goaway(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(Intercept(), idle_timeout=0.2)
    async with http2_client(proxy, 443) as client:
        await client.wait(lambda: client.goaway is not None)
        assert client.goaway is not None and client.goaway.error_code == ErrorCodes.NO_ERROR


async def test_what_goes_on_is_finished_when_the_proxy_stops(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    released = asyncio.Event()

    async def script(connection: OriginConnection) -> None:
        await connection.read_request()
        await released.wait()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    proxy = await make_proxy(Intercept())
    async with (run_origin(script, tls=origin_ca.server_context("localhost")) as origin,
                http2_client(proxy, origin.port) as client):
        stream = client.send_request()
        await origin.wait_for_connections(1)
        stopping = asyncio.create_task(proxy.proxy.stop(5))
        await client.wait(lambda: client.goaway is not None)
        released.set()
        assert (await client.over(stream)).body == b"hello"
        async with asyncio.timeout(SECONDS):
            await stopping
