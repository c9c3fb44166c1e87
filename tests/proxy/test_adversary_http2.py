"""Attacks on HTTP/2 connections: buffers without end, streams that die at a bad moment, answers for somebody else."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hpack import Encoder

from rulesproxy.model.connection import Client
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.http import Response
from rulesproxy.model.policy import TlsDecision, TlsVerdict
from rulesproxy.net.memory import memory_pair
from rulesproxy.net.stream import ConnectionClosed
from rulesproxy.proxy.scope import Scope
from rulesproxy.proxy.session import Session
from tests.support.certificates import OriginCA
from tests.support.http2 import Http2Peer, Message, answering, http2_client, run_http2_origin
from tests.support.leaks import until
from tests.support.origin import OriginConnection, run_origin
from tests.support.proxy import RunningProxy

MakeProxy = Callable[..., Awaitable[RunningProxy]]
SECONDS = 10.0
MOST = 1000
FIRST = 3
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Intercept:
    """Decrypts everything, and answers what is not for /origin: with a long head and no body for /long."""

    answers = 0

    def tls_decision(self, tunnel: Any) -> TlsDecision:
        return TlsDecision(TlsVerdict.INTERCEPT)

    def requestheaders(self, flow: HTTPFlow) -> None:
        if flow.request.path == "/long":
            self.answers += 1
            flow.response = Response.make(204, "", {"x-long": "y" * 2000})
        elif not flow.request.path.startswith("/origin"):
            flow.response = Response.make(200, "here")


def frame(kind: int, flags: int = 0, stream: int = 0, body: bytes = b"") -> bytes:
    return struct.pack(">HBBBL", len(body) >> 8, len(body) & 0xFF, kind, flags, stream) + body


def block(path: str = "/", method: str = "GET", *more: tuple[str, str]) -> bytes:
    return Encoder().encode([(":method", method), (":scheme", "https"), (":authority", "localhost"), (":path", path),
                             *more], huffman=False)


def request(stream: int, path: str = "/", *, end: bool = True) -> bytes:
    return frame(1, 4 | end, stream, block(path))


def numbers() -> Iterator[int]:
    return iter(range(FIRST, 2 * MOST + FIRST, 2))


def each(flood: Callable[[int], bytes]) -> Callable[[], bytes]:
    return lambda: b"".join(map(flood, numbers()))


# --- floods that make the proxy talk -----------------------------------------------------------------------------

RESET = frame(3, 0, FIRST, b"\0\0\0\x08")

FLOODS: dict[str, Callable[[], bytes]] = {
    "data after the end": each(lambda stream: request(stream) + frame(0, 0, stream, b"x")),
    "data after one end": lambda: request(FIRST) + frame(0, 0, FIRST, b"x") * MOST,
    "data after a reset": lambda: request(FIRST, end=False) + RESET + frame(0, 0, FIRST, b"x") * MOST,
    "heads after the end": each(lambda stream: request(stream) * 2),
    "windows after a reset": lambda: request(FIRST, end=False) + RESET + frame(8, 0, FIRST, b"\0\0\0\x01") * MOST,
    "resets after a reset": lambda: request(FIRST, end=False) + RESET * MOST,
    "goaway": lambda: frame(7, 0, 0, bytes(8)) * MOST,
    "alternative services": lambda: frame(10, 0, 0, b"\0\x01aclear") * MOST,
    "acknowledged settings": lambda: frame(4, 1) * MOST,
    "pongs": lambda: frame(6, 1, 0, b"12345678") * MOST,
    "windows of nothing": each(lambda stream: request(stream) + frame(8, 0, stream, bytes(4))),
    "streams that depend on themselves": each(
        lambda stream: request(stream) + frame(2, 0, stream, struct.pack(">LB", stream, 1))),
    "more than was announced": each(
        lambda stream: frame(1, 4, stream, block("/", "POST", ("content-length", "1"))) + frame(0, 1, stream, b"xx")),
    "trailers with a path": each(
        lambda stream: request(stream, end=False) + frame(1, 5, stream, Encoder().encode([(":path", "/")]))),
    "early ends": each(lambda stream: frame(1, 5, stream, block("/", "POST", ("content-length", "9")))),
}


@pytest.mark.parametrize("flood", list(FLOODS))
async def test_a_flood_ends_within_a_thousand(make_proxy: MakeProxy, flood: str) -> None:
    proxy = await make_proxy(Intercept())
    async with http2_client(proxy, 443) as client, http2_client(proxy, 443) as bystander:
        assert (await client.get()).body == b"here"
        client.raw(FLOODS[flood]())
        await client.wait(lambda: client.goaway is not None)
        assert client.goaway is not None
        assert client.goaway.error_code in (ErrorCodes.ENHANCE_YOUR_CALM, ErrorCodes.PROTOCOL_ERROR,
                                            ErrorCodes.STREAM_CLOSED)
        async with asyncio.timeout(0.5):
            assert (await bystander.get()).body == b"here"


async def test_late_data_of_an_honest_upload_is_no_abuse(make_proxy: MakeProxy) -> None:
    """The answer came early; what was on its way then is forgotten, and the connection goes on."""
    proxy = await make_proxy(Intercept())
    async with http2_client(proxy, 443) as client:
        for _ in range(20):
            stream = client.send_request(method="POST", end=False)
            client.raw(frame(0, 0, stream, bytes(1024)) * 64)
        assert (await client.get()).body == b"here"
        assert client.goaway is None


# --- who does not read -------------------------------------------------------------------------------------------


async def test_who_does_not_read_is_not_answered_without_end(make_proxy: MakeProxy) -> None:
    """Answers without a body need no window; there are only so many of them under way all the same."""
    intercept = Intercept()
    proxy = await make_proxy(intercept, record=False)
    ours, theirs = memory_pair()
    session = asyncio.create_task(Session(proxy.core, theirs, Client()).run(
        lambda session, stream: session.serve(stream, Scope())))
    async with asyncio.timeout(SECONDS):
        try:
            await ours.write(PREFACE + frame(4, 0, 0, struct.pack(">HL", 1, 0)))
            for stream in numbers():  # a few at a time, so that there are never too many streams
                await ours.write(request(stream, "/long"))
                if stream % 20 == 1:
                    await asyncio.sleep(0.01)
        except ConnectionClosed:
            pass  # which is what should happen
        ours.abort()
        await session
    assert intercept.answers < MOST / 2


async def test_a_window_of_nothing_holds_up_the_origins(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    """Ninety answers without end, of which the client takes nothing: what is held is bounded for each."""
    sent = [0]

    async def push(connection: OriginConnection) -> None:
        await connection.read_request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
        while True:
            await connection.send(bytes(65536))
            sent[0] += 65536

    proxy = await make_proxy(Intercept(), record=False)
    async with run_origin(push) as origin, http2_client(proxy, origin.port, tls=False,
                                                        settings={SettingCodes.INITIAL_WINDOW_SIZE: 0}) as client:
        before = resident()
        for _ in range(90):
            client.send_request("/origin", scheme="http")
        await origin.wait_for_connections(90)
        level = -1
        while level != sent[0]:
            level = sent[0]
            await asyncio.sleep(0.3)
        assert resident() - before < 90 * 2**20
        assert all(not client.streams[stream].body for stream in client.streams)


def resident() -> int:
    """Bytes of memory of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


