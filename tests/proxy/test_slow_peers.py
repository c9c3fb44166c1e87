"""Peers that send or read just enough not to be silent: ended in their time, nobody else is held up."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from rulesproxy.model.policy import TlsDecision, TlsVerdict
from rulesproxy.model.tls import Tunnel
from rulesproxy.proxy.http1 import client_side
from tests.support.origin import OriginConnection, run_origin
from tests.support.proxy import RunningProxy

MakeProxy = Callable[..., Awaitable[RunningProxy]]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SECONDS = 10.0
LIMIT = 0.5


class Intercept:
    def tls_decision(self, tunnel: Tunnel) -> TlsDecision:
        return TlsDecision(TlsVerdict.INTERCEPT)


def head(port: int, line: str = "GET / HTTP/1.1", fields: str = "") -> bytes:
    method, path, version = line.split()
    return f"{method} http://127.0.0.1:{port}{path} {version}\r\nHost: 127.0.0.1:{port}\r\n{fields}\r\n".encode()


@asynccontextmanager
async def bystander(proxy: RunningProxy, port: int) -> AsyncIterator[list[float]]:
    """Somebody who goes on using the proxy; yields the seconds each of his requests took."""
    took: list[float] = []

    async def go_on() -> None:
        loop = asyncio.get_running_loop()
        reader, writer = await proxy.connect()
        try:
            while True:
                begun = loop.time()
                writer.write(head(port))
                await reader.readuntil(b"ok")
                took.append(loop.time() - begun)
        finally:
            writer.close()

    task = asyncio.create_task(go_on())
    try:
        yield took
    finally:
        task.cancel()
        await asyncio.wait((task,))
    assert task.cancelled(), task.exception()
    assert took
    assert max(took) < 0.5


async def drip(writer: asyncio.StreamWriter, data: bytes, until: asyncio.Future[bytes]) -> None:
    """Send bytes one at a time, well within any limit on silence, until the other side ends the connection."""
    for number in range(len(data)):
        if until.done():
            return
        try:
            writer.write(data[number:number + 1])
        except OSError:
            return
        await asyncio.wait((until,), timeout=LIMIT / 10)


@pytest.mark.parametrize("attackers", [20])
async def test_slow_heads(make_proxy: MakeProxy, attackers: int) -> None:
    proxy = await make_proxy(head_timeout=LIMIT)

    async def attack() -> bytes:
        reader, writer = await proxy.connect()
        answer = asyncio.ensure_future(reader.read())
        await drip(writer, head(1, fields="X-Slow: " + "x" * 1000), answer)
        writer.close()
        return await answer

    async with run_origin(OK) as origin, bystander(proxy, origin.port), asyncio.timeout(SECONDS):
        for answer in await asyncio.gather(*(attack() for _ in range(attackers))):
            assert answer.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("attackers", [20])
async def test_slow_bodies(make_proxy: MakeProxy, attackers: int) -> None:
    """A body with a length must come on, not only not be silent."""
    proxy = await make_proxy(body_timeout=LIMIT)

    async def patient(connection: OriginConnection) -> None:
        request = await connection.read_head()
        if request.method == b"GET":
            await connection.send(OK)
        await connection.read_to_end()

    async def attack(port: int) -> bytes:
        reader, writer = await proxy.connect()
        answer = asyncio.ensure_future(reader.read())
        writer.write(head(port, "POST / HTTP/1.1", "Content-Length: 8192\r\n"))
        await drip(writer, b"x" * 1000, answer)
        writer.close()
        return await answer

    async with run_origin(patient) as origin, run_origin(OK) as other, bystander(proxy, other.port):
        async with asyncio.timeout(SECONDS):
            for answer in await asyncio.gather(*(attack(origin.port) for _ in range(attackers))):
                assert answer.startswith(b"HTTP/1.1 408 ")


async def test_a_body_that_comes_on_slowly_is_not_slow(make_proxy: MakeProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_side, "PROGRESS", 4)
    proxy = await make_proxy(body_timeout=LIMIT)

    async def pausing(connection: OriginConnection) -> None:
        await connection.read_request()
        await connection.send(OK)

    async with run_origin(pausing) as origin, asyncio.timeout(SECONDS):
        reader, writer = await proxy.connect()
        writer.write(head(origin.port, "POST / HTTP/1.1", "Content-Length: 30\r\n"))
        for _ in range(15):
            writer.write(b"xx")
            await asyncio.sleep(LIMIT / 5)
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")
        writer.close()
        assert origin.requests[0].body == b"x" * 30


async def test_a_stream_of_chunks_may_be_slow(make_proxy: MakeProxy) -> None:
    """Chunks are what clients send events in: only silence ends them."""
    proxy = await make_proxy(body_timeout=LIMIT)
    async with run_origin(OK) as origin, asyncio.timeout(SECONDS):
        reader, writer = await proxy.connect()
        writer.write(head(origin.port, "POST / HTTP/1.1", "Transfer-Encoding: chunked\r\n"))
        for _ in range(10):
            writer.write(b"1\r\nx\r\n")
            await asyncio.sleep(LIMIT / 5)
        writer.write(b"0\r\n\r\n")
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")
        writer.close()


async def test_slow_readers(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(body_timeout=LIMIT)
    ended = asyncio.Event()

    async def generous(connection: OriginConnection) -> None:
        await connection.read_request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        try:
            while True:
                await connection.send(b"x" * 65536)
        finally:
            ended.set()

    async with run_origin(generous) as origin, run_origin(OK) as other, bystander(proxy, other.port):
        reader, writer = await proxy.connect()
        writer.write(head(origin.port))
        async with asyncio.timeout(SECONDS):
            while not ended.is_set():
                await reader.read(1)
                await asyncio.sleep(LIMIT / 10)
        writer.transport.abort()
    assert proxy.recorder.names.count("error") == 1


async def test_an_origin_that_drips_its_head(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(body_timeout=LIMIT)

    async def dripping(connection: OriginConnection) -> None:
        await connection.read_request()
        for number in range(1000):
            await connection.send(b"HTTP/1.1 200 OK\r\nX: "[number:number + 1] or b"x")
            await asyncio.sleep(LIMIT / 10)

    async with run_origin(dripping) as origin, asyncio.timeout(SECONDS):
        assert (await proxy.talk(head(origin.port, fields="Connection: close\r\n"))).startswith(b"HTTP/1.1 504 ")


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x02\x00\x01\x00\x01", "hello"], ids=["in-it", "after-it"])
async def test_a_client_that_stalls_about_its_hello(make_proxy: MakeProxy, sent: bytes | str) -> None:
    proxy = await make_proxy(Intercept(), tls_timeout=LIMIT)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="a.test")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    async with run_origin(OK) as origin, bystander(proxy, origin.port), asyncio.timeout(SECONDS):
        reader, writer = await proxy.connect()
        writer.write(b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        writer.write(sent if isinstance(sent, bytes) else outgoing.read())
        await reader.read()  # it ends, whatever it says
        writer.close()
    failed = proxy.recorder.arguments("tls_failed_client")
    if sent == "hello":
        assert "timed out" in failed[0].conn.error
    else:
        assert not failed


async def test_a_tunnel_that_begins_something_and_stops(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(head_timeout=LIMIT, idle_timeout=LIMIT)
    async with asyncio.timeout(SECONDS):
        for begun in (b"", b"\x16", b"PRI * HT", b"FOO"):
            reader, writer = await proxy.connect()
            writer.write(b"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: a.test\r\n\r\n" + begun)
            await reader.readuntil(b"\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):
                await reader.read()
            writer.close()
