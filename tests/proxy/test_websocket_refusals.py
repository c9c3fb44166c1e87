"""WebSocket peers that break the protocol or a limit, and handshakes that do not fit."""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.websocket import WebSocketData
from tests.support.leaks import until
from tests.support.origin import OriginConnection, run_origin
from tests.support.proxy import RunningProxy
from tests.support.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    SECONDS,
    TEXT,
    RawEnd,
    close_frame,
    frame,
    handshake_answer,
    handshake_request,
    raw_client,
    raw_server,
    run_echo,
    ws_connect,
)

MakeProxy = Callable[..., Awaitable[RunningProxy]]
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate\r\n"


class Watcher:
    def __init__(self) -> None:
        self.flows: list[HTTPFlow] = []

    def websocket_end(self, flow: HTTPFlow) -> None:
        self.flows.append(flow)

    async def end(self) -> WebSocketData:
        assert await until(lambda: bool(self.flows), SECONDS)
        data = self.flows[0].websocket
        assert data is not None
        return data


def deflated(data: bytes) -> bytes:
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


WRONG = {
    "reserved bits": (1002, {"opcode": TEXT, "payload": b"x", "rsv": 3}),
    "a reserved opcode": (1002, {"opcode": 5, "payload": b"x"}),
    "a fragmented ping": (1002, {"opcode": PING, "payload": b"x", "fin": False}),
    "a long ping": (1002, {"opcode": PING, "payload": b"x" * 126}),
    "a continuation of nothing": (1002, {"opcode": CONTINUATION, "payload": b"x"}),
    "not UTF-8": (1007, {"opcode": TEXT, "payload": b"\xff"}),
    "a close code that is none": (1002, {"opcode": CLOSE, "payload": struct.pack("!H", 1005)}),
    "a close reason that is not UTF-8": (1007, {"opcode": CLOSE, "payload": b"\x03\xe8\xff"}),
    "too large": (1009, {"opcode": BINARY, "payload": bytes(70_000)}),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("by_client", [True, False], ids=["by the client", "by the server"])
async def test_mistakes_close_both_sides_with_the_code(make_proxy: MakeProxy, name: str, by_client: bool) -> None:
    code, wrong = WRONG[name]
    watcher = Watcher()
    proxy = await make_proxy(watcher, websocket_message_limit=65536)
    codes: list[int] = []

    async def script(end: RawEnd, connection: OriginConnection) -> None:
        assert await end.receive() == (TEXT, b"go")
        if not by_client:
            await end.send_frame(**wrong)
            await end.send_frame(TEXT, b"more that nobody wants")
        codes.append((await end.receive_close())[0])
        await end.send_close(codes[0])
        await connection.read_to_end()

    async with run_origin(raw_server(script)) as origin, raw_client(proxy, origin.port) as client:
        await client.send_frame(TEXT, b"go")
        if by_client:
            await client.send_frame(**wrong)
            await client.send_frame(TEXT, b"more that nobody wants")
        assert (await client.receive_close())[0] == code
        await client.send_close(code)
        assert await client.at_end()
        data = await watcher.end()
    assert codes == [code]
    assert (data.close_code, data.closed_by_client) == (code, None)
    assert [message.content for message in data.messages] == [b"go"]


async def test_a_client_that_does_not_mask(make_proxy: MakeProxy) -> None:
    watcher = Watcher()
    proxy = await make_proxy(watcher)
    async with run_echo() as port, raw_client(proxy, port) as client:
        await client.send(frame(TEXT, b"x", mask=False))
        assert (await client.receive_close())[0] == 1002
        assert (await watcher.end()).messages == []


async def test_a_server_that_masks(make_proxy: MakeProxy) -> None:
    watcher = Watcher()
    proxy = await make_proxy(watcher)

    async def script(end: RawEnd, connection: OriginConnection) -> None:
        await end.send(frame(TEXT, b"x", mask=True))
        assert (await end.receive_close())[0] == 1002

    async with run_origin(raw_server(script)) as origin, raw_client(proxy, origin.port) as client:
        assert (await client.receive_close())[0] == 1002
        assert (await watcher.end()).messages == []


async def test_a_message_of_exactly_the_limit_passes(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(Watcher(), websocket_message_limit=100_000)
    async with run_echo() as port, ws_connect(proxy, port) as client:
        await client.send(bytes(100_000))
        assert await client.recv() == bytes(100_000)
        await client.send(bytes(100_001))
        await client.wait_closed()
        assert client.close_code == 1009


async def test_a_bomb_never_goes_off(make_proxy: MakeProxy) -> None:
    watcher = Watcher()
    proxy = await make_proxy(watcher, websocket_message_limit=1 << 20)
    async with run_origin(raw_server(read_all, DEFLATE)) as origin, raw_client(proxy, origin.port, DEFLATE) as client:
        await client.send_frame(TEXT, deflated(bytes(100 << 20)), rsv=4)
        assert (await client.receive_close())[0] == 1009
        assert (await watcher.end()).messages == []


async def read_all(end: RawEnd, connection: OriginConnection) -> None:
    await connection.read_to_end()


async def test_a_peer_that_talks_on_after_its_mistake_is_left_in_time(make_proxy: MakeProxy,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rulesproxy.proxy.websocket.relay.GOODBYE_SECONDS", 0.2)
    watcher = Watcher()
    proxy = await make_proxy(watcher)
    async with run_origin(raw_server(read_all)) as origin, raw_client(proxy, origin.port) as client:
        await client.send(frame(3))
        with suppress(ConnectionError):
            async with asyncio.timeout(SECONDS):
                while True:
                    await client.send(frame(BINARY, bytes(10_000)))
                    await asyncio.sleep(0)
        assert (await watcher.end()).close_code == 1002


async def test_what_follows_a_close_is_nothing(make_proxy: MakeProxy) -> None:
    watcher = Watcher()
    proxy = await make_proxy(watcher)
    async with run_echo() as port, raw_client(proxy, port) as client:
        await client.send(close_frame(1000) + frame(TEXT, b"late") + frame(3))
        assert await client.receive_close() == (1000, "")
        assert await client.at_end()
        data = await watcher.end()
    assert (data.close_code, data.messages) == (1000, [])


# --- handshakes ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("watched", [True, False])
@pytest.mark.parametrize(("fields", "accept"), [
    ("", "AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
    ("", ""),
    ("Sec-WebSocket-Protocol: chat\r\n", None),
    ("Sec-WebSocket-Extensions: permessage-deflate\r\n", None),
], ids=["accept", "no accept", "subprotocol", "extension"])
async def test_an_answer_that_does_not_fit_is_a_502(make_proxy: MakeProxy, fields: str, accept: str | None,
                                                    watched: bool) -> None:
    proxy = await make_proxy(record=watched)
    async with run_origin(handshake_answer(fields=fields, accept=accept)) as origin:
        answer = await proxy.talk(handshake_request(origin.port))
        assert answer.startswith(b"HTTP/1.1 502 ")
    if watched:
        assert proxy.recorder.of("error", "websocket_start") == ["error"]


async def test_a_request_without_a_key_is_no_handshake(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()
    async with run_origin(handshake_answer()) as origin:
        request = handshake_request(origin.port).replace(b"Sec-WebSocket-Key", b"X-Key")
        assert (await proxy.talk(request)).startswith(b"HTTP/1.1 502 ")


OFFER = "Sec-WebSocket-Extensions: x-frob; a=1, permessage-deflate; client_max_window_bits\r\n"


async def test_extensions_we_cannot_read_are_not_offered_while_somebody_looks(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(Watcher())
    async with run_echo() as port, raw_client(proxy, port, OFFER) as client:
        assert b"permessage-deflate" in client.head.lower()
        await client.send_frame(TEXT, deflated(b"hello"), rsv=4)
        opcode, payload, first = await client.receive_frame()
        assert (opcode, first & 0x40) == (TEXT, 0x40)
        assert zlib.decompressobj(-15).decompress(payload + b"\x00\x00\xff\xff") == b"hello"
    flow = proxy.recorder.arguments("websocket_start")[0]
    assert flow.request.headers["sec-websocket-extensions"] == "permessage-deflate; client_max_window_bits"


async def test_when_nobody_looks_every_extension_passes(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(record=False)

    async def script(end: RawEnd, connection: OriginConnection) -> None:
        data = await connection.read_exactly(10)
        await connection.send(data[::-1])

    async with (run_origin(raw_server(script, "Sec-WebSocket-Extensions: x-frob\r\n")) as origin,
                raw_client(proxy, origin.port, OFFER) as client):
        assert origin.requests[0].values(b"sec-websocket-extensions") == [OFFER.partition(": ")[2].strip().encode()]
        await client.send(b"0123456789")
        async with asyncio.timeout(SECONDS):
            assert await client.reader.read() == b"9876543210"


async def test_a_refused_handshake_is_an_ordinary_answer(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()
    async with run_origin(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno") as origin:
        answer = await proxy.talk(handshake_request(origin.port))
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert answer.endswith(b"no")
    assert proxy.recorder.of("response", "websocket_start") == ["response"]


async def test_subprotocols_are_agreed_on_end_to_end(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(Watcher())
    async with (run_echo(subprotocols=["b", "c"]) as port,  # type: ignore[list-item]
                ws_connect(proxy, port, subprotocols=["a", "b"]) as client):
        assert client.subprotocol == "b"
        await client.send("x")
        assert await client.recv() == "x"


# --- rules that come later ----------------------------------------------------------------------------------------

async def test_a_raw_connection_ends_when_somebody_looks(make_proxy: MakeProxy) -> None:
    """What `reconsider_tunnels` does after a reload: its messages could not be read from the middle."""
    proxy = await make_proxy(record=False)
    async with run_origin(raw_server(read_all)) as origin, raw_client(proxy, origin.port) as client:
        assert await until(lambda: len(proxy.core.conversations) == 1)
        assert proxy.core.reconsider_tunnels() == 0
        proxy.addons.add(Watcher())
        assert proxy.core.reconsider_tunnels() == 1
        assert await client.at_end()


async def test_a_connection_that_is_looked_at_stays(make_proxy: MakeProxy) -> None:
    watcher = Watcher()
    proxy = await make_proxy(watcher)
    async with run_echo() as port, ws_connect(proxy, port) as client:
        assert proxy.core.reconsider_tunnels() == 0
        await client.send("still here")
        assert await client.recv() == "still here"
    assert (await watcher.end()).close_code == 1000
