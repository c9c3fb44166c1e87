"""Clients that leave while their answer is still being made: noticed at once, unless they only half-closed."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from rulesproxy.model.connection import ServerConnectionHookData
from rulesproxy.model.effects import Pacing
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.policy import TlsDecision, TlsVerdict
from rulesproxy.model.tls import Tunnel
from rulesproxy.net import tcp
from tests.support.certificates import OriginCA
from tests.support.origin import Origin, OriginConnection, run_origin
from tests.support.proxy import RunningProxy

MakeProxy = Callable[..., Awaitable[RunningProxy]]
SECONDS = 5.0


class Failures:
    """Looks on: `failed` is set when a flow ended in `error`."""

    def __init__(self) -> None:
        self.failed = asyncio.Event()
        self.why = ""

    def error(self, flow: HTTPFlow) -> None:
        assert flow.error is not None
        self.why = str(flow.error)
        self.failed.set()

    def tls_decision(self, tunnel: Tunnel) -> TlsDecision:
        return TlsDecision(TlsVerdict.INTERCEPT)

    def needs_body(self, flow: HTTPFlow, phase: str) -> bool:
        return False

    async def wait(self) -> str:
        async with asyncio.timeout(SECONDS):
            await self.failed.wait()
        return self.why


class Silent:
    """An origin's script: takes a request and says nothing. `gone` is set when its connection ended."""

    def __init__(self) -> None:
        self.asked, self.gone = asyncio.Event(), asyncio.Event()

    async def __call__(self, connection: OriginConnection) -> None:
        try:
            await connection.read_head()
            self.asked.set()
            await connection.read_to_end()
        finally:
            self.gone.set()

    async def wait(self, event: asyncio.Event) -> None:
        async with asyncio.timeout(SECONDS):
            await event.wait()


@asynccontextmanager
async def silent_origin(origin_ca: OriginCA | None = None) -> AsyncIterator[tuple[Origin, Silent]]:
    script = Silent()
    context = origin_ca.server_context("localhost") if origin_ca is not None else None
    async with run_origin(script, tls=context) as origin:
        yield origin, script


def get(port: int, fields: str = "") -> bytes:
    return f"GET http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{fields}\r\n".encode()


