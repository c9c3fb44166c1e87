"""Tunnels through the proxy for clients that know nothing of proxies, as `nc -X connect` and the like would make."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from tests.support.proxy import RunningProxy

SECONDS = 10.0

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connect(proxy: RunningProxy, host: str, port: int, more: bytes = b"") -> Pair:
    """A CONNECT that was granted. `more` goes out in the same segment, as the first bytes in the tunnel."""
    reader, writer = await proxy.connect()
    async with asyncio.timeout(SECONDS):
        writer.write(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode() + more)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    return reader, writer


async def connect_socks(proxy: RunningProxy, host: str, port: int) -> Pair:
    """The same through a `socks5` listener, by name or IPv4 address, without a password."""
    reader, writer = await proxy.connect()
    async with asyncio.timeout(SECONDS):
        name = host.encode()
        writer.write(b"\x05\x01\x00")
        assert await reader.readexactly(2) == b"\x05\x00"
        writer.write(b"\x05\x01\x00\x03" + bytes([len(name)]) + name + port.to_bytes(2, "big"))
        assert (await reader.readexactly(10))[:2] == b"\x05\x00"
    return reader, writer


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    try:
        async with asyncio.timeout(SECONDS):
            await writer.wait_closed()
    except OSError:
        pass  # it was reset, which some tests want


def reset(writer: asyncio.StreamWriter) -> None:
    """RST instead of FIN."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@asynccontextmanager
async def tunnel(proxy: RunningProxy, port: int, more: bytes = b"", host: str = "127.0.0.1") -> AsyncIterator[Pair]:
    """An open CONNECT tunnel; what happens in it takes no more than `SECONDS`."""
    reader, writer = await connect(proxy, host, port, more)
    try:
        async with asyncio.timeout(SECONDS):
            yield reader, writer
    finally:
        await close(writer)


@asynccontextmanager
async def carrier(proxy: RunningProxy, port: int, host: str = "127.0.0.1", *,
                  through: Callable[[RunningProxy, str, int], Awaitable[Pair]] = connect) -> AsyncIterator[int]:
    """A local port whose connections lead through tunnels (CONNECT, or `connect_socks`) to `host:port`."""
    tasks: set[asyncio.Task[None]] = set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        inner_reader, inner_writer = await through(proxy, host, port)
        try:
            await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))
        except OSError:
            pass  # one side reset the connection
        finally:
            await close(inner_writer)
            await close(writer)
            tasks.discard(task)

    server = await asyncio.start_server(carry, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=SECONDS)
        await server.wait_closed()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
