"""Floods over HTTP/2: each ends its connection with ENHANCE_YOUR_CALM, and nobody else notices."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from h2.errors import ErrorCodes
from hpack import Encoder

from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.http import Response
from rulesproxy.model.policy import TlsDecision, TlsVerdict
from tests.support.certificates import OriginCA
from tests.support.http2 import Http2Peer, Message, answering, http2_client, run_http2_origin
from tests.support.leaks import until
from tests.support.proxy import RunningProxy

MakeProxy = Callable[..., Awaitable[RunningProxy]]
MOST = 1000
FIRST = 3
SECONDS = 10.0


class Answering:
    """Answers everything itself."""

    def tls_decision(self, tunnel: Any) -> TlsDecision:
        return TlsDecision(TlsVerdict.INTERCEPT)

    def requestheaders(self, flow: HTTPFlow) -> None:
        if flow.request.path != "/origin":
            flow.response = Response.make(200, "here")


def frame(kind: int, flags: int = 0, stream: int = 0, body: bytes = b"") -> bytes:
    return struct.pack(">HBBBL", len(body) >> 8, len(body) & 0xFF, kind, flags, stream) + body


def request(stream: int, *, end: bool = True, path: str = "/") -> bytes:
    block = Encoder().encode([(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", path)],
                             huffman=False)
    return frame(1, 4 | end, stream, block)


def streams() -> Iterator[int]:
    return iter(range(FIRST, 2 * MOST + FIRST, 2))


FLOODS: dict[str, Callable[[], bytes]] = {
    "ping": lambda: frame(6, 0, 0, b"12345678") * MOST,
    "settings": lambda: frame(4) * MOST,
    "settings that change": lambda: b"".join(frame(4, 0, 0, struct.pack(">HL", 4, 60000 + number))
                                             for number in range(MOST)),
    "priority": lambda: frame(2, 0, FIRST, b"\0\0\0\0\x10") * MOST,
    "unknown": lambda: frame(0xBE, 0, 0, b"x") * MOST,
    "window": lambda: frame(8, 0, 0, b"\0\0\0\x01") * MOST,
    "empty data": lambda: request(FIRST, end=False) + frame(0, 0, FIRST) * MOST,
    "padding only": lambda: request(FIRST, end=False) + frame(0, 8, FIRST, b"\x05" + bytes(5)) * MOST,
    "rapid reset": lambda: b"".join(request(stream) + frame(3, 0, stream, b"\0\0\0\x08") for stream in streams()),
    "malformed": lambda: b"".join(request(stream, path="no") for stream in streams()),
    "window of a stream overflows": lambda: b"".join(
        request(stream, end=False) + frame(8, 0, stream, b"\x7f\xff\xff\xff") for stream in streams()),
}


@pytest.mark.parametrize("flood", list(FLOODS))
async def test_a_flood_ends_its_connection(make_proxy: MakeProxy, flood: str) -> None:
    proxy = await make_proxy(Answering())
    async with http2_client(proxy, 443) as client, http2_client(proxy, 443) as bystander:
        assert (await client.get()).body == b"here"
        began = time.process_time()
        client.raw(FLOODS[flood]())
        await client.wait(lambda: client.goaway is not None)
        assert client.goaway is not None and client.goaway.error_code == ErrorCodes.ENHANCE_YOUR_CALM
        assert time.process_time() - began < 3.0
        async with asyncio.timeout(0.5):
            assert (await bystander.get()).body == b"here"


async def test_continuation_without_end_is_ended(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(Answering())
    async with http2_client(proxy, 443) as client:
        client.raw(frame(1, 1, 1, b"") + frame(9, 0, 1, b"") * MOST)
        await client.wait(lambda: client.goaway is not None)


async def test_a_header_block_of_bombs_is_ended(make_proxy: MakeProxy) -> None:
    """One large field in the table, and then thousands of references of a byte each."""
    proxy = await make_proxy(Answering())
    encoder = Encoder()
    block = encoder.encode([(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/"),
                            ("x", "y" * 4000)], huffman=False)
    async with http2_client(proxy, 443) as client:
        client.raw(frame(1, 5, 1, block + b"\xbe" * 12000))
        await client.wait(lambda: client.goaway is not None)
        assert client.goaway is not None and client.goaway.error_code == ErrorCodes.ENHANCE_YOUR_CALM


async def test_a_header_block_that_does_not_go_on_is_given_up(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(Answering(), head_timeout=0.2)
    async with http2_client(proxy, 443) as client:
        client.raw(frame(1, 1, 1, b"\x82"))
        await client.wait(lambda: client.goaway is not None)


async def test_a_client_that_does_not_take_its_answer_is_given_up(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    async def answer(peer: Http2Peer, stream: int, request: Message) -> None:
        peer.respond(stream, end=False)
        await peer.send_body(stream, b"x" * 1_000_000)

    proxy = await make_proxy(Answering(), body_timeout=0.3)
    context = origin_ca.server_context("localhost", alpn=("h2",))
    async with run_http2_origin(answering(answer), tls=context) as origin, http2_client(proxy, origin.port) as client:
        client.h2.increment_flow_control_window(1_000_000)
        client.holds = True
        stalled = client.send_request("/origin")
        assert (await client.over(stalled)).reset == ErrorCodes.CANCEL
        client.holds = False
        assert (await client.get("/here")).body == b"here"
    (flow,) = proxy.recorder.arguments("error")
    assert "stopped reading" in flow.error.msg


async def test_many_honest_requests_are_no_abuse(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(Answering())
    async with http2_client(proxy, 443) as client:
        for _ in range(20):
            numbers = [client.send_request() for _ in range(50)]
            client.h2.ping(b"12345678")
            for stream in numbers:
                assert (await client.over(stream)).body == b"here"
        assert client.goaway is None


@pytest.mark.parametrize("flood", ["ping", "settings", "unknown", "window"])
async def test_an_origin_that_floods_is_left(make_proxy: MakeProxy, origin_ca: OriginCA, flood: str) -> None:
    async def script(peer: Http2Peer) -> None:
        await peer.wait(lambda: 1 in peer.streams)
        peer.raw(FLOODS[flood]())
        await peer.wait(lambda: peer.goaway is not None)

    proxy = await make_proxy(Answering())
    context = origin_ca.server_context("localhost", alpn=("h2",))
    async with run_http2_origin(script, tls=context) as origin, http2_client(proxy, origin.port) as client:
        answer = await client.get("/origin", method="POST")
        assert answer.status == "502"
        assert await until(lambda: origin.connections[0].goaway is not None)
        assert origin.connections[0].goaway.error_code == ErrorCodes.ENHANCE_YOUR_CALM  # type: ignore[union-attr]


async def test_interim_answers_without_end_are_refused(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    async def script(peer: Http2Peer) -> None:
        await peer.wait(lambda: 1 in peer.streams)
        block = Encoder().encode([(":status", "103")])
        peer.raw(frame(1, 4, 1, block) * 5000)
        await peer.wait(lambda: peer.closed)

    proxy = await make_proxy(Answering())
    context = origin_ca.server_context("localhost", alpn=("h2",))
    async with run_http2_origin(script, tls=context) as origin, http2_client(proxy, origin.port) as client:
        assert (await client.get("/origin")).status == "502"
