"""UDP: flows by client address, what hooks may do with datagrams, and how flows end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from rulesproxy.model.effects import Drop, Route
from rulesproxy.model.policy import TunnelDecision
from rulesproxy.model.udp import UDPFlow
from rulesproxy.proxy.raw.udp import UdpProxy
from tests.support.app import RunningApp
from tests.support.dns_upstream import FakeResolver
from tests.support.leaks import until
from tests.support.proxy import RunningProxy
from tests.support.tools import run_tool

MakeApp = Callable[..., Awaitable[RunningApp]]
MakeProxy = Callable[..., Awaitable[RunningProxy]]

SECONDS = 5.0
UDP = ("udp_start", "udp_message", "udp_end", "udp_error")


class Peer:
    """A UDP socket with awaitable calls."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.port = sock.getsockname()[1]

    def send(self, data: bytes, port: int) -> None:
        self._sock.sendto(data, ("127.0.0.1", port))

    async def receive(self, seconds: float = SECONDS) -> tuple[bytes, int]:
        """The next datagram and the port it came from."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(seconds):
            while True:
                try:
                    data, (_, port) = self._sock.recvfrom(65535)
                    return data, port
                except BlockingIOError:  # uvloop has no sock_recvfrom
                    readable = asyncio.Event()
                    loop.add_reader(self._sock, readable.set)
                    try:
                        await readable.wait()
                    finally:
                        loop.remove_reader(self._sock)

    async def hears_nothing(self) -> bool:
        try:
            await self.receive(0.15)
        except TimeoutError:
            return True
        return False


@contextmanager
def peer() -> Iterator[Peer]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        yield Peer(sock)


@asynccontextmanager
async def udp_proxy(proxy: RunningProxy, port: int, host: str = "127.0.0.1", **limits: Any) -> AsyncIterator[UdpProxy]:
    """A reverse:udp listener in front of `host:port`, on the core of a running proxy."""
    udp = UdpProxy(proxy.core, "reverse", (host, port), **limits)
    await udp.start("127.0.0.1", 0)
    try:
        yield udp
    finally:
        await udp.stop(SECONDS)
        assert not udp.flows


def listening(app: RunningApp) -> int:
    """The port of its reverse:udp listener."""
    [port] = [address[1] for mode, address in app.app.listening if mode.transport == "udp"]
    return port


async def fired(proxy: RunningProxy, *names: str) -> None:
    assert await until(lambda: bool(proxy.recorder.of(*names))), proxy.recorder.names


class Messages:
    def __init__(self, on_message: Callable[[UDPFlow, Any], Any] | None = None,
                 on_start: Callable[[UDPFlow], Any] | None = None) -> None:
        self._on_message = on_message
        self._on_start = on_start
        self.flow: Any = None
        self.seen: list[tuple[bool, bytes]] = []

    def udp_start(self, flow: UDPFlow) -> None:
        self.flow = flow
        if self._on_start is not None:
            self._on_start(flow)

    async def udp_message(self, flow: UDPFlow) -> None:
        message = flow.messages[-1]
        self.seen.append((message.from_client, message.content))
        if self._on_message is not None and asyncio.iscoroutine(result := self._on_message(flow, message)):
            await result


# --- passing on -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("record", [True, False])
async def test_datagrams_pass_both_ways_whole_and_one_by_one(make_proxy: MakeProxy, record: bool) -> None:
    """`record`: whether somebody handles the hooks."""
    proxy = await make_proxy(record=record)
    with peer() as server, peer() as client:
        async with udp_proxy(proxy, server.port) as udp:
            for data in (b"one", b"", b"x" * 60000, bytes(range(256))):
                client.send(data, udp.address[1])
                received, source = await server.receive()
                assert received == data
                server.send(data[::-1], source)
                assert await client.receive() == (data[::-1], udp.address[1])
            assert len(udp.flows) == 1


async def test_the_hooks_of_a_flow_in_order(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()
    with peer() as server, peer() as client:
        async with udp_proxy(proxy, server.port) as udp:
            client.send(b"ping", udp.address[1])
            _, source = await server.receive()
            server.send(b"pong", source)
            await client.receive()
    assert proxy.recorder.names == [
        "client_connected", "udp_start", "server_connect", "server_connected", "udp_message", "udp_message", "udp_end",
        "server_disconnected", "client_disconnected"]
    [flow] = proxy.recorder.arguments("udp_end")
    assert [(message.from_client, message.content) for message in flow.messages] == [(True, b"ping"), (False, b"pong")]
    assert (flow.type, flow.error, flow.live) == ("udp", None, False)
    assert flow.client_conn.transport_protocol == flow.server_conn.transport_protocol == "udp"
    assert (flow.client_conn.peername, flow.client_conn.proxy_mode) == (("127.0.0.1", client.port), "reverse")
    assert flow.client_conn.listener == f"127.0.0.1:{udp.address[1]}"
    assert (flow.tunnel.host, flow.tunnel.port) == flow.server_conn.peername == ("127.0.0.1", server.port)
    assert flow.server_conn.sockname == ("127.0.0.1", source)


async def test_each_client_has_a_flow_and_hears_only_its_own_answers(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()
    with peer() as server, peer() as one, peer() as other:
        async with udp_proxy(proxy, server.port) as udp:
            sources = {}
            for client, name in ((one, b"one"), (other, b"other"), (one, b"one"), (other, b"other")):
                client.send(name, udp.address[1])
                data, source = await server.receive()
                assert data == name and sources.setdefault(name, source) == source
            server.send(b"for other", sources[b"other"])
            server.send(b"for one", sources[b"one"])
            assert (await one.receive())[0] == b"for one" and (await other.receive())[0] == b"for other"
            assert len(udp.flows) == 2


async def test_a_stranger_cannot_answer_for_the_server(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()
    with peer() as server, peer() as client, peer() as stranger:
        async with udp_proxy(proxy, server.port) as udp:
            client.send(b"ping", udp.address[1])
            _, source = await server.receive()
            stranger.send(b"lies", source)
            server.send(b"pong", source)
            assert await client.receive() == (b"pong", udp.address[1])


async def test_a_name_is_looked_up_and_server_connect_may_lead_elsewhere(make_proxy: MakeProxy) -> None:
    class Redirect:
        def server_connect(self, data: Any) -> None:
            data.server.address = ("localhost", server.port)

    proxy = await make_proxy(Redirect())
    with peer() as server, peer() as client:
        async with udp_proxy(proxy, 9, "nowhere.test") as udp:
            client.send(b"ping", udp.address[1])
            assert (await server.receive())[0] == b"ping"


# --- hooks ----------------------------------------------------------------------------------------------------------


async def test_a_datagram_may_be_changed_emptied_and_dropped(make_proxy: MakeProxy) -> None:
    def judge(flow: UDPFlow, message: Any) -> None:
        match message.content:
            case b"change":
                message.content = b"changed"
            case b"empty":
                message.content = b""
            case b"drop":
                message.drop()

    proxy = await make_proxy(Messages(judge))
    with peer() as server, peer() as client:
        async with udp_proxy(proxy, server.port) as udp:
            for data in (b"drop", b"change", b"empty"):
                client.send(data, udp.address[1])
            assert [(await server.receive())[0] for _ in range(2)] == [b"changed", b""]


async def test_hooks_of_one_flow_never_overlap_and_order_is_kept(make_proxy: MakeProxy) -> None:
    inside, most = 0, 0

    async def slowly(flow: UDPFlow, message: Any) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0.002)
        assert flow.messages[-1] is message
        inside -= 1

    proxy = await make_proxy(Messages(slowly))
    with peer() as server, peer() as client:
        async with udp_proxy(proxy, server.port) as udp:
            for number in range(30):
                client.send(b"%d" % number, udp.address[1])
            first, source = await server.receive()
            for number in range(30):
                server.send(b"%d" % number, source)
            expected = [b"%d" % number for number in range(30)]
            assert [first, *[(await server.receive())[0] for _ in range(29)]] == expected
            assert [(await client.receive())[0] for _ in range(30)] == expected
    assert most == 1


async def test_what_waits_behind_a_handler_is_bounded(make_proxy: MakeProxy) -> None:
    go_on = asyncio.Event()
    addon = Messages(lambda flow, message: go_on.wait())
    proxy = await make_proxy(addon)
    with peer() as server, peer() as client:
        async with udp_proxy(proxy, server.port) as udp:
            for _ in range(8):
                for _ in range(20):
                    client.send(bytes(20000), udp.address[1])
                await asyncio.sleep(0.01)
            await fired(proxy, "udp_message")
            go_on.set()
            client.send(b"last", udp.address[1])
            assert (await server.receive())[0] == bytes(20000)
            assert await until(lambda: len(addon.seen) >= 50)
    assert len(addon.seen) < 60  # of 160: a mebibyte and what was in hand


async def test_the_history_is_bounded(make_proxy: MakeProxy) -> None:
    addon = Messages()
    proxy = await make_proxy(addon)
    with peer() as server, peer() as client:
        async with udp_proxy(proxy, server.port) as udp:
            for number in range(250):
                client.send(b"%d" % number, udp.address[1])
                await server.receive()
    assert len(addon.seen) == 250 and len(addon.flow.messages) <= 200


async def test_injected_datagrams_reach_both_sides(make_proxy: MakeProxy) -> None:
    addon = Messages(on_start=lambda flow: flow.inject(b"early", to_client=False))
    proxy = await make_proxy(addon)
    with peer() as server, peer() as client:
        async with udp_proxy(proxy, server.port) as udp:
            client.send(b"ping", udp.address[1])
            assert sorted([(await server.receive())[0], (await server.receive())[0]]) == [b"early", b"ping"]
            addon.flow.inject(b"to client", to_client=True)
            assert await client.receive() == (b"to client", udp.address[1])
            addon.flow.inject(b"", to_client=False)
            assert (await server.receive())[0] == b""
        addon.flow.inject(b"too late", to_client=True)
        assert await client.hears_nothing()
    assert [message.injected for message in addon.flow.messages] == [False, True, True, True]
    assert proxy.recorder.arguments("update") == [[addon.flow]] * 3


async def test_a_handler_that_always_injects_does_not_stop_the_proxy(make_proxy: MakeProxy) -> None:
    def again(flow: UDPFlow, message: Any) -> None:
        addon.seen.clear()
        flow.inject(b"again", to_client=True)
        if message.injected:
            message.drop()

    addon = Messages(again)
    proxy = await make_proxy(addon, record=False)
    with peer() as server, peer() as client:
        async with udp_proxy(proxy, server.port) as udp:
            client.send(b"ping", udp.address[1])
            await server.receive()
            addon.flow.kill()
            assert await until(lambda: not udp.flows)


async def test_handlers_that_come_later_see_what_comes_later(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(record=False)
    addon = Messages()
    with peer() as server, peer() as client:
        async with udp_proxy(proxy, server.port) as udp:
            client.send(b"before", udp.address[1])
            await server.receive()
            proxy.addons.add(addon)
            client.send(b"after", udp.address[1])
            await server.receive()
    assert addon.seen == [(True, b"after")]


# --- ends -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("record", [True, False])
async def test_a_silent_flow_ends_and_the_next_datagram_begins_another(make_proxy: MakeProxy, record: bool) -> None:
    proxy = await make_proxy(record=record, udp_timeout=0.3)
    with peer() as server, peer() as client:
        async with udp_proxy(proxy, server.port) as udp:
            client.send(b"one", udp.address[1])
            _, first = await server.receive()
            for _ in range(4):  # longer than the limit altogether, but never silent for so long
                await asyncio.sleep(0.1)
                client.send(b"more", udp.address[1])
                assert (await server.receive())[1] == first
            assert await until(lambda: not udp.flows)
            client.send(b"two", udp.address[1])
            data, second = await server.receive()
            assert data == b"two" and second != first
    if record:
        assert proxy.recorder.of(*UDP).count("udp_end") == 2


async def test_nobody_listens_there(make_proxy: MakeProxy) -> None:
    with peer() as server:
        port = server.port
    proxy = await make_proxy()
    with peer() as client:
        async with udp_proxy(proxy, port) as udp:
            client.send(b"ping", udp.address[1])
            await fired(proxy, "udp_error")
            assert await until(lambda: not udp.flows)
            client.send(b"again", udp.address[1])  # it may be there by now
            assert await until(lambda: proxy.recorder.of("udp_error") == ["udp_error"] * 2)
    flow = proxy.recorder.arguments("udp_error")[0]
    assert flow.error.msg == f"127.0.0.1:{port}: nobody listens"


async def test_a_server_that_goes_away_is_noticed_by_the_next_datagram(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(record=False)
    with peer() as client:
        with peer() as server:
            port = server.port
            udp = UdpProxy(proxy.core, "reverse", ("127.0.0.1", port))
            await udp.start("127.0.0.1", 0)
            client.send(b"ping", udp.address[1])
            await server.receive()
        client.send(b"ping", udp.address[1])
        assert await until(lambda: not udp.flows)
        await udp.stop(SECONDS)


async def test_a_server_without_an_address(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()
    with peer() as client:
        async with udp_proxy(proxy, 9, "does-not-exist.invalid") as udp:
            client.send(b"ping", udp.address[1])
            await fired(proxy, "client_disconnected")
    assert proxy.recorder.of(*UDP, "server_connect", "server_connect_error") == [
        "udp_start", "server_connect", "server_connect_error", "udp_error"]


async def test_datagrams_to_ourselves_do_not_go_round(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()
    with peer() as client:
        udp = UdpProxy(proxy.core, "reverse", ("127.0.0.1", 0))
        await udp.start("127.0.0.1", 0)
        udp._destination = udp.address
        client.send(b"ping", udp.address[1])
        await fired(proxy, "udp_error")
        await udp.stop(SECONDS)
    [flow] = proxy.recorder.arguments("udp_error")
    assert "this proxy itself" in flow.error.msg


@pytest.mark.parametrize("how", ["kill", *Drop])
async def test_a_killed_or_dropped_client_is_not_heard_for_a_while(make_proxy: MakeProxy, how: Any) -> None:
    def end(flow: UDPFlow, message: Any) -> None:
        if message.content == b"bad":
            if how == "kill":
                flow.kill()
            else:
                flow.drop = how

    proxy = await make_proxy(Messages(end), udp_timeout=0.5)
    with peer() as server, peer() as client:
        async with udp_proxy(proxy, server.port) as udp:
            client.send(b"bad", udp.address[1])
            client.send(b"behind it", udp.address[1])
            await fired(proxy, "udp_error")
            client.send(b"later", udp.address[1])
            assert await server.hears_nothing()
            assert proxy.recorder.of("udp_start") == ["udp_start"]
            await asyncio.sleep(0.5)
            client.send(b"good", udp.address[1])
            assert (await server.receive())[0] == b"good"
    assert proxy.recorder.of(*UDP) == ["udp_start", "udp_message", "udp_error", "udp_start", "udp_message", "udp_end"]


@pytest.mark.parametrize("where", ["udp_start", "server_connect", "server_connected", "udp_message"])
async def test_kill_in_every_hook(make_proxy: MakeProxy, where: str) -> None:
    class Killer:
        flow: Any = None

        def udp_start(self, flow: UDPFlow) -> None:
            self.flow = flow
            self._at("udp_start")

        def server_connect(self, data: object) -> None:
            self._at("server_connect")

        def server_connected(self, data: object) -> None:
            self._at("server_connected")

        def udp_message(self, flow: UDPFlow) -> None:
            self._at("udp_message")

        async def udp_error(self, flow: UDPFlow) -> None:
            await asyncio.sleep(0.01)

        def _at(self, hook: str) -> None:
            if hook == where:
                self.flow.kill()

    proxy = await make_proxy(Killer())
    with peer() as server, peer() as client:
        async with udp_proxy(proxy, server.port) as udp:
            client.send(b"ping", udp.address[1])
            await fired(proxy, "client_disconnected")
            assert await server.hears_nothing()
    assert proxy.recorder.of("udp_error", "udp_end") == ["udp_error"]
    assert proxy.recorder.arguments("udp_error")[0].error.msg == "Connection killed."


async def test_kill_while_nothing_happens(make_proxy: MakeProxy) -> None:
    addon = Messages()
    proxy = await make_proxy(addon)
    with peer() as server, peer() as client:
        async with udp_proxy(proxy, server.port) as udp:
            client.send(b"ping", udp.address[1])
            await server.receive()
            addon.flow.kill()
            await fired(proxy, "udp_error")


async def test_a_client_that_is_refused_in_client_connected(make_proxy: MakeProxy) -> None:
    class Refuse:
        def client_connected(self, client: Any) -> None:
            client.error = "no"

    proxy = await make_proxy(Refuse())
    with peer() as server, peer() as client:
        async with udp_proxy(proxy, server.port) as udp:
            client.send(b"ping", udp.address[1])
            client.send(b"ping", udp.address[1])
            await fired(proxy, "client_disconnected")
            assert await server.hears_nothing()
    assert proxy.recorder.names == ["client_connected", "client_disconnected"]


async def test_connect_rules_are_asked(make_proxy: MakeProxy) -> None:
    class Policy:
        decision = TunnelDecision(refused=True)

        def tunnel_decision(self, tunnel: Any) -> TunnelDecision:
            return self.decision

    policy = Policy()
    proxy = await make_proxy(policy)
    with peer() as server, peer() as other, peer() as client, peer() as another:
        async with udp_proxy(proxy, server.port) as udp:
            client.send(b"ping", udp.address[1])
            await fired(proxy, "client_disconnected")
            assert await server.hears_nothing()
            policy.decision = TunnelDecision(route=Route(port=other.port))
            another.send(b"ping", udp.address[1])
            assert (await other.receive())[0] == b"ping"
    assert proxy.recorder.of(*UDP) == ["udp_start", "udp_message", "udp_end"]


async def test_new_rules_end_a_flow_when_it_is_quiet(make_app: MakeApp) -> None:
    with peer() as server, peer() as client:
        app = await make_app("  - {name: other, match: {host: other.test}, action: {block: {}}}",
                             mode=(f"reverse:udp://127.0.0.1:{server.port}@127.0.0.1:0",))
        port = listening(app)
        client.send(b"before", port)
        assert (await server.receive())[0] == b"before"
        await app.edit("  - {name: no, match: {host: 127.0.0.1}, action: {block: {}}}")
        await fired(app, "udp_end")
        client.send(b"after", port)
        assert await server.hears_nothing()


async def test_rules_about_datagrams(make_app: MakeApp) -> None:
    with peer() as server, peer() as client:
        app = await make_app("  - {name: no, match: {text: bad}, action: {udp: {drop: true}}}",
                             mode=(f"reverse:udp://127.0.0.1:{server.port}@127.0.0.1:0",))
        port = listening(app)
        for data in (b"good", b"bad", b"better"):
            client.send(data, port)
        assert [(await server.receive())[0] for _ in range(2)] == [b"good", b"better"]


async def test_dns_passes_as_any_udp(make_app: MakeApp) -> None:
    async with FakeResolver({("host.test", "A"): ["192.0.2.1"]}) as resolver:
        app = await make_app("  []", mode=(f"reverse:udp://{resolver.address}@127.0.0.1:0",))
        done = await run_tool("dig", "@127.0.0.1", "-p", str(listening(app)), "+short", "+tries=1", "host.test", "A")
    assert done.text.split() == ["192.0.2.1"]


async def test_there_is_a_limit_to_flows(make_proxy: MakeProxy, caplog: pytest.LogCaptureFixture) -> None:
    proxy = await make_proxy()
    with peer() as server, peer() as one, peer() as other:
        async with udp_proxy(proxy, server.port, limit=1) as udp:
            one.send(b"one", udp.address[1])
            await server.receive()
            for _ in range(3):
                other.send(b"other", udp.address[1])
            one.send(b"one", udp.address[1])
            assert (await server.receive())[0] == b"one"
            assert len(udp.flows) == 1
    assert len([record for record in caplog.records if "1 flows are open" in record.getMessage()]) == 1


async def test_stopping_does_not_wait_for_a_handler_that_never_returns(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(Messages(lambda flow, message: asyncio.Event().wait()))
    with peer() as server, peer() as client:
        udp = UdpProxy(proxy.core, "reverse", ("127.0.0.1", server.port))
        await udp.start("127.0.0.1", 0)
        client.send(b"ping", udp.address[1])
        await fired(proxy, "udp_message")
        async with asyncio.timeout(SECONDS):
            await udp.stop(0.1)
    assert proxy.recorder.of("udp_end") == ["udp_end"]


async def test_a_port_in_use_is_an_error(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()
    with peer() as server, pytest.raises(OSError, match="in use"):
        await UdpProxy(proxy.core, "reverse", ("127.0.0.1", 9)).start("127.0.0.1", server.port)
