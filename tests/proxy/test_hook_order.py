"""The order of hooks on real sockets, with curl and openssl at the other end.

The expected logs are written from the hooks page. `server_disconnected` follows the end of whatever used the
connection at its own time, so it is counted and not placed; the automaton, which runs under every test here, places it.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.policy import TlsVerdict
from tests.support.certificates import OriginCA
from tests.support.hook_logs import (
    ANSWER,
    CLOSING_GET,
    CONNECTED,
    DIALLED,
    DISCONNECTED,
    INTERCEPTED,
    REQUEST,
    SERVER_TLS,
    TUNNEL,
    At,
    Decide,
    MakeProxy,
    assert_log,
    openssl,
    url,
)
from tests.support.leaks import until
from tests.support.nginx import Nginx
from tests.support.origin import HELLO, OriginConnection, run_origin
from tests.support.tools import curl

# --- plain ------------------------------------------------------------------------------------------------------


async def test_plain_request(make_proxy: MakeProxy, nginx: Nginx) -> None:
    proxy = await make_proxy()
    done = await proxy.curl(url(nginx.port, "/hello"))
    assert (done.code, done.text) == (0, "hello from nginx\n")
    await assert_log(proxy.recorder, [*CONNECTED, *REQUEST, *DIALLED, *ANSWER, *DISCONNECTED])


async def test_two_requests_on_one_connection(make_proxy: MakeProxy, nginx: Nginx) -> None:
    proxy = await make_proxy()
    done = await proxy.curl(url(nginx.port, "/hello"), url(nginx.port, "/status/404"))
    assert done.text == "hello from nginx\nnot here\n"
    await assert_log(proxy.recorder, [*CONNECTED, *REQUEST, *DIALLED, *ANSWER, *REQUEST, *ANSWER, *DISCONNECTED])


async def test_pipelined_requests_are_served_one_after_the_other(make_proxy: MakeProxy, nginx: Nginx) -> None:
    proxy = await make_proxy()
    one = b"GET http://127.0.0.1:%d/hello HTTP/1.1\r\nHost: x\r\n\r\n" % nginx.port
    answer = await proxy.talk(one * 3)
    assert answer.count(b"hello from nginx") == 3
    await assert_log(proxy.recorder, [*CONNECTED, *REQUEST, *DIALLED, *ANSWER, *REQUEST, *ANSWER, *REQUEST, *ANSWER,
                                      *DISCONNECTED])


@pytest.mark.parametrize("arguments", [["--head"], ["--http1.0"], ["--request", "OPTIONS"]])
async def test_other_requests_without_a_body(make_proxy: MakeProxy, nginx: Nginx, arguments: list[str]) -> None:
    proxy = await make_proxy()
    assert (await proxy.curl(*arguments, url(nginx.port, "/hello"))).code == 0
    await assert_log(proxy.recorder, [*CONNECTED, *REQUEST, *DIALLED, *ANSWER, *DISCONNECTED])


async def test_interim_responses_fire_nothing(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
    async with run_origin(hints * 2 + HELLO) as origin:
        done = await proxy.curl("--include", url(origin.port))
        assert done.text.count("103 Early Hints") == 2 and done.text.endswith("hello")
        await assert_log(proxy.recorder, [*CONNECTED, *REQUEST, *DIALLED, *ANSWER, *DISCONNECTED])


async def test_connection_without_a_request(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()
    assert await proxy.talk(b"") == b""
    await assert_log(proxy.recorder, [*CONNECTED, *DISCONNECTED], servers=0)


async def test_malformed_request_has_no_flow(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()
    assert (await proxy.talk(b"GET / HTTP/1.1\nHost: x\n\n")).startswith(b"HTTP/1.1 400 ")
    await assert_log(proxy.recorder, [*CONNECTED, *DISCONNECTED], servers=0)


async def test_answers_of_the_proxy_itself_have_no_flow(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()
    done = await proxy.curl("http://rulesproxy.test/ca.pem")
    assert done.text.startswith("-----BEGIN CERTIFICATE-----")
    await assert_log(proxy.recorder, [*CONNECTED, *DISCONNECTED], servers=0)


# --- bodies -----------------------------------------------------------------------------------------------------


async def test_request_with_a_buffered_body(make_proxy: MakeProxy) -> None:
    """A script that handles `request` has the whole body before anything is dialled."""
    seen: list[bytes | None] = []

    class Script:
        def request(self, flow: HTTPFlow) -> None:
            seen.append(flow.request.content)

    proxy = await make_proxy(Script())
    async with run_origin() as origin:
        await proxy.curl("--data", "a=1&b=2", url(origin.port))
        await assert_log(proxy.recorder, [*CONNECTED, *REQUEST, *DIALLED, *ANSWER, *DISCONNECTED])
        assert origin.requests[0].body == b"a=1&b=2"
    assert seen == [b"a=1&b=2"]


async def test_request_with_a_streamed_body(make_proxy: MakeProxy) -> None:
    """`request` fires when the body went through, so after the server was dialled and before the answer."""
    proxy = await make_proxy()
    async with run_origin() as origin:
        await proxy.curl("--data-binary", "@-", url(origin.port), stdin=b"x" * 300_000)
        await assert_log(proxy.recorder, [*CONNECTED, "requestheaders", *DIALLED, "request", *ANSWER, *DISCONNECTED])
        assert len(origin.requests[0].body) == 300_000


async def test_chunked_bodies_with_trailers(make_proxy: MakeProxy) -> None:
    trailers: dict[str, str | None] = {}

    def note(flow: HTTPFlow) -> None:
        message = flow.response or flow.request
        trailers["response" if flow.response else "request"] = (
            message.trailers.get("x-sum") if message.trailers else None)

    proxy = await make_proxy(At("request", note), At("response", note))
    answer = (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
              b"5\r\nhello\r\n0\r\nX-Sum: out\r\n\r\n")
    async with run_origin(answer) as origin:
        got = await proxy.talk(b"POST http://127.0.0.1:%d/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
                               b"Trailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: in\r\n\r\n" % origin.port)
        assert got.endswith(b"0\r\nX-Sum: out\r\n\r\n")
        assert origin.requests[0].body.endswith(b"0\r\nX-Sum: in\r\n\r\n")
        await assert_log(proxy.recorder, [*CONNECTED, "requestheaders", *DIALLED, "request", *ANSWER, *DISCONNECTED])
    assert trailers == {"request": "in", "response": "out"}


async def test_answer_during_the_upload_comes_before_request(make_proxy: MakeProxy) -> None:
    """The origin refuses with the upload half way; the client sends the rest all the same."""
    proxy = await make_proxy()
    refused = asyncio.Event()

    async def script(connection: OriginConnection) -> None:
        await connection.read_head()
        await connection.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
        await refused.wait()
        await connection.read_exactly(10)

    async with run_origin(script) as origin, asyncio.timeout(10):
        reader, writer = await proxy.connect()
        writer.write(b"POST http://127.0.0.1:%d/ HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf-" % origin.port)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 413 ")
        assert await until(lambda: "response" in proxy.recorder.names)
        assert "request" not in proxy.recorder.names
        refused.set()
        writer.write(b"half-")
        writer.close()
        await until(lambda: "client_disconnected" in proxy.recorder.names)
    early = [*CONNECTED, "requestheaders", *DIALLED, *ANSWER]
    assert proxy.recorder.of(*early, "request", "error")[:len(early)] == early
    assert "error" not in proxy.recorder.names


# --- CONNECT ----------------------------------------------------------------------------------------------------


async def test_intercepted_tunnel(make_proxy: MakeProxy, nginx: Nginx) -> None:
    proxy = await make_proxy(Decide())
    done = await proxy.curl(url(nginx.tls_port, "/hello", "https", "localhost"))
    assert (done.code, done.text) == (0, "hello from nginx\n")
    await assert_log(proxy.recorder, [*CONNECTED, *INTERCEPTED, *REQUEST, *DIALLED, *SERVER_TLS, *ANSWER,
                                      *DISCONNECTED])


async def test_intercepted_tunnel_with_openssl(make_proxy: MakeProxy, nginx: Nginx) -> None:
    proxy = await make_proxy(Decide())
    done = await openssl(proxy, nginx.tls_port, "-CAfile", str(proxy.ca), request=CLOSING_GET)
    assert b"hello from nginx" in done.out and b"Verify return code: 0 (ok)" in done.out
    await assert_log(proxy.recorder, [*CONNECTED, *INTERCEPTED, *REQUEST, *DIALLED, *SERVER_TLS, *ANSWER,
                                      *DISCONNECTED])


async def test_two_requests_in_an_intercepted_tunnel(make_proxy: MakeProxy, nginx: Nginx) -> None:
    proxy = await make_proxy(Decide())
    one = url(nginx.tls_port, "/hello", "https", "localhost")
    assert (await proxy.curl(one, one)).text == "hello from nginx\n" * 2
    await assert_log(proxy.recorder, [*CONNECTED, *INTERCEPTED, *REQUEST, *DIALLED, *SERVER_TLS, *ANSWER, *REQUEST,
                                      *ANSWER, *DISCONNECTED])


async def test_script_with_http_hooks_decrypts(make_proxy: MakeProxy, nginx: Nginx) -> None:
    class Script:
        def response(self, flow: HTTPFlow) -> None:
            assert flow.response is not None
            flow.response.headers["x-seen"] = "yes"

    proxy = await make_proxy(Script())
    done = await proxy.curl("--include", url(nginx.tls_port, "/hello", "https", "localhost"))
    assert "x-seen: yes" in done.text
    await assert_log(proxy.recorder, [*CONNECTED, *INTERCEPTED, *REQUEST, *DIALLED, *SERVER_TLS, *ANSWER,
                                      *DISCONNECTED])


async def test_relayed_tunnel(make_proxy: MakeProxy, nginx: Nginx, origin_ca: OriginCA) -> None:
    """The client sees the origin's own certificate; server hooks fire, no `tcp_*` and no HTTP hooks do."""
    proxy = await make_proxy()
    done = await curl("--cacert", str(origin_ca.pem), url(nginx.tls_port, "/hello", "https", "localhost"),
                      proxy=proxy.address)
    assert (done.code, done.text) == (0, "hello from nginx\n")
    await assert_log(proxy.recorder, [*CONNECTED, *TUNNEL, *DIALLED, *DISCONNECTED])


