"""The order of hooks when something fails, is refused or is killed; how logs are compared: see test_hook_order."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from rulesproxy.model.connection import Client, ServerConnectionHookData
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.http import Response
from tests.support.certificates import OriginCA
from tests.support.hook_logs import (
    ANSWER,
    CONNECTED,
    DIALLED,
    DISCONNECTED,
    INTERCEPTED,
    REQUEST,
    TUNNEL,
    At,
    Decide,
    MakeProxy,
    assert_log,
    url,
)
from tests.support.leaks import until
from tests.support.nginx import Nginx
from tests.support.origin import HELLO, OriginConnection, run_origin
from tests.support.tools import curl

# --- failing servers --------------------------------------------------------------------------------------------


@pytest.fixture
def refusing_port() -> Any:
    """A port nobody listens on and nobody else gets."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


FAILED = ["server_connect", "server_connect_error", "error"]


async def test_plain_request_to_a_server_that_refuses(make_proxy: MakeProxy, refusing_port: int) -> None:
    proxy = await make_proxy()
    done = await proxy.curl("--include", url(refusing_port))
    assert done.text.startswith("HTTP/1.1 502 ") and "connection refused" in done.text
    await assert_log(proxy.recorder, [*CONNECTED, *REQUEST, *FAILED, *DISCONNECTED], servers=0)
    (flow,) = proxy.recorder.arguments("error")
    assert "connection refused" in flow.error.msg and flow.response is None


async def test_intercepted_request_to_a_server_that_refuses(make_proxy: MakeProxy, refusing_port: int) -> None:
    proxy = await make_proxy(Decide())
    done = await proxy.curl("--include", url(refusing_port, "/", "https"))
    assert "HTTP/2 502 " in done.text
    await assert_log(proxy.recorder, [*CONNECTED, *INTERCEPTED, *REQUEST, *FAILED, *DISCONNECTED], servers=0)


async def test_relayed_tunnel_to_a_server_that_refuses(make_proxy: MakeProxy, refusing_port: int) -> None:
    """The tunnel is granted before anything is dialled, so its failure is the server's only."""
    proxy = await make_proxy()
    assert (await proxy.curl(url(refusing_port, "/", "https"))).code == 35
    await assert_log(proxy.recorder, [*CONNECTED, *TUNNEL, "server_connect", "server_connect_error", *DISCONNECTED],
                     servers=0)