# --- servers that do half of it ----------------------------------------------------------------------------------


async def test_who_leaves_while_the_server_is_silent_leaves_nothing_behind(make_proxy: MakeProxy,
                                                                          origin_ca: OriginCA) -> None:
    """The server agrees on HTTP/2 and says nothing; whoever dialled it goes away meanwhile."""
    agreed = asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        agreed.set()
        await reader.read()
        writer.close()

    proxy = await make_proxy(Intercept())
    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=origin_ca.server_context("localhost", alpn=("h2",)))
    async with server:
        async with http2_client(proxy, server.sockets[0].getsockname()[1]) as client:
            stream = client.send_request("/origin")
            async with asyncio.timeout(SECONDS):
                await agreed.wait()
            assert await until(lambda: bool(proxy.recorder.arguments("tls_established_server")))
            client.reset(stream)
            assert await until(lambda: bool(proxy.recorder.arguments("server_disconnected")))
        async with asyncio.timeout(SECONDS):
            await proxy.proxy.stop(1)


async def test_a_server_that_allows_no_streams_is_not_collected(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    proxy = await make_proxy(Intercept())
    async with (run_http2_origin(tls=origin_ca.server_context("localhost", alpn=("h2",)),
                                 settings={SettingCodes.MAX_CONCURRENT_STREAMS: 0}) as origin,
                http2_client(proxy, origin.port) as client):
        for _ in range(5):
            assert (await client.get("/origin")).status == "502"
        assert await until(lambda: all(connection.closed for connection in origin.connections))


@pytest.mark.parametrize("pushed", [
    frame(5, 4, 1, b"\0\0\0\x02" + block()),  # PUSH_PROMISE, which was declined
    frame(1, 5, 2, block()), frame(1, 5, 99, b"\x88"), frame(0, 0, 99, b"poison"), frame(0, 0, 2, b"poison"),
], ids=["push", "a request", "an answer to nothing", "data for nothing", "data of its own"])
async def test_what_nobody_asked_for_reaches_nobody(make_proxy: MakeProxy, origin_ca: OriginCA, pushed: bytes) -> None:
    async def script(peer: Http2Peer) -> None:
        await peer.wait(lambda: 1 in peer.streams)
        if len(origin.connections) == 1:
            peer.raw(pushed)
            await peer.wait(lambda: peer.closed)
        await answering(lambda peer, stream, _: peer.respond(stream, body=b"good"))(peer)

    proxy = await make_proxy(Intercept())
    async with (run_http2_origin(script, tls=origin_ca.server_context("localhost", alpn=("h2",))) as origin,
                http2_client(proxy, origin.port) as client):
        first = await client.get("/origin", method="POST")
        assert first.status == "502" and b"poison" not in first.body
        assert (await client.get("/origin")).body == b"good"


# --- connections that act for one user ---------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["NTLM", "Negotiate", "ntlm"])
async def test_an_authenticated_connection_is_not_shared(make_proxy: MakeProxy, origin_ca: OriginCA,
                                                         scheme: str) -> None:
    def whoever(peer: Http2Peer, stream: int, request: Message) -> None:
        """A server that takes the word of a connection, as it does over HTTP/1."""
        users = [message.head["authorization"] for message in peer.streams.values() if "authorization" in message.head]
        peer.respond(stream, body=(users or ["nobody"])[0].encode())

    proxy = await make_proxy(Intercept(), record=False)
    async with (run_http2_origin(answering(whoever), tls=origin_ca.server_context("localhost", alpn=("h2",))) as origin,
                http2_client(proxy, origin.port) as client, http2_client(proxy, origin.port) as other):
        assert (await client.get("/origin")).body == b"nobody"
        alice = f"{scheme} alice"
        assert (await client.get("/origin", fields=[("authorization", alice)])).body == alice.encode()
        assert (await client.get("/origin")).body == alice.encode()
        for peer, expected in ((other, b"nobody"), (client, alice.encode()), (other, b"nobody")):
            assert (await peer.get("/origin")).body == expected
        assert len(origin.connections) == 2


# --- answers for somebody else -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("version", ["h2", "http/1.1"])
async def test_every_answer_is_its_requests(make_proxy: MakeProxy, origin_ca: OriginCA, version: str) -> None:
    """Clients that reset streams and leave, a server that does too; answer k belongs to request k all the same."""
    dice = random.Random(1)
    checked = 0

    async def answer(peer: Http2Peer, stream: int, request: Message) -> None:
        path = request.head[":path"].encode()
        await asyncio.sleep(dice.choice((0, 0, 0.001)))
        if dice.random() < 0.03:
            peer.reset(stream, dice.choice((ErrorCodes.INTERNAL_ERROR, ErrorCodes.REFUSED_STREAM)))
            return
        if dice.random() < 0.002:
            peer.h2.close_connection(last_stream_id=stream)
        peer.respond(stream, body=path, end=False)
        await peer.send_body(stream, path * 3)

    async def naive(connection: OriginConnection) -> None:
        while True:
            path = (await connection.read_request()).target
            if dice.random() < 0.02:
                connection.reset()
                return
            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (4 * len(path))
            await connection.send(head + path)
            await connection.send(path * 3)

    async def one(client: Http2Peer, path: str) -> None:
        nonlocal checked
        stream = client.send_request(path, method=dice.choice(("GET", "GET", "POST")))
        if dice.random() < 0.1:
            await asyncio.sleep(dice.choice((0, 0.001, 0.005)))
            if not client.streams[stream].over:
                client.reset(stream)
                return
        got = await client.over(stream)
        if got.status == "200" and got.ended:
            assert got.body == path.encode() * 4
            checked += 1
        else:
            assert got.status in ("", "502") or got.reset is not None

    async def run(port: int, number: int) -> None:
        for turn in range(8):
            async with http2_client(proxy, port) as client:
                for burst in range(4):
                    await asyncio.gather(*(one(client, f"/origin/{number}-{turn}-{burst}-{each}/" + "x" * (each * 40))
                                           for each in range(10)))
                if dice.random() < 0.3:
                    for _ in range(5):
                        client.send_request("/origin/left")

    proxy = await make_proxy(Intercept(), record=False)
    context = origin_ca.server_context("localhost", alpn=(version,))
    serve = run_http2_origin(answering(answer), tls=context) if version == "h2" else run_origin(naive, tls=context)
    async with serve as origin, asyncio.timeout(120):
        await asyncio.gather(*(run(origin.port, number) for number in range(32)))
    assert checked > 7000
