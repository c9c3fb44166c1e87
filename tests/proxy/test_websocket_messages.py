"""Messages of WebSocket connections: seen, changed, dropped, injected; in order, both ways, compressed or not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.policy import TlsDecision, TlsVerdict
from rulesproxy.model.tls import Tunnel
from rulesproxy.model.websocket import WebSocketData, WebSocketMessage
from tests.support.certificates import OriginCA
from tests.support.leaks import until
from tests.support.origin import OriginConnection, run_origin
from tests.support.proxy import RunningProxy
from tests.support.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    SECONDS,
    TEXT,
    RawEnd,
    close_frame,
    frame,
    raw_client,
    raw_server,
    run_echo,
    ws_connect,
)

MakeProxy = Callable[..., Awaitable[RunningProxy]]


class Watcher:
    """Remembers what it sees, and does with each message what the test says."""

    def __init__(self, act: Callable[[HTTPFlow, WebSocketMessage], None] = lambda flow, message: None) -> None:
        self.act = act
        self.seen: list[tuple[bool, bytes]] = []
        self.injected: list[bytes] = []
        self.ended: list[HTTPFlow] = []

    def tls_decision(self, tunnel: Tunnel) -> TlsDecision:
        return TlsDecision(TlsVerdict.INTERCEPT)

    def websocket_message(self, flow: HTTPFlow) -> None:
        message = spoken(flow).messages[-1]
        self.seen.append((message.from_client, message.content))
        if message.injected:
            self.injected.append(message.content)
        self.act(flow, message)

    def websocket_end(self, flow: HTTPFlow) -> None:
        self.ended.append(flow)


def spoken(flow: HTTPFlow) -> WebSocketData:
    assert flow.websocket is not None
    return flow.websocket


async def ended(watcher: Watcher) -> WebSocketData:
    """What is known when the connection is over."""
    assert await until(lambda: bool(watcher.ended), SECONDS)
    return spoken(watcher.ended[0])


def names(proxy: RunningProxy) -> list[str]:
    return proxy.recorder.of("response", "websocket_start", "websocket_message", "websocket_end", "error")


# --- a library at both ends ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("compression", ["deflate", None])
@pytest.mark.parametrize("tls", [False, True], ids=["ws", "wss"])
async def test_messages_pass_and_are_seen(make_proxy: MakeProxy, origin_ca: OriginCA, tls: bool,
                                          compression: str | None) -> None:
    watcher = Watcher()
    proxy = await make_proxy(watcher)
    context = origin_ca.server_context("localhost") if tls else None
    messages: list[str | bytes] = ["hello", b"\x00\xff", "", b"", "größer", "x" * 70_000, b"y" * 200_000, "hello"]
    async with (run_echo(tls=context, compression=compression) as port,
                ws_connect(proxy, port, tls=tls, compression=compression) as client):
        assert bool(client.protocol.extensions) is (compression is not None)
        for message in messages:
            await client.send(message)
            assert await client.recv() == message
    data = await ended(watcher)
    raw = [message.encode() if isinstance(message, str) else message for message in messages]
    assert watcher.seen == [(from_client, message) for message in raw for from_client in (True, False)]
    assert (data.close_code, data.close_reason, data.closed_by_client) == (1000, "", True)
    assert data.timestamp_end is not None
    assert names(proxy) == ["response", "websocket_start", *["websocket_message"] * 16, "websocket_end"]


async def test_many_messages_both_ways_at_once_keep_their_order(make_proxy: MakeProxy) -> None:
    watcher = Watcher()
    proxy = await make_proxy(watcher)
    count = 500

    async def talk(connection: ServerConnection) -> None:
        async def send() -> None:
            for number in range(count):
                await connection.send(f"s{number}")

        async with asyncio.TaskGroup() as group:
            group.create_task(send())
            assert [await connection.recv() for _ in range(count)] == [f"c{number}" for number in range(count)]

    async with run_echo(talk) as port, ws_connect(proxy, port) as client:
        for number in range(count):
            await client.send(f"c{number}")
        assert [await client.recv() for _ in range(count)] == [f"s{number}" for number in range(count)]
        await client.wait_closed()
    assert [content for from_client, content in watcher.seen if from_client] == [b"c%d" % n for n in range(count)]
    data = await ended(watcher)
    assert data.closed_by_client is False
    assert len(data.messages) <= 200


@pytest.mark.parametrize("compression", ["deflate", None])
async def test_a_large_fragmented_message_arrives_whole(make_proxy: MakeProxy, compression: str | None) -> None:
    watcher = Watcher()
    proxy = await make_proxy(watcher)
    piece = "änderung " * 20_000
    async with run_echo(compression=compression) as port, ws_connect(proxy, port, compression=compression) as client:
        await client.send(piece for _ in range(10))
        assert await client.recv() == piece * 10
    assert watcher.seen == [(True, (piece * 10).encode()), (False, (piece * 10).encode())]


async def test_messages_are_changed_and_dropped(make_proxy: MakeProxy) -> None:
    def act(flow: HTTPFlow, message: WebSocketMessage) -> None:
        if message.from_client and message.text == "drop":
            message.drop()
        elif message.from_client:
            message.text = message.text.upper()
        else:
            message.content += b" (echo)"

    proxy = await make_proxy(Watcher(act))
    async with run_echo() as port, ws_connect(proxy, port) as client:
        for message in ("drop", "one", "drop", "zwölf"):
            await client.send(message)
        assert await client.recv() == "ONE (echo)"
        assert await client.recv() == "ZWÖLF (echo)"


async def test_what_a_handler_injects_follows_the_message_in_hand(make_proxy: MakeProxy) -> None:
    def act(flow: HTTPFlow, message: WebSocketMessage) -> None:
        if message.from_client and not message.injected:
            spoken(flow).inject(b"to the server", to_client=False)
            spoken(flow).inject(b"\x01\x02", to_client=True, is_text=False)

    watcher = Watcher(act)
    proxy = await make_proxy(watcher)
    got: list[str | bytes] = []

    async def listen(connection: ServerConnection) -> None:
        async for message in connection:
            got.append(message)

    async with run_echo(listen) as port, ws_connect(proxy, port) as client:
        await client.send("one")
        await client.send("two")
        assert await client.recv() == b"\x01\x02"
        assert await client.recv() == b"\x01\x02"
    assert got == ["one", "to the server", "two", "to the server"]
    assert watcher.injected == [b"to the server", b"\x01\x02"] * 2
    assert len(proxy.recorder.arguments("update")) == 4


async def test_thousands_of_tiny_messages_leave_others_their_turn(make_proxy: MakeProxy) -> None:
    turns = 0
    seen: list[int] = []

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    proxy = await make_proxy(Watcher(lambda flow, message: seen.append(turns)))
    async with run_echo() as port, raw_client(proxy, port) as client:
        other = asyncio.create_task(others())
        try:
            await client.send(frame(TEXT, b"x") * 6000)
            assert await until(lambda: len(seen) == 12_000, 20)
        finally:
            other.cancel()
    assert max(seen.count(turn) for turn in set(seen)) <= 3 * 64


async def test_injecting_and_closing_from_outside(make_proxy: MakeProxy) -> None:
    flows: list[HTTPFlow] = []

    class Starter:
        def websocket_start(self, flow: HTTPFlow) -> None:
            flows.append(flow)
            spoken(flow).inject(b"welcome", to_client=True)

    watcher = Watcher()
    proxy = await make_proxy(Starter(), watcher)
    async with run_echo() as port, ws_connect(proxy, port) as client:
        assert await client.recv() == "welcome"
        spoken(flows[0]).inject(b"from outside", to_client=False)
        assert await client.recv() == "from outside"
        assert flows[0].live
        assert flows[0].killable
        spoken(flows[0]).close(4001, "enough")
        with pytest.raises(ConnectionClosed) as caught:
            await client.recv()
        assert caught.value.rcvd is not None
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4001, "enough")
    data = await ended(watcher)
    assert (data.close_code, data.close_reason, data.closed_by_client) == (4001, "enough", None)
    assert watcher.injected == [b"welcome", b"from outside"]


async def test_closing_in_a_handler_still_sends_the_message_in_hand(make_proxy: MakeProxy) -> None:
    def act(flow: HTTPFlow, message: WebSocketMessage) -> None:
        if message.text == "last":
            spoken(flow).close(1008, "no more")

    watcher = Watcher(act)
    proxy = await make_proxy(watcher)
    got: list[str | bytes] = []
    codes: list[int | None] = []

    async def listen(connection: ServerConnection) -> None:
        with pytest.raises(ConnectionClosed):
            while True:
                got.append(await connection.recv())
        codes.append(connection.close_code)

    async with run_echo(listen) as port, ws_connect(proxy, port) as client:
        for message in ("first", "last", "later"):
            await client.send(message)
        await client.wait_closed()
        assert (client.close_code, client.close_reason) == (1008, "no more")
        assert await until(lambda: bool(codes))
    assert got == ["first", "last"]
    assert codes == [1008]


@pytest.mark.parametrize(("code", "reason"), [(1005, ""), (1006, ""), (999, ""), (70000, ""), (1000, "ü" * 62)])
def test_close_takes_only_what_may_be_sent(code: int, reason: str) -> None:
    with pytest.raises(ValueError, match=r"close"):
        WebSocketData().close(code, reason)


@pytest.mark.parametrize("content", [b"\xff\xfe", "no bytes", None])
async def test_a_handler_that_leaves_what_cannot_be_sent_ends_the_connection(
        make_proxy: MakeProxy, content: object, caplog: pytest.LogCaptureFixture) -> None:
    def act(flow: HTTPFlow, message: WebSocketMessage) -> None:
        message.content = content  # type: ignore[assignment]

    proxy = await make_proxy(Watcher(act))
    async with run_echo() as port, ws_connect(proxy, port) as client:
        await client.send("text")
        await client.wait_closed()
        assert client.close_code == 1011
    assert "cannot be sent" in caplog.text


# --- frame by frame -----------------------------------------------------------------------------------------------

async def test_absolute_form_and_frames_that_came_with_the_heads(make_proxy: MakeProxy) -> None:
    watcher = Watcher()
    proxy = await make_proxy(watcher)

    async def script(end: RawEnd, connection: OriginConnection) -> None:
        await end.send_frame(TEXT, b"early")
        assert await end.receive() == (TEXT, b"first")
        assert await end.receive_close() == (3000, "done")
        await end.send_close(3001, "done too")
        await connection.read_to_end()

    async with (run_origin(raw_server(script)) as origin,
                raw_client(proxy, origin.port, then=frame(TEXT, b"first")) as client):
        assert await client.receive() == (TEXT, b"early")
        await client.send_close(3000, "done")
        assert await client.receive_close() == (3001, "done too")
        assert await client.at_end()
    data = await ended(watcher)
    assert (data.close_code, data.close_reason, data.closed_by_client) == (3000, "done", True)


async def test_control_frames_pass_between_fragments_in_order(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(Watcher())

    async def script(end: RawEnd, connection: OriginConnection) -> None:
        for expected in ((PING, b"a"), (PONG, b"b"), (TEXT, b"one two"), (PING, b""), (BINARY, b"three")):
            assert await end.receive() == expected
        for _ in range(3):
            await end.send_frame(PONG, b"unasked")
        await end.send_close(1005 - 5)
        await connection.read_to_end()

    async with (run_origin(raw_server(script)) as origin, raw_client(proxy, origin.port) as client):
        await client.send_frame(TEXT, b"one", fin=False)
        await client.send_frame(PING, b"a")
        await client.send_frame(CONTINUATION, b" ", fin=False)
        await client.send_frame(PONG, b"b")
        await client.send_frame(CONTINUATION, b"two")
        await client.send(frame(PING) + frame(BINARY, b"three"))
        for _ in range(3):
            assert await client.receive() == (PONG, b"unasked")
        assert await client.receive_close() == (1000, "")


async def test_frames_byte_by_byte(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(Watcher())
    async with run_echo(compression=None) as port, raw_client(proxy, port) as client:
        spoken = ((TEXT, "grüße".encode(), TEXT), (PING, b"p", PONG), (BINARY, b"z" * 300, BINARY))
        for opcode, payload, answer in spoken:
            for byte in frame(opcode, payload):
                await client.send(bytes([byte]))
            assert await client.receive() == (answer, payload)
        await client.send(close_frame(1000))
        assert (await client.receive())[0] == CLOSE


async def test_a_close_without_a_code_stays_without(make_proxy: MakeProxy) -> None:
    watcher = Watcher()
    proxy = await make_proxy(watcher)

    async def script(end: RawEnd, connection: OriginConnection) -> None:
        assert await end.receive_close() == (1005, "")
        await end.send_frame(CLOSE)

    async with (run_origin(raw_server(script)) as origin, raw_client(proxy, origin.port) as client):
        await client.send_frame(CLOSE)
        assert await client.receive_close() == (1005, "")
        assert await client.at_end()
    assert (await ended(watcher)).close_code == 1005


async def test_who_is_asked_to_close_may_finish_first(make_proxy: MakeProxy) -> None:
    watcher = Watcher()
    proxy = await make_proxy(watcher)

    async def script(end: RawEnd, connection: OriginConnection) -> None:
        assert await end.receive_close() == (1000, "")
        await end.send_frame(TEXT, b"one more thing")
        await end.send_close(1000)

    async with (run_origin(raw_server(script)) as origin, raw_client(proxy, origin.port) as client):
        await client.send_close()
        assert await client.receive() == (TEXT, b"one more thing")
        assert await client.receive_close() == (1000, "")
    await ended(watcher)
    assert watcher.seen == [(False, b"one more thing")]