async def test_server_with_a_bad_certificate(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    proxy = await make_proxy(Decide())
    async with run_origin(tls=origin_ca.server_context("other.test")) as origin:
        done = await proxy.curl("--include", url(origin.port, "/", "https", "localhost"))
        assert "HTTP/2 502 " in done.text and "not valid for 'localhost'" in done.text
        assert origin.requests == []
        await assert_log(proxy.recorder, [*CONNECTED, *INTERCEPTED, *REQUEST, *DIALLED, "tls_start_server",
                                          "tls_failed_server", "error", *DISCONNECTED])


async def test_server_that_closes_without_an_answer(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()

    async def script(connection: OriginConnection) -> None:
        await connection.read_request()

    async with run_origin(script) as origin:
        assert "HTTP/1.1 502 " in (await proxy.curl("--include", url(origin.port))).text
        await assert_log(proxy.recorder, [*CONNECTED, *REQUEST, *DIALLED, "error", *DISCONNECTED])


async def test_server_that_answers_nonsense(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()
    async with run_origin(b"220 ftp.example.test\r\n\r\n") as origin:
        assert "HTTP/1.1 502 " in (await proxy.curl("--include", url(origin.port))).text
        await assert_log(proxy.recorder, [*CONNECTED, *REQUEST, *DIALLED, "error", *DISCONNECTED])


async def test_server_that_cuts_its_answer(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()

    async def script(connection: OriginConnection) -> None:
        await connection.read_request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")

    async with run_origin(script) as origin:
        done = await proxy.curl(url(origin.port))
        assert done.code in (18, 56)  # a partial file, visibly: never a silent cut
        await assert_log(proxy.recorder, [*CONNECTED, *REQUEST, *DIALLED, "responseheaders", "error", *DISCONNECTED])


async def test_stale_connection_is_retried_once(make_proxy: MakeProxy) -> None:
    """The origin closes the kept connection upon the second request."""
    proxy = await make_proxy()

    async def script(connection: OriginConnection) -> None:
        await connection.read_request()
        await connection.send(HELLO)
        await connection.read_request()

    async with run_origin(script) as origin:
        done = await proxy.curl(url(origin.port, "/1"), url(origin.port, "/2"))
        assert done.text == "hellohello"
        await assert_log(proxy.recorder, [*CONNECTED, *REQUEST, *DIALLED, *ANSWER, *REQUEST, *DIALLED, *ANSWER,
                                          *DISCONNECTED], servers=2)


async def test_client_that_leaves_in_the_middle_of_the_answer(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()
    left = asyncio.Event()

    async def script(connection: OriginConnection) -> None:
        await connection.read_request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 1000)
        await left.wait()
        while True:
            await connection.send(b"x" * 65536)

    async with run_origin(script) as origin, asyncio.timeout(15):
        reader, writer = await proxy.connect()
        writer.write(b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: x\r\n\r\n" % origin.port)
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()
        left.set()
        await assert_log(proxy.recorder, [*CONNECTED, *REQUEST, *DIALLED, "responseheaders", "error", *DISCONNECTED])


# --- refused by a hook ------------------------------------------------------------------------------------------


def forbid(flow: HTTPFlow) -> None:
    flow.response = Response.make(403, "no")


async def test_refused_in_client_connected(make_proxy: MakeProxy) -> None:
    def refuse(client: Client) -> None:
        client.error = "not you"

    proxy = await make_proxy(At("client_connected", refuse))
    assert (await proxy.curl("http://127.0.0.1:9/")).code in (52, 56)
    await assert_log(proxy.recorder, [*CONNECTED, *DISCONNECTED], servers=0)


async def test_answered_in_requestheaders(make_proxy: MakeProxy, nginx: Nginx) -> None:
    """`request` does not fire, the answer's own hooks do, and nothing is dialled."""
    proxy = await make_proxy(At("requestheaders", forbid))
    assert (await proxy.curl(url(nginx.port))).text == "no"
    await assert_log(proxy.recorder, [*CONNECTED, "requestheaders", *ANSWER, *DISCONNECTED], servers=0)
    assert nginx.log == []


async def test_answered_in_requestheaders_before_the_body_came(make_proxy: MakeProxy, nginx: Nginx) -> None:
    proxy = await make_proxy(At("requestheaders", forbid))
    done = await proxy.curl("--data-binary", "@-", "--header", "Expect:", url(nginx.port), url(nginx.port),
                            stdin=b"x" * 40_000)
    assert done.text == "nono"
    once = ["requestheaders", *ANSWER]
    assert proxy.recorder.of(*once, "request", "error") == once * 2


async def test_answered_in_request(make_proxy: MakeProxy, nginx: Nginx) -> None:
    proxy = await make_proxy(At("request", forbid))
    assert (await proxy.curl(url(nginx.port))).text == "no"
    await assert_log(proxy.recorder, [*CONNECTED, *REQUEST, *ANSWER, *DISCONNECTED], servers=0)
    assert nginx.log == []


async def test_prevented_in_server_connect(make_proxy: MakeProxy, nginx: Nginx) -> None:
    def prevent(data: ServerConnectionHookData) -> None:
        data.server.error = "not there"

    proxy = await make_proxy(At("server_connect", prevent))
    assert "not there" in (await proxy.curl(url(nginx.port))).text
    await assert_log(proxy.recorder, [*CONNECTED, *REQUEST, *FAILED, *DISCONNECTED], servers=0)


async def test_tunnel_refused_in_http_connect(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(At("http_connect", forbid))
    assert (await proxy.curl("https://127.0.0.1:9/")).code == 56  # the answer to CONNECT was not 2xx
    await assert_log(proxy.recorder, [*CONNECTED, "http_connect", "http_connect_error", *DISCONNECTED], servers=0)


async def test_tunnel_granted_by_a_response_of_the_hook(make_proxy: MakeProxy, nginx: Nginx,
                                                        origin_ca: OriginCA) -> None:
    def grant(flow: HTTPFlow) -> None:
        flow.response = Response.make(200)

    proxy = await make_proxy(At("http_connect", grant))
    done = await curl("--cacert", str(origin_ca.pem), url(nginx.tls_port, "/hello", "https", "localhost"),
                      proxy=proxy.address)
    assert done.text == "hello from nginx\n"
    await assert_log(proxy.recorder, [*CONNECTED, *TUNNEL, *DIALLED, *DISCONNECTED])


async def test_tunnel_moved_by_http_connect(make_proxy: MakeProxy, nginx: Nginx, origin_ca: OriginCA) -> None:
    def move(flow: HTTPFlow) -> None:
        flow.request.host, flow.request.port = "127.0.0.1", nginx.tls_port

    proxy = await make_proxy(At("http_connect", move))
    done = await curl("--cacert", str(origin_ca.pem), "https://localhost:9/hello", proxy=proxy.address)
    assert done.text == "hello from nginx\n"
    await assert_log(proxy.recorder, [*CONNECTED, *TUNNEL, *DIALLED, *DISCONNECTED])
    (data,) = proxy.recorder.arguments("server_connected")
    assert data.server.address == ("127.0.0.1", nginx.tls_port)


async def test_redirected_in_server_connect(make_proxy: MakeProxy, nginx: Nginx) -> None:
    def redirect(data: ServerConnectionHookData) -> None:
        data.server.address = ("127.0.0.1", nginx.port)

    proxy = await make_proxy(At("server_connect", redirect))
    done = await proxy.curl("http://nowhere.test/host", "http://nowhere.test/host")
    assert done.text == "nowhere.test\n" * 2
    # A redirect must not cost a new connection per request.
    await assert_log(proxy.recorder, [*CONNECTED, *REQUEST, *DIALLED, *ANSWER, *REQUEST, *ANSWER, *DISCONNECTED])


# --- killed -----------------------------------------------------------------------------------------------------

KILLED = {
    "requestheaders": ([*CONNECTED, "requestheaders", "error", *DISCONNECTED], 0),
    "request": ([*CONNECTED, *REQUEST, "error", *DISCONNECTED], 0),
    "responseheaders": ([*CONNECTED, *REQUEST, *DIALLED, "responseheaders", "error", *DISCONNECTED], 1),
    # The one of `response` and `error` that fires has fired.
    "response": ([*CONNECTED, *REQUEST, *DIALLED, *ANSWER, *DISCONNECTED], 1),
}


@pytest.mark.parametrize(("hook", "expected", "servers"), [(hook, *rest) for hook, rest in KILLED.items()],
                         ids=KILLED)
async def test_killed_flow_ends_with_error_and_nothing_is_sent(make_proxy: MakeProxy, nginx: Nginx, hook: str,
                                                               expected: list[str], servers: int) -> None:
    class Kill(At):
        """Buffers, so that nothing of the answer is out when `response` fires."""

        def needs_body(self, flow: HTTPFlow, phase: str) -> bool:
            return True

    proxy = await make_proxy(Kill(hook, HTTPFlow.kill))
    done = await proxy.curl("--include", url(nginx.port, "/hello"))
    assert done.code in (52, 56) and done.out == b""
    await assert_log(proxy.recorder, expected, servers)


async def test_killed_tunnel(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(At("http_connect", HTTPFlow.kill))
    done = await proxy.curl("https://127.0.0.1:9/")
    assert done.code in (52, 56)
    await assert_log(proxy.recorder, [*CONNECTED, "http_connect", "http_connect_error", *DISCONNECTED], servers=0)


async def test_killed_while_the_server_is_dialled(make_proxy: MakeProxy, nginx: Nginx) -> None:
    """`kill()` works at any moment, also from a hook of something else."""
    flows: list[HTTPFlow] = []
    proxy = await make_proxy(At("requestheaders", flows.append), At("server_connect", lambda data: flows[0].kill()))
    done = await proxy.curl("--include", url(nginx.port, "/hello"))
    assert done.code in (52, 56) and done.out == b""
    await until(lambda: "client_disconnected" in proxy.recorder.names)
    assert proxy.recorder.of("request", "responseheaders", "response", "error") in (
        ["request", "error"], ["request", "responseheaders", "error"])


async def test_killed_when_the_server_is_connected(make_proxy: MakeProxy) -> None:
    """The request is not sent, and the kill is not taken for a cancellation: `error` may await."""
    flows: list[HTTPFlow] = []
    finished: list[HTTPFlow] = []

    async def take_time(flow: HTTPFlow) -> None:
        await asyncio.sleep(0.01)
        finished.append(flow)

    proxy = await make_proxy(At("requestheaders", flows.append), At("error", take_time),
                             At("server_connected", lambda data: flows[0].kill()))
    async with run_origin() as origin:
        done = await proxy.curl(f"http://127.0.0.1:{origin.port}/")
        assert done.code in (52, 56) and done.out == b""
        assert await until(lambda: "client_disconnected" in proxy.recorder.names)
        assert origin.received == b"" and finished == flows


async def test_killed_from_outside_in_the_middle_of_the_answer(make_proxy: MakeProxy) -> None:
    flows: list[HTTPFlow] = []
    proxy = await make_proxy(At("responseheaders", flows.append))

    async def script(connection: OriginConnection) -> None:
        await connection.read_request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while True:
            await connection.send(b"x" * 100)
            await asyncio.sleep(0.01)

    async with run_origin(script) as origin, asyncio.timeout(15):
        reader, writer = await proxy.connect()
        writer.write(b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: x\r\n\r\n" % origin.port)
        await reader.readuntil(b"\r\n\r\nx")
        flows[0].kill()
        await _read_to_end(reader)
        writer.close()
        await assert_log(proxy.recorder, [*CONNECTED, *REQUEST, *DIALLED, "responseheaders", "error", *DISCONNECTED])


async def test_killed_from_outside_while_the_server_is_silent(make_proxy: MakeProxy) -> None:
    flows: list[HTTPFlow] = []
    asked = asyncio.Event()
    proxy = await make_proxy(At("requestheaders", flows.append))

    async def silent(connection: OriginConnection) -> None:
        await connection.read_request()
        asked.set()
        await connection.read_to_end()

    async with run_origin(silent) as origin, asyncio.timeout(15):
        reader, writer = await proxy.connect()
        writer.write(b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: x\r\n\r\n" % origin.port)
        await asked.wait()
        flows[0].kill()
        assert await reader.read() == b""
        writer.close()
        await assert_log(proxy.recorder, [*CONNECTED, *REQUEST, *DIALLED, "error", *DISCONNECTED])
    assert not flows[0].live


async def test_killed_from_outside_while_the_body_is_awaited(make_proxy: MakeProxy) -> None:
    flows: list[HTTPFlow] = []
    seen = asyncio.Event()

    class Buffering:
        def requestheaders(self, flow: HTTPFlow) -> None:
            flows.append(flow)
            seen.set()

        def request(self, flow: HTTPFlow) -> None:
            raise AssertionError("the body never came")

    proxy = await make_proxy(Buffering())
    async with asyncio.timeout(15):
        reader, writer = await proxy.connect()
        writer.write(b"POST http://127.0.0.1:1/ HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf")
        await seen.wait()
        await asyncio.sleep(0.05)
        flows[0].kill()
        assert await reader.read() == b""
        writer.close()
        await assert_log(proxy.recorder, [*CONNECTED, "requestheaders", "error", *DISCONNECTED], servers=0)


async def _read_to_end(reader: asyncio.StreamReader) -> None:
    try:
        await reader.read()
    except ConnectionResetError:
        pass  # a cut is a cut