async def test_relayed_tunnel_with_openssl(make_proxy: MakeProxy, nginx: Nginx, origin_ca: OriginCA) -> None:
    proxy = await make_proxy()
    done = await openssl(proxy, nginx.tls_port, "-CAfile", str(origin_ca.pem), request=CLOSING_GET)
    assert b"hello from nginx" in done.out and b"Verify return code: 0 (ok)" in done.out
    await assert_log(proxy.recorder, [*CONNECTED, *TUNNEL, *DIALLED, *DISCONNECTED])


async def test_tls_clienthello_can_ask_for_a_relay(make_proxy: MakeProxy, nginx: Nginx, origin_ca: OriginCA) -> None:
    def ignore(data: Any) -> None:
        assert data.client_hello.sni == "localhost"
        data.ignore_connection = True

    proxy = await make_proxy(Decide(), At("tls_clienthello", ignore))
    done = await curl("--cacert", str(origin_ca.pem), url(nginx.tls_port, "/hello", "https", "localhost"),
                      proxy=proxy.address)
    assert done.text == "hello from nginx\n"
    await assert_log(proxy.recorder, [*CONNECTED, *TUNNEL, *DIALLED, *DISCONNECTED])


async def test_refused_tls(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(Decide(TlsVerdict.REFUSE))
    done = await proxy.curl("https://localhost:9/")
    assert done.code == 35  # TLS failed: an alert, no answer
    await assert_log(proxy.recorder, [*CONNECTED, *TUNNEL, *DISCONNECTED], servers=0)


async def test_plain_http_in_a_tunnel(make_proxy: MakeProxy, nginx: Nginx) -> None:
    proxy = await make_proxy()
    done = await proxy.curl("--proxytunnel", url(nginx.port, "/hello"))
    assert done.text == "hello from nginx\n"
    await assert_log(proxy.recorder, [*CONNECTED, "http_connect", "http_connected", *REQUEST, *DIALLED, *ANSWER,
                                      *DISCONNECTED])


async def test_server_may_speak_first_in_a_tunnel(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()

    async def greeting(connection: OriginConnection) -> None:
        await connection.send(b"220 ready\r\n")
        await connection.read_to_end()

    async with run_origin(greeting) as origin, asyncio.timeout(10):
        reader, writer = await proxy.connect()
        writer.write(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\n\r\n" % origin.port)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert await reader.readline() == b"220 ready\r\n"
        writer.close()
        await assert_log(proxy.recorder, [
            *CONNECTED, "http_connect", "http_connected", *DIALLED, "tcp_start", "tcp_message", "tcp_end",
            *DISCONNECTED])


async def test_client_that_does_not_trust_the_proxy(make_proxy: MakeProxy, nginx: Nginx, origin_ca: OriginCA) -> None:
    proxy = await make_proxy(Decide())
    done = await openssl(proxy, nginx.tls_port, "-CAfile", str(origin_ca.pem), request=CLOSING_GET)
    assert done.code != 0
    await assert_log(proxy.recorder, [*CONNECTED, *TUNNEL, "tls_start_client", "tls_failed_client", *DISCONNECTED],
                     servers=0)
    (data,) = proxy.recorder.arguments("tls_failed_client")
    assert "unknown ca" in data.conn.error


# --- many at once, and the end ----------------------------------------------------------------------------------


async def test_many_clients_each_in_order(make_proxy: MakeProxy, nginx: Nginx) -> None:
    """The automaton judges every client and flow on its own."""
    proxy = await make_proxy(Decide())
    plain, secure = url(nginx.port, "/hello"), url(nginx.tls_port, "/hello", "https", "localhost")
    results = await asyncio.gather(*(proxy.curl(plain, secure, plain) for _ in range(10)))
    assert [result.text for result in results] == ["hello from nginx\n" * 3] * 10
    assert proxy.recorder.names.count("response") == 30
    assert "error" not in proxy.recorder.names


async def test_life_cycle_frames_everything(make_proxy: MakeProxy, nginx: Nginx) -> None:
    proxy = await make_proxy()
    await proxy.curl(url(nginx.port, "/hello"))
    names = [name for name, _ in proxy.recorder.events]
    assert names[:4] == ["load", "configure", "running", "client_connected"]
    await proxy.proxy.stop(1)
    await proxy.addons.shutdown()
    assert proxy.recorder.events[-1][0] == "done"
    assert "server_disconnected" in proxy.recorder.names