def reset(writer: asyncio.StreamWriter) -> None:
    """RST instead of FIN."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def intercepted(proxy: RunningProxy, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client inside an intercepted tunnel."""
    reader, writer = await proxy.connect()
    writer.write(f"CONNECT localhost:{port} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    await writer.start_tls(ssl.create_default_context(cafile=str(proxy.ca)), server_hostname="localhost")
    return reader, writer


async def test_a_reset_while_the_origin_is_silent(make_proxy: MakeProxy) -> None:
    failures = Failures()
    proxy = await make_proxy(failures)
    async with silent_origin() as (origin, silent):
        _, writer = await proxy.connect()
        writer.write(get(origin.port))
        await silent.wait(silent.asked)
        reset(writer)
        assert "client left" in await failures.wait()
        await silent.wait(silent.gone)
    assert proxy.core.upstream.idle_count == 0


async def test_a_reset_inside_an_intercepted_tunnel(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    failures = Failures()
    proxy = await make_proxy(failures)
    async with silent_origin(origin_ca) as (origin, silent):
        _, writer = await intercepted(proxy, origin.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await silent.wait(silent.asked)
        reset(writer)
        assert "client left" in await failures.wait()
        await silent.wait(silent.gone)


async def test_an_end_without_close_notify_is_no_half_close(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    """What a killed client leaves behind: TLS has its own way to half-close (RFC 8446 §6.1)."""
    failures = Failures()
    proxy = await make_proxy(failures)
    async with silent_origin(origin_ca) as (origin, silent):
        _, writer = await intercepted(proxy, origin.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await silent.wait(silent.asked)
        with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as sock:
            sock.shutdown(socket.SHUT_WR)
        assert "client left" in await failures.wait()
        await silent.wait(silent.gone)
        writer.close()


async def test_a_reset_while_the_server_is_dialled(make_proxy: MakeProxy) -> None:
    class Slow(Failures):
        def __init__(self) -> None:
            super().__init__()
            self.dialling = asyncio.Event()

        async def server_connect(self, data: ServerConnectionHookData) -> None:
            self.dialling.set()
            await asyncio.sleep(SECONDS * 2)

    slow = Slow()
    proxy = await make_proxy(slow)
    _, writer = await proxy.connect()
    writer.write(get(1))
    async with asyncio.timeout(SECONDS):
        await slow.dialling.wait()
    reset(writer)
    assert "client left" in await slow.wait()
    assert "server_connect_error" in proxy.recorder.names


@pytest.mark.parametrize("phase", ["request", "response"])
async def test_a_reset_during_a_delay(make_proxy: MakeProxy, phase: str) -> None:
    class Delaying(Failures):
        def __init__(self) -> None:
            super().__init__()
            self.delayed = asyncio.Event()

        def requestheaders(self, flow: HTTPFlow) -> None:
            flow.pacing = Pacing(**{phase: SECONDS * 2})
            if phase == "request":
                self.delayed.set()

        def responseheaders(self, flow: HTTPFlow) -> None:
            self.delayed.set()

    delaying = Delaying()
    proxy = await make_proxy(delaying)
    async with run_origin(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") as origin:
        _, writer = await proxy.connect()
        writer.write(get(origin.port))
        async with asyncio.timeout(SECONDS):
            await delaying.delayed.wait()
        reset(writer)
        assert "client left" in await delaying.wait()
        assert len(origin.requests) == (0 if phase == "request" else 1)


async def test_a_client_that_closed_is_found_out(make_proxy: MakeProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed socket and a half-closed one send the same FIN; only a probe tells them apart."""
    monkeypatch.setattr(tcp, "PROBE_SECONDS", 1)
    failures = Failures()
    proxy = await make_proxy(failures)
    async with silent_origin() as (origin, silent):
        _, writer = await proxy.connect()
        # The kernel keeps half-closed remains for a minute by default, and they answer nothing.
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_LINGER2, 1)
        writer.write(get(origin.port))
        await silent.wait(silent.asked)
        writer.close()
        assert "client left" in await failures.wait()
        await silent.wait(silent.gone)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_half_closed_client_gets_its_answer(make_proxy: MakeProxy, origin_ca: OriginCA, scheme: str,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "PROBE_SECONDS", 1)
    asked = asyncio.Event()

    async def slow(connection: OriginConnection) -> None:
        await connection.read_request()
        asked.set()
        await asyncio.sleep(1.5)  # longer than it takes to probe
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    proxy = await make_proxy(Failures())
    context = origin_ca.server_context("localhost") if scheme == "https" else None
    async with run_origin(slow, tls=context) as origin, asyncio.timeout(SECONDS * 2):
        if scheme == "http":
            assert (await proxy.talk(get(origin.port))).endswith(b"ok")
            return
        answer = await half_closing_tls_client(proxy, origin.port)
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert answer.endswith(b"ok")


async def half_closing_tls_client(proxy: RunningProxy, port: int) -> bytes:
    """A TLS 1.3 client that says close_notify and FIN after its request, and reads on."""
    reader, writer = await proxy.connect()
    writer.write(f"CONNECT localhost:{port} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context(cafile=str(proxy.ca)).wrap_bio(incoming, outgoing, server_hostname="localhost")
    answer = b""
    step: Callable[[], object] = tls.do_handshake
    while True:
        try:
            step()
        except ssl.SSLWantReadError:
            writer.write(outgoing.read())
            incoming.write(await reader.read(65536))
            continue
        break
    tls.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    try:
        tls.unwrap()
    except ssl.SSLWantReadError:
        pass
    writer.write(outgoing.read())
    writer.write_eof()
    while data := await reader.read(65536):
        incoming.write(data)
        try:
            answer += tls.read()
        except ssl.SSLWantReadError:
            continue  # session tickets
    writer.close()
    return answer
