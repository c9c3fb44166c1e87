"""Pairs of joined streams, one for each kind of `Stream`: what the conformance kit runs on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

from rulesproxy.certs.authority import Authority
from rulesproxy.certs.contexts import ServerContexts, client_context
from rulesproxy.codecs.http2 import Machine
from rulesproxy.model.connection import Server
from rulesproxy.model.headers import Field
from rulesproxy.net.dial import dial
from rulesproxy.net.memory import memory_pair
from rulesproxy.net.peek import PeekableStream
from rulesproxy.net.stream import Stream
from rulesproxy.net.tcp import TCPStream, listen
from rulesproxy.net.tls import TLSStream
from rulesproxy.proxy.http2.connection import Http2Connection
from rulesproxy.proxy.http2.origin import OriginConnection
from rulesproxy.proxy.http2.stream import Http2Stream
from rulesproxy.proxy.http2.tunnel import Http2Tunnel
from rulesproxy.proxy.settings import Settings
from rulesproxy.proxy.upstream.target import Target
from rulesproxy.proxy.watchdog import Watchdog

Pair = tuple[Stream, Stream]


@asynccontextmanager
async def tcp() -> AsyncIterator[Pair]:
    """(client, server)"""
    accepted: asyncio.Future[TCPStream] = asyncio.get_running_loop().create_future()
    done = asyncio.Event()

    async def serve(stream: TCPStream) -> None:
        accepted.set_result(stream)
        await done.wait()

    listener = await listen("127.0.0.1", 0, serve)
    client = await dial([listener.address[0]], listener.address[1])
    try:
        yield client, await accepted
    finally:
        client.abort()
        await client.aclose()
        done.set()
        await listener.wait_closed(1)


@asynccontextmanager
async def memory() -> AsyncIterator[Pair]:
    yield memory_pair()


@asynccontextmanager
async def peekable_tcp() -> AsyncIterator[Pair]:
    async with tcp() as (client, server):
        yield PeekableStream(client), PeekableStream(server)


@lru_cache
def contexts() -> tuple[ServerContexts, Path]:
    """Contexts of an authority of the test run's own, and the file to trust it by."""
    folder = TemporaryDirectory()
    authority = Authority.load_or_create(Path(folder.name))
    _kept.append(folder)
    return ServerContexts(authority), authority.path


_kept: list[TemporaryDirectory[str]] = []


async def over_tls(client: Stream, server: Stream) -> Pair:
    server_contexts, authority = contexts()
    ends = await asyncio.gather(
        TLSStream.client(client, client_context(extra_ca=authority), "host.example"),
        TLSStream.server(server, server_contexts.for_host("host.example")))
    return ends[0], ends[1]


@asynccontextmanager
async def tls_over_tcp() -> AsyncIterator[Pair]:
    async with tcp() as pair:
        yield await over_tls(*pair)


@asynccontextmanager
async def tls_over_memory() -> AsyncIterator[Pair]:
    yield await over_tls(*memory_pair())


@asynccontextmanager
async def tls_in_tls() -> AsyncIterator[Pair]:
    async with tls_over_tcp() as (client, server):
        yield await over_tls(PeekableStream(client), PeekableStream(server))


class _Accepting(Http2Connection):
    """A server that agrees to the first CONNECT."""

    def __init__(self, stream: Stream, settings: Settings) -> None:
        machine = Machine(client_side=False, header_list=settings.head_limit)
        super().__init__(stream, machine, settings.limits, Watchdog())
        self.accepted: asyncio.Future[Http2Stream] = asyncio.get_running_loop().create_future()

    def patience(self) -> float:
        return 60.0

    def request(self, stream_id: int, block: list[Field], ended: bool) -> None:
        stream = self.streams[stream_id] = Http2Stream(self, stream_id)
        stream.send_block([(b":status", b"200")], end=False)
        self.accepted.set_result(stream)


@asynccontextmanager
async def http2_tunnel() -> AsyncIterator[Pair]:
    """(server, client): bytes in the DATA frames of a stream."""
    one, other = memory_pair()
    settings = Settings()
    client: asyncio.Future[OriginConnection] = asyncio.get_running_loop().create_future()
    server: asyncio.Future[_Accepting] = asyncio.get_running_loop().create_future()

    async def run_client() -> None:
        client.set_result(OriginConnection(one, settings, Server(), Target("host.example", 443)))
        await (await client).run()

    async def run_server() -> None:
        server.set_result(_Accepting(other, settings))
        await (await server).run()

    tasks = [asyncio.create_task(run_client()), asyncio.create_task(run_server())]
    try:
        asking = (await client).open([(b":method", b"CONNECT"), (b":authority", b"host.example:443")], end=False)
        yield Http2Tunnel(await (await server).accepted), Http2Tunnel(asking)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


KINDS: dict[str, Callable[[], AbstractAsyncContextManager[Pair]]] = {
    "tcp": tcp,
    "memory": memory,
    "peekable over tcp": peekable_tcp,
    "tls over tcp": tls_over_tcp,
    "tls over memory": tls_over_memory,
    "tls in tls": tls_in_tls,
    "http2 tunnel": http2_tunnel,
}
