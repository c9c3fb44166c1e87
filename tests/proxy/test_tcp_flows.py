"""Raw TCP in tunnels: messages, what hooks may do with them, and how flows end."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from rulesproxy.model.effects import Drop
from rulesproxy.model.tcp import TCPFlow
from tests.support.app import RunningApp
from tests.support.certificates import OriginCA
from tests.support.leaks import until
from tests.support.origin import OriginConnection, run_origin
from tests.support.proxy import RunningProxy
from tests.support.tunnels import reset, tunnel

MakeProxy = Callable[..., Awaitable[RunningProxy]]
MakeApp = Callable[..., Awaitable[RunningApp]]

#: Nothing that HTTP or TLS begins with.
HELLO = b"\x00hello"
TCP = ("tcp_start", "tcp_message", "tcp_end", "tcp_error")


async def echo(connection: OriginConnection) -> None:
    while True:
        await connection.send(await connection.read_some())


async def listen(connection: OriginConnection) -> None:
    await connection.read_to_end()


class Messages:
    """Does with each message what a test says. `flow` is there from `tcp_start` on."""

    def __init__(self, on_message: Callable[[TCPFlow, Any], Any] | None = None,
                 on_start: Callable[[TCPFlow], Any] | None = None) -> None:
        self._on_message = on_message
        self._on_start = on_start
        self.flow: Any = None
        self.seen: list[tuple[bool, bytes]] = []

    async def tcp_start(self, flow: TCPFlow) -> None:
        self.flow = flow
        if self._on_start is not None and asyncio.iscoroutine(result := self._on_start(flow)):
            await result

    async def tcp_message(self, flow: TCPFlow) -> None:
        message = flow.messages[-1]
        self.seen.append((message.from_client, message.content))
        if self._on_message is not None and asyncio.iscoroutine(result := self._on_message(flow, message)):
            await result


async def ends(proxy: RunningProxy, *names: str) -> None:
    """Wait until one of the hooks has fired."""
    assert await until(lambda: bool(proxy.recorder.of(*names))), proxy.recorder.names


# --- order ----------------------------------------------------------------------------------------------------------


async def test_the_hooks_of_a_conversation_in_order(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()
    async with run_origin(echo) as origin, tunnel(proxy, origin.port, HELLO) as (reader, writer):
        assert await reader.readexactly(6) == HELLO
        writer.write_eof()
        assert await reader.read() == b""
    await ends(proxy, "client_disconnected")
    assert proxy.recorder.names == [
        "client_connected", "http_connect", "http_connected", "tcp_start", "server_connect", "server_connected",
        "tcp_message", "tcp_message", "tcp_end", "server_disconnected", "client_disconnected"]
    [flow] = proxy.recorder.arguments("tcp_end")
    assert [(message.from_client, message.content) for message in flow.messages] == [(True, HELLO), (False, HELLO)]
    assert (flow.type, flow.error, flow.live) == ("tcp", None, False)
    assert (flow.tunnel.host, flow.tunnel.port) == flow.server_conn.address == ("127.0.0.1", origin.port)


async def test_relayed_tls_fires_no_tcp_hooks(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    proxy = await make_proxy()
    context = ssl.create_default_context(cafile=str(origin_ca.pem))
    async with (run_origin(echo, tls=origin_ca.server_context("localhost")) as origin,
                tunnel(proxy, origin.port) as (reader, writer)):
        await writer.start_tls(context, server_hostname="localhost")
        writer.write(HELLO)
        assert await reader.readexactly(6) == HELLO
    await ends(proxy, "client_disconnected")
    assert proxy.recorder.of(*TCP) == []
    assert proxy.recorder.of("server_connected", "server_disconnected") == ["server_connected", "server_disconnected"]


async def test_raw_bytes_in_decrypted_tls_are_shown(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    class Decrypting(Messages):
        def request(self, flow: object) -> None:
            """Handling HTTP decrypts."""

    addon = Decrypting()
    proxy = await make_proxy(addon)
    context = ssl.create_default_context(cafile=str(proxy.ca))
    async with (run_origin(echo, tls=origin_ca.server_context("localhost")) as origin,
                tunnel(proxy, origin.port, host="localhost") as (reader, writer)):
        await writer.start_tls(context, server_hostname="localhost")
        writer.write(HELLO)
        assert await reader.readexactly(6) == HELLO
    await ends(proxy, "client_disconnected")
    assert addon.seen == [(True, HELLO), (False, HELLO)]
    assert addon.flow.server_conn.tls_established


async def test_no_server_is_an_error_of_the_flow(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(connect_timeout=2)
    async with run_origin() as origin:
        port = origin.port
    async with tunnel(proxy, port, HELLO) as (reader, _):
        with pytest.raises(ConnectionResetError):
            await reader.read()
    await ends(proxy, "client_disconnected")
    assert proxy.recorder.of(*TCP, "server_connect_error") == ["tcp_start", "server_connect_error", "tcp_error"]
    [flow] = proxy.recorder.arguments("tcp_error")
    assert "refused" in flow.error.msg


# --- messages -------------------------------------------------------------------------------------------------------


async def test_a_message_may_be_changed_emptied_and_dropped(make_proxy: MakeProxy) -> None:
    def judge(flow: TCPFlow, message: Any) -> None:
        match message.content:
            case b"\x00change":
                message.content = bytearray(b"\x00changed")
            case b"\x00empty":
                message.content = b""
            case b"\x00drop":
                message.drop()

    addon = Messages(judge)
    proxy = await make_proxy(addon)
    async with run_origin(echo) as origin, tunnel(proxy, origin.port) as (reader, writer):
        for content in (b"\x00drop", b"\x00empty", b"\x00change"):
            writer.write(content)
            assert await until(lambda content=content: (True, content) in addon.seen)
        assert await reader.readexactly(8) == b"\x00changed"
        writer.write_eof()
        assert await reader.read() == b""
    assert origin.received == b"\x00changed"


async def test_messages_are_64_kib_at_most_and_the_history_is_bounded(make_proxy: MakeProxy) -> None:
    sizes: list[int] = []
    addon = Messages(lambda flow, message: sizes.append(len(message.content)))
    proxy = await make_proxy(addon)
    data = b"\x00" + bytes(range(256)) * 16384 * 4
    async with run_origin(listen) as origin, tunnel(proxy, origin.port) as (reader, writer):
        writer.write(data)
        writer.write_eof()
        assert await reader.read() == b""
        assert origin.received == data
    assert max(sizes) <= 65536 and len(sizes) > 200
    assert len(addon.flow.messages) <= 200


async def test_an_addon_may_keep_every_message(make_proxy: MakeProxy) -> None:
    def keep(flow: TCPFlow) -> None:
        flow.kept = None

    addon = Messages(on_start=keep)
    proxy = await make_proxy(addon)
    async with run_origin(echo) as origin, tunnel(proxy, origin.port) as (reader, writer):
        for number in range(150):
            writer.write(b"\x00%03d" % number)
            assert await reader.readexactly(4) == b"\x00%03d" % number
    assert len(addon.flow.messages) == 300


async def test_hooks_of_one_flow_never_overlap_and_each_direction_keeps_its_order(make_proxy: MakeProxy) -> None:
    inside, most = 0, 0

    async def slowly(flow: TCPFlow, message: Any) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0.002)
        assert flow.messages[-1] is message
        inside -= 1

    async def count(connection: OriginConnection) -> None:
        for number in range(40):
            await connection.send(b"%02d" % number)
            await asyncio.sleep(0)
        await connection.read_to_end()

    proxy = await make_proxy(Messages(slowly))
    async with run_origin(count) as origin, tunnel(proxy, origin.port, b"\x00") as (reader, writer):
        for number in range(40):
            writer.write(b"%02d" % number)
            await asyncio.sleep(0)
        writer.write_eof()
        assert await reader.read() == b"".join(b"%02d" % number for number in range(40))
    assert origin.received == b"\x00" + b"".join(b"%02d" % number for number in range(40))
    assert most == 1


async def test_a_slow_handler_of_one_direction_still_lets_the_other_one_be_read(make_proxy: MakeProxy) -> None:
    """What was shown before goes out although a handler is busy: only hooks wait for each other."""
    busy, go_on = asyncio.Event(), asyncio.Event()

    async def hold(flow: TCPFlow, message: Any) -> None:
        if message.content == b"\x00hold":
            busy.set()
            await go_on.wait()

    proxy = await make_proxy(Messages(hold))
    async with run_origin(echo) as origin, tunnel(proxy, origin.port) as (reader, writer):
        writer.write(HELLO)
        assert await reader.readexactly(6) == HELLO
        writer.write(b"\x00hold")
        await busy.wait()
        writer.write(b"\x00next")
        go_on.set()
        assert await reader.readexactly(10) == b"\x00hold\x00next"


async def test_a_handler_that_leaves_no_bytes(make_proxy: MakeProxy, caplog: pytest.LogCaptureFixture) -> None:
    def spoil(flow: TCPFlow, message: Any) -> None:
        message.content = "text"

    proxy = await make_proxy(Messages(spoil))
    async with run_origin(listen) as origin, tunnel(proxy, origin.port, HELLO) as (reader, _):
        with pytest.raises(ConnectionResetError):
            await reader.read()
    await ends(proxy, "tcp_error")
    assert origin.received == b""
    assert any("unexpected error" in record.getMessage() for record in caplog.records)


async def test_a_handler_that_raises_stops_nothing_unless_it_shall(make_proxy: MakeProxy) -> None:
    def fail(flow: TCPFlow, message: Any) -> None:
        raise RuntimeError("oh no")

    for errors, answer in (("continue", HELLO), ("refuse", b"")):
        proxy = await make_proxy(Messages(fail), addon_errors=errors)
        async with run_origin(echo) as origin, tunnel(proxy, origin.port, HELLO) as (reader, _):
            try:
                assert await reader.read(100) == answer
            except ConnectionResetError:
                assert not answer
    assert proxy.recorder.of(*TCP) == ["tcp_start", "tcp_message", "tcp_error"]


async def test_handlers_that_come_later_see_what_comes_later(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(record=False)
    addon = Messages()
    async with run_origin(echo) as origin, tunnel(proxy, origin.port, HELLO) as (reader, writer):
        assert await reader.readexactly(6) == HELLO
        proxy.addons.add(addon)
        writer.write(b"\x00more")
        assert await reader.readexactly(5) == b"\x00more"
        proxy.addons.remove(addon)
        writer.write(b"\x00last")
        assert await reader.readexactly(5) == b"\x00last"
    assert addon.seen == [(True, b"\x00more"), (False, b"\x00more")]


# --- injection ------------------------------------------------------------------------------------------------------


async def test_injected_bytes_reach_both_sides_after_the_message_in_hand(make_proxy: MakeProxy) -> None:
    def inject(flow: TCPFlow, message: Any) -> None:
        if not message.injected and message.from_client:
            flow.inject(b"<to server>", to_client=False)
            flow.inject(b"<to client>", to_client=True)

    addon = Messages(inject)
    proxy = await make_proxy(addon)
    async with run_origin(listen) as origin, tunnel(proxy, origin.port, HELLO) as (reader, writer):
        assert await reader.readexactly(11) == b"<to client>"
        writer.write_eof()
        assert await reader.read() == b""
    assert origin.received == HELLO + b"<to server>"
    assert [message.injected for message in addon.flow.messages] == [False, True, True]
    assert proxy.recorder.of("tcp_message", "tcp_end") == ["tcp_message"] * 3 + ["tcp_end"]
    assert proxy.recorder.arguments("update") == [[addon.flow]] * 2


async def test_what_is_injected_before_the_server_is_there_waits_for_it(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(Messages(on_start=lambda flow: flow.inject(b"first", to_client=False)))
    async with run_origin(echo) as origin, tunnel(proxy, origin.port, HELLO) as (reader, writer):
        assert sorted(await reader.readexactly(11)) == sorted(b"first" + HELLO)
        writer.write_eof()
        assert await reader.read() == b""
    assert b"first" in origin.received


async def test_injection_at_any_time_from_anywhere(make_proxy: MakeProxy) -> None:
    addon = Messages()
    proxy = await make_proxy(addon)
    async with run_origin(echo) as origin, tunnel(proxy, origin.port, HELLO) as (reader, writer):
        assert await reader.readexactly(6) == HELLO
        for number in range(20):  # nothing else is going on
            addon.flow.inject(b"%02d" % number, to_client=number % 2 == 0)
            assert await reader.readexactly(2) == b"%02d" % number
        writer.write_eof()
        assert await reader.read() == b""
        addon.flow.inject(b"too late", to_client=False)
    await ends(proxy, "tcp_end")


async def test_a_handler_that_always_injects_does_not_stop_the_proxy(make_proxy: MakeProxy) -> None:
    def again(flow: TCPFlow, message: Any) -> None:
        flow.inject(b"again", to_client=True)
        if message.injected:
            message.drop()

    proxy = await make_proxy(Messages(again), record=False)
    async with run_origin(echo) as origin, tunnel(proxy, origin.port, HELLO) as (reader, writer):
        assert await reader.readexactly(6) == HELLO
        reset(writer)
        assert await until(lambda: not proxy.core.sessions)


async def test_a_side_that_takes_nothing_does_not_hold_up_what_is_injected_to_the_other(
        make_proxy: MakeProxy) -> None:
    addon = Messages()
    proxy = await make_proxy(addon)
    async with run_origin(listen) as origin, tunnel(proxy, origin.port, HELLO) as (_, writer):
        await ends(proxy, "tcp_message")
        addon.flow.inject(bytes(32 << 20), to_client=True)  # nobody reads that
        addon.flow.inject(b"\x00through", to_client=False)
        assert await until(lambda: origin.received == HELLO + b"\x00through")
        writer.transport.abort()
    await ends(proxy, "tcp_error")


async def test_what_a_finished_side_cannot_send_is_not_an_error(make_proxy: MakeProxy) -> None:
    addon = Messages()
    proxy = await make_proxy(addon)
    async with run_origin(listen) as origin:
        async with tunnel(proxy, origin.port, HELLO) as (reader, writer):
            await ends(proxy, "tcp_message")
            writer.write_eof()
            await origin.connections[0].ended.wait()
            addon.flow.inject(b"lost", to_client=False)
            assert await reader.read() == b""
        await ends(proxy, "tcp_end")
    assert origin.received == HELLO


# --- ends -----------------------------------------------------------------------------------------------------------


async def test_a_half_close_travels_and_the_answer_still_comes(make_proxy: MakeProxy) -> None:
    async def answer_at_the_end(connection: OriginConnection) -> None:
        await connection.send((await connection.read_to_end())[::-1])

    proxy = await make_proxy()
    async with run_origin(answer_at_the_end) as origin, tunnel(proxy, origin.port) as (reader, writer):
        writer.write(HELLO)
        writer.write_eof()
        assert await reader.read() == HELLO[::-1]
    await ends(proxy, "tcp_end")


async def test_the_server_may_finish_first(make_proxy: MakeProxy) -> None:
    async def finish(connection: OriginConnection) -> None:
        await connection.send(b"bye")
        await connection.send_eof()
        await connection.read_to_end()

    proxy = await make_proxy()
    async with run_origin(finish) as origin, tunnel(proxy, origin.port, HELLO) as (reader, writer):
        assert await reader.read() == b"bye"
        writer.write(b"\x00still here")
        writer.write_eof()
        assert await until(lambda: origin.connections[0].ended.is_set())
    assert origin.received == HELLO + b"\x00still here"
    await ends(proxy, "tcp_end")


@pytest.mark.parametrize("who", ["client", "server"])
async def test_a_reset_of_one_side_resets_the_other(make_proxy: MakeProxy, who: str) -> None:
    addon = Messages()
    proxy = await make_proxy(addon)
    async with run_origin(echo) as origin, tunnel(proxy, origin.port, HELLO) as (reader, writer):
        assert await reader.readexactly(6) == HELLO
        if who == "client":
            reset(writer)
        else:
            origin.connections[0].reset()
            with pytest.raises(ConnectionResetError):
                await reader.read()
        await ends(proxy, "tcp_error")
    assert addon.flow.error.msg == "connection reset by peer"
    await ends(proxy, "client_disconnected")
    assert not proxy.core.sessions


@pytest.mark.parametrize("drop", list(Drop))
async def test_a_drop_ends_both_sides(make_proxy: MakeProxy, drop: Drop) -> None:
    def decide(flow: TCPFlow, message: Any) -> None:
        flow.drop = drop

    proxy = await make_proxy(Messages(decide))
    gone = asyncio.Event()

    async def watch(connection: OriginConnection) -> None:
        try:
            await connection.read_some()
        finally:
            gone.set()

    async with run_origin(watch) as origin, tunnel(proxy, origin.port, HELLO) as (reader, writer):
        await ends(proxy, "tcp_error")
        await gone.wait()
        match drop:
            case Drop.RESET:
                with pytest.raises(ConnectionResetError):
                    await reader.read()
            case Drop.CLOSE:
                assert await reader.read() == b""
            case Drop.HANG:
                writer.write(b"\x00anybody?")
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.2):
                        await reader.read()
    assert origin.received == b""
    [flow] = proxy.recorder.arguments("tcp_error")
    assert flow.error.msg == "Connection dropped."


async def test_a_silent_flow_ends(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(idle_timeout=0.3)
    async with run_origin(listen) as origin, tunnel(proxy, origin.port, HELLO) as (reader, _):
        assert await reader.read() == b""
        await ends(proxy, "tcp_error")
    [flow] = proxy.recorder.arguments("tcp_error")
    assert flow.error.msg == "Nothing was sent for 0.3 s."


async def test_a_handler_that_takes_its_time_is_no_silence(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(Messages(lambda flow, message: asyncio.sleep(0.5)), idle_timeout=0.2)
    async with run_origin(echo) as origin, tunnel(proxy, origin.port, HELLO) as (reader, _):
        assert await reader.readexactly(6) == HELLO


async def test_an_open_flow_ends_with_the_proxy(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()
    async with run_origin(echo) as origin, tunnel(proxy, origin.port, HELLO) as (reader, writer):
        assert await reader.readexactly(6) == HELLO
        stopping = asyncio.create_task(proxy.proxy.stop(0.3))
        assert await until(lambda: proxy.core.closing)
        writer.write(b"\x00more")  # within the grace time it goes on
        assert await reader.readexactly(5) == b"\x00more"
        with pytest.raises(ConnectionResetError):
            await reader.read()
        await stopping
    [flow] = proxy.recorder.arguments("tcp_error")
    assert flow.error.msg == "The proxy stopped."


async def test_a_reader_that_stops_holds_up_the_sender(make_proxy: MakeProxy) -> None:
    sent = 0

    async def push(connection: OriginConnection) -> None:
        nonlocal sent
        await connection.read_some()
        while sent < 256 << 20:
            await connection.send(bytes(1 << 16))
            sent += 1 << 16

    addon = Messages()
    proxy = await make_proxy(addon)
    async with run_origin(push) as origin, tunnel(proxy, origin.port, HELLO) as (_, writer):
        writer.transport.pause_reading()
        before = -1
        while sent != before or not sent:  # until nothing moves any more
            before = sent
            await asyncio.sleep(0.3)
        assert sent < 64 << 20
    await ends(proxy, "tcp_error", "tcp_end")


async def test_new_rules_end_the_tunnel_when_it_is_quiet(make_app: MakeApp) -> None:
    app = await make_app("  - {name: other, match: {host: other.test}, action: {block: {}}}")
    async with run_origin(echo) as origin, tunnel(app, origin.port, HELLO) as (reader, _):
        assert await reader.readexactly(6) == HELLO
        await app.edit("  - {name: no, match: {host: 127.0.0.1}, action: {block: {}}}")
        assert await reader.read() == b""
        await ends(app, "tcp_error")


# --- kill -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["tcp_start", "server_connect", "server_connected", "tcp_message"])
async def test_kill_in_every_hook(make_proxy: MakeProxy, where: str, caplog: pytest.LogCaptureFixture) -> None:
    class Killer:
        flow: Any = None

        def tcp_start(self, flow: TCPFlow) -> None:
            self.flow = flow
            self._at("tcp_start")

        def server_connect(self, data: object) -> None:
            self._at("server_connect")

        def server_connected(self, data: object) -> None:
            self._at("server_connected")

        def tcp_message(self, flow: TCPFlow) -> None:
            self._at("tcp_message")

        def _at(self, hook: str) -> None:
            if hook == where:
                self.flow.kill()

    killer = Killer()
    proxy = await make_proxy(killer)
    with caplog.at_level(logging.WARNING):
        async with run_origin(echo) as origin, tunnel(proxy, origin.port, HELLO) as (reader, _):
            with pytest.raises(ConnectionResetError):
                await reader.read()
            await ends(proxy, "client_disconnected")
    assert proxy.recorder.names.count("tcp_error") == 1 and not proxy.recorder.of("tcp_end")
    assert (where, "server_connect" in proxy.recorder.names) != ("tcp_start", True)
    assert killer.flow.error.msg == "Connection killed." and not killer.flow.killable
    assert origin.received == b""
    assert not caplog.records


async def test_kill_while_nothing_happens(make_proxy: MakeProxy) -> None:
    addon = Messages()
    proxy = await make_proxy(addon)
    async with run_origin(echo) as origin, tunnel(proxy, origin.port, HELLO) as (reader, _):
        assert await reader.readexactly(6) == HELLO
        addon.flow.kill()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        await ends(proxy, "tcp_error")
        addon.flow.inject(b"too late", to_client=True)


async def test_kill_lets_the_handler_in_hand_finish(make_proxy: MakeProxy) -> None:
    finished: list[str] = []

    async def kill(flow: TCPFlow, message: Any) -> None:
        flow.kill()
        await asyncio.sleep(0.05)
        finished.append("message")

    class End:
        def tcp_error(self, flow: TCPFlow) -> None:
            finished.append("error")

    proxy = await make_proxy(Messages(kill), End())
    async with run_origin(echo) as origin, tunnel(proxy, origin.port, HELLO) as (reader, _):
        with pytest.raises(ConnectionResetError):
            await reader.read()
        await ends(proxy, "tcp_error")
    assert finished == ["message", "error"]


async def test_kill_while_the_server_is_being_dialled(make_proxy: MakeProxy) -> None:
    class Dialling(Messages):
        def server_connect(self, data: Any) -> None:
            data.server.address = ("192.0.2.1", 9)  # answers nothing, or cannot be reached
            asyncio.get_running_loop().call_soon(self.flow.kill)

    proxy = await make_proxy(Dialling())
    async with tunnel(proxy, 9, HELLO) as (reader, _):
        with pytest.raises(ConnectionResetError):
            await reader.read()
    await ends(proxy, "client_disconnected")
    assert proxy.recorder.of("tcp_error") == ["tcp_error"]


# --- clients and servers that leave ---------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["client", "server"])
@pytest.mark.parametrize("where", ["tcp_start", "server_connect", "server_connected", "tcp_message"])
async def test_whoever_leaves_in_whatever_hook_leaves_nothing(make_proxy: MakeProxy, where: str, who: str) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()

    class Waiting:
        async def tcp_start(self, flow: TCPFlow) -> None:
            await self._at("tcp_start")

        async def server_connect(self, data: object) -> None:
            await self._at("server_connect")

        async def server_connected(self, data: object) -> None:
            await self._at("server_connected")

        async def tcp_message(self, flow: TCPFlow) -> None:
            await self._at("tcp_message")

        async def _at(self, hook: str) -> None:
            if hook == where and not entered.is_set():
                entered.set()
                await go_on.wait()

    async def leave(connection: OriginConnection) -> None:
        await entered.wait()
        connection.reset()

    proxy = await make_proxy(Waiting())
    async with (run_origin(leave if who == "server" else echo) as origin,
                tunnel(proxy, origin.port, HELLO) as (_, writer)):
        await entered.wait()
        if who == "client":
            reset(writer)
        go_on.set()
        await ends(proxy, "client_disconnected")
    assert len(proxy.recorder.of("tcp_end", "tcp_error")) == 1
    assert not proxy.core.sessions
