"""Tunnels: relayed, intercepted, refused, and what clients try in them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from rulesproxy.model.effects import Route
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.http import Response
from rulesproxy.model.policy import TlsDecision, TlsVerdict
from rulesproxy.model.tls import ClientHelloData, Tunnel
from tests.support.certificates import OriginCA
from tests.support.leaks import until
from tests.support.origin import OriginConnection, run_origin
from tests.support.proxy import RunningProxy

MakeProxy = Callable[..., Awaitable[RunningProxy]]
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SECONDS = 10.0


class Verdict:
    """A policy addon: one verdict for every tunnel."""

    def __init__(self, verdict: TlsVerdict) -> None:
        self.verdict = verdict
        self.asked: list[str] = []

    def tls_decision(self, tunnel: Tunnel) -> TlsDecision:
        self.asked.append(tunnel.name)
        return TlsDecision(self.verdict, rule="the-rule")


class Dialled:
    """Knows when the proxy has dialled."""

    def __init__(self) -> None:
        self.connected, self.failed = asyncio.Event(), asyncio.Event()

    def server_connected(self, data: object) -> None:
        self.connected.set()

    def server_connect_error(self, data: object) -> None:
        self.failed.set()


@asynccontextmanager
async def tunnel(proxy: RunningProxy, port: int, host: str = "localhost") -> AsyncIterator[Pair]:
    """An open CONNECT tunnel."""
    reader, writer = await proxy.connect()
    try:
        async with asyncio.timeout(SECONDS):
            writer.write(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            yield reader, writer
    finally:
        writer.close()
        try:
            await writer.wait_closed()
        except (OSError, ssl.SSLError):
            pass  # it was reset, which some tests want


def trusting(proxy: RunningProxy, *alpn: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(proxy.ca))
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def get(host: str, fields: str = "") -> bytes:
    return f"GET /x HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n".encode()


# --- intercepted --------------------------------------------------------------------------------------------------

async def test_an_intercepted_tunnel_speaks_http_on_both_sides(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    proxy = await make_proxy(Verdict(TlsVerdict.INTERCEPT))
    async with (run_origin(OK, tls=origin_ca.server_context("localhost")) as origin,
                tunnel(proxy, origin.port) as (reader, writer)):
        await writer.start_tls(trusting(proxy, "http/1.1"), server_hostname="localhost")
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        for _ in range(2):
            writer.write(get(f"localhost:{origin.port}"))
            assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 OK")
        assert len(origin.connections) == 1
        assert origin.requests[0].head == get(f"localhost:{origin.port}")
    assert [name for name in proxy.recorder.names if not name.startswith("server_d")][:13] == [
        "client_connected", "http_connect", "http_connected", "tls_clienthello", "tls_start_client",
        "tls_established_client", "requestheaders", "request", "server_connect", "server_connected",
        "tls_start_server", "tls_established_server", "responseheaders"]


async def test_no_leaf_is_made_and_nothing_dialled_for_a_refused_connect(make_proxy: MakeProxy) -> None:
    class Refusing:
        def http_connect(self, flow: HTTPFlow) -> None:
            flow.response = Response.make(403, "no")

    proxy = await make_proxy(Refusing())
    async with run_origin(OK) as origin:
        answer = await proxy.talk(f"CONNECT localhost:{origin.port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert answer.endswith(b"no")
        assert origin.connections == []
    assert len(proxy.core.contexts) == 0
    await until(lambda: len(proxy.recorder.names) == 4)
    assert proxy.recorder.names == ["client_connected", "http_connect", "http_connect_error", "client_disconnected"]


@pytest.mark.parametrize("identity", ["refuse", "warn"])
async def test_host_must_agree_with_the_tunnel(make_proxy: MakeProxy, origin_ca: OriginCA, identity: str) -> None:
    proxy = await make_proxy(Verdict(TlsVerdict.INTERCEPT), identity=identity)
    async with (run_origin(OK, tls=origin_ca.server_context("localhost")) as origin,
                tunnel(proxy, origin.port) as (reader, writer)):
        await writer.start_tls(trusting(proxy), server_hostname="localhost")
        writer.write(get("other.test"))
        head = await reader.readuntil(b"\r\n\r\n")
        if identity == "refuse":
            assert head.startswith(b"HTTP/1.1 421 ")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            assert b"--set identity=warn" in await reader.readexactly(length)
            assert origin.connections == []
        else:
            assert head.startswith(b"HTTP/1.1 200 ")
            assert await reader.readexactly(2) == b"ok"
            # The connection goes where the tunnel goes, whatever the request says.
            assert origin.requests[0].values(b"host") == [b"other.test"]
        writer.write(get("LOCALHOST."))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_without_sni_the_connect_host_is_the_name(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    proxy = await make_proxy(Verdict(TlsVerdict.INTERCEPT))
    async with (run_origin(OK, tls=origin_ca.server_context("127.0.0.1")) as origin,
                tunnel(proxy, origin.port, "127.0.0.1") as (reader, writer)):
        await writer.start_tls(trusting(proxy), server_hostname="127.0.0.1")
        writer.write(get("127.0.0.1"))
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")
        writer.write(get("127.0.0.2"))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 421 ")


async def test_sni_names_the_host_and_the_dial_goes_to_the_connect_host(make_proxy: MakeProxy,
                                                                        origin_ca: OriginCA) -> None:
    proxy = await make_proxy(Verdict(TlsVerdict.INTERCEPT))
    async with (run_origin(OK, tls=origin_ca.server_context("inner.test")) as origin,
                tunnel(proxy, origin.port, "127.0.0.1") as (reader, writer)):
        await writer.start_tls(trusting(proxy), server_hostname="inner.test")
        writer.write(get("inner.test"))
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")


async def test_a_client_that_does_not_trust_the_leaf(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(Verdict(TlsVerdict.INTERCEPT))
    async with run_origin(OK) as origin, tunnel(proxy, origin.port) as (_, writer):
        with pytest.raises(ssl.SSLCertVerificationError):
            await writer.start_tls(ssl.create_default_context(), server_hostname="localhost")
    await proxy.proxy.stop(1.0)
    # With TLS 1.3 the client's refusal can come after our side of the handshake is done.
    assert {"tls_failed_client", "tls_established_client"} & set(proxy.recorder.names)
    assert "requestheaders" not in proxy.recorder.names


async def test_a_hook_may_move_the_tunnel(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    class Moving:
        port = 0

        def http_connect(self, flow: HTTPFlow) -> None:
            flow.request.port = self.port

    moving = Moving()
    proxy = await make_proxy(moving, Verdict(TlsVerdict.INTERCEPT))
    async with run_origin(OK, tls=origin_ca.server_context("localhost")) as origin:
        moving.port = origin.port
        async with tunnel(proxy, 1) as (reader, writer):
            await writer.start_tls(trusting(proxy), server_hostname="localhost")
            writer.write(get("localhost:1"))
            assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("verdict", [TlsVerdict.RELAY, TlsVerdict.INTERCEPT])
async def test_a_connect_route_holds_only_while_the_tunnel_is_relayed(
        make_proxy: MakeProxy, origin_ca: OriginCA, verdict: TlsVerdict) -> None:
    """What is decrypted is routed request by request: the route of the CONNECT must not add up with it."""
    class Routing:
        port = 0

        def http_connect(self, flow: HTTPFlow) -> None:
            flow.route = Route(port=self.port)

    routing = Routing()
    proxy = await make_proxy(routing, Verdict(verdict))
    async with (run_origin(OK, tls=origin_ca.server_context("localhost")) as here,
                run_origin(OK, tls=origin_ca.server_context("localhost")) as there):
        routing.port = there.port
        async with tunnel(proxy, here.port) as (reader, writer):
            context = trusting(proxy)
            context.load_verify_locations(str(origin_ca.pem))
            await writer.start_tls(context, server_hostname="localhost")
            writer.write(get(f"localhost:{here.port}"))
            assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")
        assert (len(here.connections), len(there.connections)) == ((0, 1) if verdict is TlsVerdict.RELAY else (1, 0))


# --- relayed and refused ------------------------------------------------------------------------------------------

async def test_a_relayed_tunnel_shows_the_origins_own_certificate(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    proxy = await make_proxy(Verdict(TlsVerdict.RELAY))
    async with (run_origin(OK, tls=origin_ca.server_context("localhost")) as origin,
                tunnel(proxy, origin.port) as (reader, writer)):
        await writer.start_tls(ssl.create_default_context(cafile=str(origin_ca.pem)), server_hostname="localhost")
        writer.write(get("localhost"))
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")
    assert len(proxy.core.contexts) == 0
    assert [name for name in proxy.recorder.names if name.startswith("tls_")] == ["tls_clienthello"]
    assert "requestheaders" not in proxy.recorder.names


async def test_a_hook_may_have_the_tunnel_relayed(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    class Ignoring:
        def tls_clienthello(self, data: ClientHelloData) -> None:
            assert data.client_hello.sni == "localhost"
            data.ignore_connection = True

    proxy = await make_proxy(Ignoring(), Verdict(TlsVerdict.INTERCEPT))
    async with (run_origin(OK, tls=origin_ca.server_context("localhost")) as origin,
                tunnel(proxy, origin.port) as (_, writer)):
        await writer.start_tls(ssl.create_default_context(cafile=str(origin_ca.pem)), server_hostname="localhost")


async def test_refused_tls_gets_an_alert_and_the_origin_nothing(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(Verdict(TlsVerdict.REFUSE))
    async with run_origin(OK) as origin, tunnel(proxy, origin.port) as (_, writer):
        with pytest.raises(ssl.SSLError, match=r"(?i)access.denied"):
            await writer.start_tls(ssl.create_default_context(), server_hostname="localhost")
        assert origin.connections == []


@pytest.mark.parametrize("hello", [
    b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00", b"\x16\x03\x01\xff\xff" + b"\x01" * 100])
async def test_a_broken_client_hello_is_not_a_way_around(make_proxy: MakeProxy, hello: bytes) -> None:
    proxy = await make_proxy(Verdict(TlsVerdict.INTERCEPT))
    async with run_origin(OK) as origin, tunnel(proxy, origin.port) as (reader, writer):
        writer.write(hello)
        assert await reader.read() == b"\x15\x03\x03\x00\x02\x02\x32"
        assert origin.connections == []


async def test_half_close_and_the_last_bytes_pass_a_relay(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()

    async def echo_at_the_end(connection: OriginConnection) -> None:
        data = await connection.read_to_end()
        await connection.send(b"got %d bytes" % len(data))

    async with run_origin(echo_at_the_end) as origin, tunnel(proxy, origin.port) as (reader, writer):
        writer.write(b"\x00" + b"a" * 3_000_000)
        writer.write_eof()
        assert await reader.read() == b"got 3000001 bytes"
    await proxy.proxy.stop(SECONDS)
    assert sorted(proxy.recorder.names[-2:]) == ["client_disconnected", "server_disconnected"]


async def test_a_reset_passes_a_relay(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()

    async def resetting(connection: OriginConnection) -> None:
        await connection.read_some()
        connection.reset()

    async with run_origin(resetting) as origin, tunnel(proxy, origin.port) as (reader, writer):
        writer.write(b"\x00")
        with pytest.raises(ConnectionResetError):
            await reader.read()


async def test_a_relay_to_nowhere_ends(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()
    async with tunnel(proxy, 1) as (reader, writer):
        writer.write(b"\x00")
        with pytest.raises(ConnectionResetError):
            await reader.read()
    assert "server_connect_error" in proxy.recorder.names


async def test_an_idle_relay_ends(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(idle_timeout=0.2)

    async def silent(connection: OriginConnection) -> None:
        await connection.read_to_end()

    async with run_origin(silent) as origin, tunnel(proxy, origin.port) as (reader, writer):
        writer.write(b"\x00")
        assert await reader.read() == b""


# --- who speaks first ---------------------------------------------------------------------------------------------

async def test_a_server_may_speak_first(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(Verdict(TlsVerdict.INTERCEPT))

    async def greeting(connection: OriginConnection) -> None:
        await connection.send(b"220 ready\r\n")
        assert await connection.read_some() == b"EHLO me\r\n"
        await connection.send(b"250 ok\r\n")

    async with run_origin(greeting) as origin, tunnel(proxy, origin.port) as (reader, writer):
        assert await reader.readline() == b"220 ready\r\n"
        writer.write(b"EHLO me\r\n")
        assert await reader.readline() == b"250 ok\r\n"


async def test_a_silent_start_does_not_get_a_client_around_interception(make_proxy: MakeProxy,
                                                                        origin_ca: OriginCA) -> None:
    dialled = Dialled()
    proxy = await make_proxy(Verdict(TlsVerdict.INTERCEPT), dialled)
    async with (run_origin(OK, tls=origin_ca.server_context("localhost")) as origin,
                tunnel(proxy, origin.port) as (reader, writer)):
        await dialled.connected.wait()  # because nobody said anything
        await writer.start_tls(trusting(proxy), server_hostname="localhost")
        writer.write(get("localhost"))
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")
    assert proxy.recorder.names.count("request") == 1


async def test_a_silent_client_of_a_dead_server_can_still_get_an_answer(make_proxy: MakeProxy) -> None:
    class Mock:
        def request(self, flow: HTTPFlow) -> None:
            flow.response = Response.make(200, "mock")

    dialled = Dialled()
    proxy = await make_proxy(Mock(), dialled)
    async with tunnel(proxy, 1) as (reader, writer):
        await dialled.failed.wait()
        await writer.start_tls(trusting(proxy), server_hostname="localhost")
        writer.write(get("localhost:1"))
        assert (await reader.readuntil(b"mock")).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("first", [b"get / http/1.1\r\n\r\n", b"GET\t/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
                                   b" GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"])
async def test_what_a_lenient_server_takes_for_http_is_refused(make_proxy: MakeProxy, first: bytes) -> None:
    proxy = await make_proxy()
    async with run_origin(OK) as origin, tunnel(proxy, origin.port) as (reader, writer):
        writer.write(first)
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        assert origin.connections == []


async def test_plain_http_in_a_tunnel_is_served(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()
    async with run_origin(OK) as origin, tunnel(proxy, origin.port) as (reader, writer):
        writer.write(get(f"localhost:{origin.port}"))
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")
        writer.write(get("other.test", "Connection: close\r\n"))
        assert (await reader.read()).startswith(b"HTTP/1.1 421 ")
    assert "request" in proxy.recorder.names


async def test_a_tunnel_in_a_tunnel(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    proxy = await make_proxy(Verdict(TlsVerdict.INTERCEPT))
    async with (run_origin(OK, tls=origin_ca.server_context("localhost")) as origin,
                tunnel(proxy, 1) as (reader, writer)):
        writer.write(f"CONNECT localhost:{origin.port} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        await writer.start_tls(trusting(proxy), server_hostname="localhost")
        writer.write(get("localhost"))
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")


async def test_early_bytes_behind_a_connect_belong_to_the_tunnel(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()

    async def echo(connection: OriginConnection) -> None:
        await connection.send(await connection.read_some())

    async with run_origin(echo) as origin:
        answer = await proxy.talk(
            f"CONNECT localhost:{origin.port} HTTP/1.1\r\nHost: x\r\n\r\n".encode() + b"\x00early")
        assert answer == b"HTTP/1.1 200 Connection established\r\n\r\n\x00early"


async def test_the_virtual_host_has_no_tunnel(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()
    answer = await proxy.talk(b"CONNECT rulesproxy.test:443 HTTP/1.1\r\nHost: rulesproxy.test\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"http://rulesproxy.test/" in answer


# --- new rules ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("before", [TlsVerdict.RELAY, TlsVerdict.INTERCEPT])
async def test_a_tunnel_that_would_be_decided_differently_ends_when_it_is_quiet(
        make_proxy: MakeProxy, origin_ca: OriginCA, before: TlsVerdict) -> None:
    policy = Verdict(before)
    proxy = await make_proxy(policy)
    async with (run_origin(OK, tls=origin_ca.server_context("localhost")) as origin,
                tunnel(proxy, origin.port) as (reader, writer)):
        context = trusting(proxy)
        context.load_verify_locations(str(origin_ca.pem))
        await writer.start_tls(context, server_hostname="localhost")
        writer.write(get("localhost"))
        await reader.readuntil(b"ok")
        assert proxy.core.reconsider_tunnels() == 0
        policy.verdict = TlsVerdict.REFUSE
        assert proxy.core.reconsider_tunnels() == 1
        assert proxy.core.reconsider_tunnels() == 0
        assert await reader.read() == b""


async def test_stale_tunnels_can_be_kept(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    policy = Verdict(TlsVerdict.RELAY)
    proxy = await make_proxy(policy, stale_tunnels="keep")
    async with (run_origin(OK, tls=origin_ca.server_context("localhost")) as origin,
                tunnel(proxy, origin.port) as (_, writer)):
        await writer.start_tls(ssl.create_default_context(cafile=str(origin_ca.pem)), server_hostname="localhost")
        policy.verdict = TlsVerdict.REFUSE
        assert proxy.core.reconsider_tunnels() == 0
