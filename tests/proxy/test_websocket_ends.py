"""How WebSocket connections end: kill, aborts, silence, shutdown, refusals; each with exactly one `websocket_end`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from websockets.asyncio.server import ServerConnection

from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.websocket import WebSocketData
from tests.support.leaks import until
from tests.support.origin import OriginConnection, run_origin
from tests.support.proxy import RunningProxy
from tests.support.websocket import (
    BINARY,
    PING,
    PONG,
    SECONDS,
    TEXT,
    RawEnd,
    raw_client,
    raw_server,
    run_echo,
    ws_connect,
)

MakeProxy = Callable[..., Awaitable[RunningProxy]]


class Handler:
    """Knows the flow, and kills it in the hook that the test names."""

    def __init__(self, kill_in: str = "") -> None:
        self.kill_in = kill_in
        self.started: asyncio.Future[HTTPFlow] = asyncio.get_running_loop().create_future()
        self.ended: asyncio.Future[HTTPFlow] = asyncio.get_running_loop().create_future()
        self.messages: list[bytes] = []

    def websocket_start(self, flow: HTTPFlow) -> None:
        self.started.set_result(flow)
        if self.kill_in == "websocket_start":
            flow.kill()

    def websocket_message(self, flow: HTTPFlow) -> None:
        assert flow.websocket is not None
        self.messages.append(flow.websocket.messages[-1].content)
        if self.kill_in == "websocket_message":
            flow.kill()

    def websocket_end(self, flow: HTTPFlow) -> None:
        if self.kill_in == "websocket_end":
            flow.kill()
        self.ended.set_result(flow)

    async def end(self) -> WebSocketData:
        async with asyncio.timeout(SECONDS):
            flow = await self.ended
        assert flow.websocket is not None
        assert not flow.killable
        return flow.websocket


async def say_nothing(end: RawEnd, connection: OriginConnection) -> None:
    await connection.read_to_end()


async def reach_end(connection: OriginConnection) -> bool:
    """At the origin: True when the proxy finished in order, False after a reset."""
    try:
        await connection.read_to_end()
    except ConnectionError:
        return False
    return True


# --- kill ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("hook", ["websocket_start", "websocket_message"])
async def test_kill_in_a_hook_cuts_both_sides(make_proxy: MakeProxy, hook: str) -> None:
    handler = Handler(hook)
    proxy = await make_proxy(handler)
    orderly: list[bool] = []

    async def script(end: RawEnd, connection: OriginConnection) -> None:
        orderly.append(await reach_end(connection))

    async with run_origin(raw_server(script)) as origin, raw_client(proxy, origin.port) as client:
        with suppress(ConnectionError):
            await client.send_frame(TEXT, b"secret")
        assert not await client.at_end()
        data = await handler.end()
        assert await until(lambda: bool(orderly))
    assert orderly == [False]
    assert b"secret" not in origin.received
    assert (data.close_code, data.close_reason, data.closed_by_client) == (1006, "", None)
    assert proxy.recorder.of("websocket_end", "error") == ["websocket_end"]


async def test_kill_from_outside_while_nobody_says_anything(make_proxy: MakeProxy) -> None:
    handler = Handler()
    proxy = await make_proxy(handler)
    async with run_origin(raw_server(say_nothing)) as origin, raw_client(proxy, origin.port) as client:
        async with asyncio.timeout(SECONDS):
            flow = await handler.started
        assert flow.killable
        flow.kill()
        assert not await client.at_end()
        assert (await handler.end()).close_code == 1006


async def test_kill_while_a_handler_waits_cuts_at_once(make_proxy: MakeProxy) -> None:
    handler, entered, leave = Handler(), asyncio.Event(), asyncio.Event()

    class Slow:
        async def websocket_message(self, flow: HTTPFlow) -> None:
            entered.set()
            await leave.wait()

    proxy = await make_proxy(handler, Slow())
    async with run_origin(raw_server(say_nothing)) as origin, raw_client(proxy, origin.port) as client:
        await client.send_frame(TEXT, b"x")
        async with asyncio.timeout(SECONDS):
            await entered.wait()
            (await handler.started).kill()
        assert not await client.at_end()
        assert not handler.ended.done(), "hooks of one flow never overlap"
        leave.set()
        assert (await handler.end()).close_code == 1006
    assert origin.connections[0].received.endswith(b"\r\n\r\n")


async def test_kill_at_the_end_changes_nothing(make_proxy: MakeProxy) -> None:
    handler = Handler("websocket_end")
    proxy = await make_proxy(handler)
    async with run_echo() as port, ws_connect(proxy, port) as client:
        await client.close(1000, "bye")
    data = await handler.end()
    assert (data.close_code, data.close_reason) == (1000, "bye")


async def test_kill_while_the_other_end_is_awaited(make_proxy: MakeProxy) -> None:
    handler = Handler()
    proxy = await make_proxy(handler)
    async with run_origin(raw_server(say_nothing)) as origin, raw_client(proxy, origin.port) as client:
        await client.send_close(1000, "bye")
        await origin.wait_for_connections(1)
        assert await until(lambda: origin.received.count(b"\x88") > 0)
        flow = await handler.started
        flow.kill()
        assert not await client.at_end()
        assert (await handler.end()).close_code == 1006


async def test_a_raw_connection_is_killed_too(make_proxy: MakeProxy) -> None:
    flows: list[HTTPFlow] = []

    class Response:
        def response(self, flow: HTTPFlow) -> None:
            flows.append(flow)

    proxy = await make_proxy(Response(), record=False)
    async with run_origin(raw_server(say_nothing)) as origin, raw_client(proxy, origin.port) as client:
        assert await until(lambda: len(proxy.core.conversations) == 1)
        assert flows[0].live
        flows[0].kill()
        assert not await client.at_end()


# --- ends without a Close -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("reset", [True, False], ids=["reset", "end of stream"])
async def test_a_client_that_vanishes_vanishes_for_the_server(make_proxy: MakeProxy, reset: bool) -> None:
    handler = Handler()
    proxy = await make_proxy(handler)
    orderly: list[bool] = []

    async def script(end: RawEnd, connection: OriginConnection) -> None:
        assert await end.receive() == (TEXT, b"hello")
        await end.send_frame(TEXT, b"hello")
        orderly.append(await reach_end(connection))

    async with run_origin(raw_server(script)) as origin, raw_client(proxy, origin.port) as client:
        await client.send_frame(TEXT, b"hello")
        assert await client.receive() == (TEXT, b"hello")
        if reset:
            client.reset()
        else:
            client.writer.close()
        data = await handler.end()
        assert await until(lambda: bool(orderly))
    assert orderly == [not reset]
    assert (data.close_code, data.closed_by_client) == (1006, True)


@pytest.mark.parametrize("reset", [True, False], ids=["reset", "end of stream"])
@pytest.mark.parametrize("last_words", [b"", b"\x81", b"\x01\x05hello", b"\x81\x05hel"],
                         ids=["silent", "in a head", "between fragments", "in a frame"])
async def test_a_server_that_vanishes_vanishes_for_the_client(make_proxy: MakeProxy, reset: bool,
                                                              last_words: bytes) -> None:
    handler = Handler()
    proxy = await make_proxy(handler)

    async def script(end: RawEnd, connection: OriginConnection) -> None:
        assert await end.receive() == (TEXT, b"go")
        await end.send(last_words)
        if reset:
            connection.reset()

    async with run_origin(raw_server(script)) as origin, raw_client(proxy, origin.port) as client:
        await client.send_frame(TEXT, b"go")
        assert await client.at_end() is not reset
        data = await handler.end()
    assert (data.close_code, data.closed_by_client) == (1006, False)
    assert handler.messages == [b"go"]


async def test_a_server_that_answers_a_close_by_hanging_up(make_proxy: MakeProxy) -> None:
    handler = Handler()
    proxy = await make_proxy(handler)

    async def script(end: RawEnd, connection: OriginConnection) -> None:
        await end.receive_close()

    async with run_origin(raw_server(script)) as origin, raw_client(proxy, origin.port) as client:
        await client.send_close(1001, "leaving")
        assert await client.receive_close() == (1001, "leaving")
        assert await client.at_end()
        assert (await handler.end()).close_code == 1001


async def test_a_server_that_never_answers_a_close(make_proxy: MakeProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rulesproxy.proxy.websocket.relay.ANSWER_SECONDS", 0.05)
    monkeypatch.setattr("rulesproxy.proxy.websocket.relay.GOODBYE_SECONDS", 0.1)
    handler = Handler()
    proxy = await make_proxy(handler)
    async with run_origin(raw_server(say_nothing)) as origin, raw_client(proxy, origin.port) as client:
        await client.send_close(1000, "bye")
        assert await client.receive_close() == (1000, "bye")
        assert await client.at_end()
        assert (await handler.end()).close_code == 1000


async def test_both_close_at_the_same_time(make_proxy: MakeProxy) -> None:
    handler = Handler()
    proxy = await make_proxy(handler)

    async def script(end: RawEnd, connection: OriginConnection) -> None:
        assert await end.receive() == (TEXT, b"go")
        await end.send_close(4000, "server")
        assert (await end.receive_close())[0] in (4000, 4001)

    async with run_origin(raw_server(script)) as origin, raw_client(proxy, origin.port) as client:
        await client.send_frame(TEXT, b"go")
        await client.send_close(4001, "client")
        assert (await client.receive_close())[0] in (4000, 4001)
        assert (await handler.end()).close_code in (4000, 4001)


# --- what the proxy ends ------------------------------------------------------------------------------------------

async def test_silence_ends_with_going_away_and_pings_are_no_silence(make_proxy: MakeProxy) -> None:
    handler = Handler()
    proxy = await make_proxy(handler, idle_timeout=0.3)
    codes: list[int] = []

    async def script(end: RawEnd, connection: OriginConnection) -> None:
        for _ in range(6):
            assert await end.receive() == (PING, b"")
            await end.send_frame(PONG)
        codes.append((await end.receive_close())[0])
        await end.send_close(codes[0])

    async with run_origin(raw_server(script)) as origin, raw_client(proxy, origin.port) as client:
        for _ in range(6):
            await asyncio.sleep(0.1)
            await client.send_frame(PING)
            assert await client.receive() == (PONG, b"")
        assert await client.receive_close() == (1001, "")
        await client.send_close(1001)
        assert await client.at_end()
        assert (await handler.end()).close_code == 1001
    assert codes == [1001]


async def test_at_shutdown_both_sides_hear_going_away(make_proxy: MakeProxy) -> None:
    handler = Handler()
    proxy = await make_proxy(handler)
    codes: list[int | None] = []

    async def listen(connection: ServerConnection) -> None:
        await connection.wait_closed()
        codes.append(connection.close_code)

    async with run_echo(listen) as port, ws_connect(proxy, port) as client:
        async with asyncio.timeout(SECONDS):
            await handler.started
        began = asyncio.get_running_loop().time()
        await proxy.proxy.stop(grace=5)
        assert asyncio.get_running_loop().time() - began < 2
        await client.wait_closed()
        assert client.close_code == 1001
        assert await until(lambda: codes == [1001])
    assert (await handler.end()).close_code == 1001


async def test_when_the_grace_time_is_over_a_slow_handler_is_cut(make_proxy: MakeProxy) -> None:
    handler, entered = Handler(), asyncio.Event()

    class Stuck:
        async def websocket_message(self, flow: HTTPFlow) -> None:
            entered.set()
            await asyncio.Event().wait()

    proxy = await make_proxy(handler, Stuck())
    async with run_origin(raw_server(say_nothing)) as origin, raw_client(proxy, origin.port) as client:
        await client.send_frame(TEXT, b"x")
        async with asyncio.timeout(SECONDS):
            await entered.wait()
            await proxy.proxy.stop(grace=0.1)
        assert not await client.at_end()
        assert (await handler.end()).close_code == 1006


# --- slow handlers and slow readers -------------------------------------------------------------------------------

async def test_control_frames_overtake_a_handler_that_takes_long(make_proxy: MakeProxy,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rulesproxy.proxy.websocket.side.PATIENCE", 0.05)
    entered, leave = asyncio.Event(), asyncio.Event()

    class Slow:
        async def websocket_message(self, flow: HTTPFlow) -> None:
            if not entered.is_set():
                entered.set()
                await leave.wait()

    handler = Handler()
    proxy = await make_proxy(Slow(), handler)

    async def script(end: RawEnd, connection: OriginConnection) -> None:
        assert await end.receive() == (PING, b"1")
        await end.send_frame(TEXT, b"waits for its turn")
        await end.send_frame(PONG, b"1")
        for number in (2, 3):
            assert await end.receive() == (PING, b"%d" % number)
        leave.set()
        for content in (b"slow", b"second", b"third"):
            assert await end.receive() == (TEXT, content)
        assert await end.receive_close() == (1000, "")
        await end.send_close()

    async with run_origin(raw_server(script)) as origin, raw_client(proxy, origin.port) as client:
        await client.send_frame(TEXT, b"slow")
        await client.send_frame(PING, b"1")
        assert await client.receive() == (PONG, b"1")
        await client.send_frame(TEXT, b"second")
        await client.send_frame(PING, b"2")
        await client.send_frame(TEXT, b"third")
        await client.send_frame(PING, b"3")
        await client.send_close()
        assert await client.receive() == (TEXT, b"waits for its turn")
        assert await client.receive_close() == (1000, "")
        await handler.end()
    assert sorted(handler.messages) == sorted([b"slow", b"second", b"third", b"waits for its turn"])


async def test_a_slow_reader_holds_up_the_sender_and_only_that_direction(make_proxy: MakeProxy) -> None:
    handler = Handler()
    proxy = await make_proxy(handler)
    sent = 0

    async def script(end: RawEnd, connection: OriginConnection) -> None:
        async def push() -> None:
            nonlocal sent
            while sent < 400:
                await end.send_frame(BINARY, bytes(256 * 1024))
                sent += 1

        async with asyncio.TaskGroup() as group:
            pushing = group.create_task(push())
            for number in range(50):
                assert await end.receive() == (TEXT, b"%d" % number)
            assert not pushing.done()
            pushing.cancel()
        connection.close()

    async with run_origin(raw_server(script)) as origin, raw_client(proxy, origin.port) as client:
        for number in range(50):
            await client.send_frame(TEXT, b"%d" % number)
        assert await until(lambda: len(origin.connections) == 1 and b"done" not in origin.received)
        assert await until(lambda: handler.messages.count(b"49") == 1)
        assert sent < 100
        assert await client.receive() == (BINARY, bytes(256 * 1024))
        client.reset()
        await handler.end()


# --- handlers that fail or close early ----------------------------------------------------------------------------

async def test_a_handler_that_raises_is_passed_over(make_proxy: MakeProxy, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def websocket_message(self, flow: HTTPFlow) -> None:
            raise RuntimeError("no")

    proxy = await make_proxy(Broken())
    async with run_echo() as port, ws_connect(proxy, port) as client:
        await client.send("x")
        assert await client.recv() == "x"
    assert "Broken" in caplog.text


async def test_a_handler_that_raises_kills_where_errors_refuse(make_proxy: MakeProxy) -> None:
    class Broken:
        def websocket_message(self, flow: HTTPFlow) -> None:
            raise RuntimeError("no")

    handler = Handler()
    proxy = await make_proxy(Broken(), handler, addon_errors="refuse")
    async with run_origin(raw_server(say_nothing)) as origin, raw_client(proxy, origin.port) as client:
        await client.send_frame(TEXT, b"unjudged")
        assert not await client.at_end()
        assert (await handler.end()).close_code == 1006
    assert b"unjudged" not in origin.received
    assert origin.received.endswith(b"\r\n\r\n")


async def test_close_at_the_start(make_proxy: MakeProxy) -> None:
    class Closing:
        def websocket_start(self, flow: HTTPFlow) -> None:
            assert flow.websocket is not None
            flow.websocket.inject(b"sorry", to_client=True)
            flow.websocket.close(1013, "later")

    handler = Handler()
    proxy = await make_proxy(Closing(), handler)
    async with run_echo() as port, ws_connect(proxy, port) as client:
        assert await client.recv() == "sorry"
        await client.wait_closed()
        assert (client.close_code, client.close_reason) == (1013, "later")
    assert (await handler.end()).close_code == 1013
    assert handler.messages == [b"sorry"]


async def test_a_conversation_remembers_little_of_large_messages(make_proxy: MakeProxy) -> None:
    handler = Handler()
    proxy = await make_proxy(handler)
    async with run_echo(compression=None) as port, ws_connect(proxy, port, compression=None) as client:
        for number in range(20):
            await client.send(bytes([number]) * 500_000)
            assert len(await client.recv()) == 500_000
    data = await handler.end()
    assert data.messages[-1].content == bytes([19]) * 500_000
    assert sum(len(message.content) for message in data.messages) < 3 << 20
