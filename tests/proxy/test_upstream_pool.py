"""The upstream pool: which connections are reused, and by whom."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from rulesproxy.model.connection import ServerConnectionHookData
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.http import Response
from rulesproxy.proxy.upstream.connection import UpstreamConnection
from rulesproxy.proxy.upstream.target import Target
from tests.support.automaton import Recorder
from tests.support.certificates import OriginCA
from tests.support.leaks import until
from tests.support.origin import HELLO, OriginConnection, answering, run_origin
from tests.support.stage import SECONDS, Stage, here

# --- reuse ------------------------------------------------------------------------------------------------------


async def test_second_exchange_reuses_the_connection(stage: Stage) -> None:
    async with run_origin() as origin:
        first = await stage.exchange(here(origin.port))
        assert not first.server.timestamp_end
        second = await stage.exchange(here(origin.port))
        assert second is first and second.reused
        assert len(origin.connections) == 1
        assert len(origin.requests) == 2
        await stage.pool.aclose()


async def test_flow_carries_the_server_of_its_connection(stage: Stage) -> None:
    async with run_origin() as origin:
        flow, later = stage.flow(), stage.flow()
        connection = await stage.exchange(here(origin.port), flow)
        await stage.exchange(here(origin.port), later)
        assert flow.server_conn is later.server_conn is connection.server
        assert connection.server.peername == ("127.0.0.1", origin.port)
        assert connection.server.address == ("127.0.0.1", origin.port)
        assert connection.server.connected and connection.server.timestamp_tcp_setup
        await stage.pool.aclose()
        assert not connection.server.connected and connection.server.timestamp_end


async def test_connection_in_use_is_nobody_elses(stage: Stage) -> None:
    async with run_origin() as origin:
        flow, other = stage.flow(), stage.flow()
        first = await stage.acquire(here(origin.port), flow)
        second = await stage.acquire(here(origin.port), other)
        assert first is not second
        stage.pool.release(first, True, flow)
        stage.pool.release(second, True, other)
        assert await stage.acquire(here(origin.port)) is second  # the last one given back
        assert await stage.acquire(here(origin.port)) is first
        for connection in (first, second):
            stage.pool.discard(connection)
        await stage.pool.aclose()


@pytest.mark.parametrize("change", [
    {"host": "127.0.0.2"}, {"scheme": "https"}, {"sni": "other.test"}, {"verify": False}, {"alpn": ("h2",)}])
async def test_connection_is_not_reused_for_another_target(stage: Stage, change: dict[str, Any]) -> None:
    async with run_origin() as origin:
        await stage.exchange(here(origin.port))
        target = here(origin.port)._replace(**change)
        taken = stage.pool._take(target, stage.client())
        assert taken is None and stage.pool.idle_count == 1
        await stage.pool.aclose()


async def test_fresh_insists_on_a_new_connection(stage: Stage) -> None:
    async with run_origin() as origin:
        first = await stage.exchange(here(origin.port))
        flow = stage.flow()
        second = await stage.acquire(here(origin.port), flow, fresh=True)
        assert second is not first and not second.reused
        stage.pool.release(second, True, flow)
        await stage.pool.aclose()


async def test_connection_given_back_as_not_reusable_is_closed(stage: Stage) -> None:
    async with run_origin() as origin:
        flow = stage.flow()
        connection = await stage.acquire(here(origin.port), flow)
        await stage.converse(connection)
        stage.pool.release(connection, False, flow)
        async with asyncio.timeout(SECONDS):
            await origin.connections[0].ended.wait()
        assert stage.pool.idle_count == 0
        await stage.pool.aclose()


async def test_more_bytes_than_the_answer_disqualify_a_connection(stage: Stage) -> None:
    async with run_origin(HELLO + b"HTTP/1.1 200 OK\r\n") as origin:
        flow = stage.flow()
        connection = await stage.acquire(here(origin.port), flow)
        await stage.converse(connection)
        # The excess came with the answer, or is on its way: both must be seen.
        await until(lambda: connection.receiver.has_data, 0.2)
        stage.pool.release(connection, True, flow)
        assert stage.pool._take(here(origin.port), flow.client_conn) is None
        await stage.pool.aclose()


async def scripted_after_answer(connection: OriginConnection, act: Callable[[OriginConnection], Awaitable[None]],
                                go: asyncio.Event) -> None:
    await connection.read_request()
    await connection.send(HELLO)
    await go.wait()
    await act(connection)
    await connection.read_to_end()


async def _send_unasked(connection: OriginConnection) -> None:
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")


async def _finish(connection: OriginConnection) -> None:
    connection.close()


async def _reset(connection: OriginConnection) -> None:
    connection.reset()


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize("act", [_send_unasked, _finish, _reset])
async def test_what_happens_to_an_idle_connection_is_seen_before_reuse(
        stage: Stage, origin_ca: OriginCA, act: Callable[[OriginConnection], Awaitable[None]], tls: bool) -> None:
    go = asyncio.Event()
    stage.core.settings.upstream_ca = origin_ca.pem
    context = origin_ca.server_context("127.0.0.1") if tls else None

    async def script(connection: OriginConnection) -> None:
        await scripted_after_answer(connection, act, go)

    async with run_origin(script, tls=context) as origin:
        target = here(origin.port, scheme="https" if tls else "http")
        first = await stage.exchange(target)
        go.set()
        await until(lambda: first.stream.closing or _unread(first.stream) > 0)
        flow = stage.flow()
        second = await stage.acquire(target, flow)
        assert second is not first
        stage.pool.discard(second)
        await stage.pool.aclose()


def _unread(stream: Any) -> int:
    """How much has arrived at the socket beneath the stream."""
    size: int = getattr(stream, "inner", stream)._buffer.size
    return size


async def test_tls_connection_is_reused_although_tickets_arrived(stage: Stage, origin_ca: OriginCA) -> None:
    stage.core.settings.upstream_ca = origin_ca.pem
    async with run_origin(tls=origin_ca.server_context("127.0.0.1")) as origin:
        target = here(origin.port, scheme="https")
        first = await stage.acquire(target)
        await until(lambda: _unread(first.stream) > 0, 0.5)  # session tickets, as TLS 1.3 sends them
        stage.pool.release(first, True, stage.flow())
        assert await stage.exchange(target) is first
        await stage.pool.aclose()


async def test_closed_idle_connection_is_noticed_without_a_request(stage: Stage) -> None:
    recorder = Recorder()
    stage.addons.add(recorder)
    go = asyncio.Event()

    async def script(connection: OriginConnection) -> None:
        await scripted_after_answer(connection, _finish, go)

    async with run_origin(script) as origin:
        await stage.exchange(here(origin.port))
        assert stage.pool.idle_count == 1
        go.set()
        assert await until(lambda: "server_disconnected" in recorder.names, 5)
        assert stage.pool.idle_count == 0


async def test_idle_connection_expires(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage(idle_timeout=0.05)
    async with run_origin() as origin:
        await stage.exchange(here(origin.port))
        async with asyncio.timeout(5):
            await origin.connections[0].ended.wait()
        assert stage.pool.idle_count == 0


async def test_idle_connections_are_bounded_per_key(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage(per_key=2)
    async with run_origin() as origin:
        flows = [stage.flow() for _ in range(5)]
        connections = [await stage.acquire(here(origin.port), flow) for flow in flows]
        for flow, connection in zip(flows, connections, strict=True):
            stage.pool.release(connection, True, flow)
        assert stage.pool.idle_count == 2
        assert await stage.acquire(here(origin.port), flows[0]) is connections[4]
        stage.pool.discard(connections[4])
        await stage.pool.aclose()


async def test_idle_connections_are_bounded_in_all(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage(total=2)
    async with run_origin() as one, run_origin() as two, run_origin() as three:
        first = await stage.exchange(here(one.port))
        await stage.exchange(here(two.port))
        await stage.exchange(here(three.port))
        assert stage.pool.idle_count == 2
        async with asyncio.timeout(SECONDS):
            await one.connections[0].ended.wait()  # the oldest went
        assert not first.server.connected
        await stage.pool.aclose()


async def test_release_after_aclose_closes(stage: Stage) -> None:
    async with run_origin() as origin:
        flow = stage.flow()
        connection = await stage.acquire(here(origin.port), flow)
        await stage.pool.aclose()
        stage.pool.release(connection, True, flow)
        assert stage.pool.idle_count == 0
        await stage.pool.aclose()
        assert not connection.server.connected


async def test_many_clients_never_get_each_others_answers(stage: Stage) -> None:
    def echo_path(request: Any) -> bytes:
        body: bytes = request.target
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)

    async def one(number: int) -> None:
        for turn in range(10):
            flow = stage.flow()
            connection = await stage.acquire(here(origin.port), flow)
            path = b"/%d-%d" % (number, turn)
            await connection.stream.write(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path)
            receiver = connection.receiver
            while receiver.next_response("GET") is None:
                receiver.feed(await connection.stream.read())
            while (piece := receiver.next_body()) is None:
                receiver.feed(await connection.stream.read())
            assert piece == path
            receiver.next_body()
            stage.pool.release(connection, True, flow)

    async with run_origin(answering(echo_path)) as origin:
        async with asyncio.timeout(SECONDS):
            await asyncio.gather(*(one(number) for number in range(20)))
        assert len(origin.requests) == 200
        assert len(origin.connections) <= 20
        await stage.pool.aclose()


@pytest.mark.parametrize("seed", range(6))
async def test_books_balance_whatever_happens(make_stage: Callable[..., Stage], seed: int) -> None:
    """Random acquires, releases, departures and closing origins: counts fit, nobody shares, nothing is lost."""
    chance = random.Random(seed)
    stage = make_stage(per_key=3, total=6)
    pool = stage.pool
    async with run_origin() as one, run_origin() as two, run_origin() as three:
        targets = [here(origin.port) for origin in (one, two, three)]
        clients = [stage.client() for _ in range(3)]
        held: list[tuple[UpstreamConnection, HTTPFlow]] = []
        for _ in range(150):
            match chance.choice(("acquire", "acquire", "release", "release", "drop", "forget", "origin closes")):
                case "acquire":
                    headers = {"authorization": "NTLM x"} if chance.random() < 0.3 else {}
                    flow = stage.flow(chance.choice(clients), **headers)
                    connection = await stage.acquire(chance.choice(targets), flow)
                    assert connection not in [other for other, _ in held]
                    assert not connection.stream.closing
                    assert not connection.tied or connection.client is flow.client_conn
                    held.append((connection, flow))
                case "release" | "drop" as step if held:
                    connection, flow = held.pop(chance.randrange(len(held)))
                    pool.release(connection, step == "release", flow)
                case "forget":
                    pool.forget(chance.choice(clients))
                case "origin closes":
                    origin = chance.choice((one, two, three))
                    if origin.connections:
                        chance.choice(origin.connections).close()
            idle = [connection for connections in pool._idle._connections.values() for connection in connections]
            assert len(idle) == len(set(idle)) == pool.idle_count <= 6
            assert pool._idle._tied == sum(connection.tied for connection in idle)
            assert all(0 < len(connections) <= 3 for connections in pool._idle._connections.values())
            assert not set(idle) & {connection for connection, _ in held}
        for connection, flow in held:
            pool.release(connection, False, flow)
        await pool.aclose()


# --- who may share ----------------------------------------------------------------------------------------------


class Redirect:
    """Sends connections elsewhere, as a script does."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.calls = 0

    def server_connect(self, data: ServerConnectionHookData) -> None:
        self.calls += 1
        data.server.address = ("127.0.0.1", self.port)


async def test_clients_share_connections(stage: Stage) -> None:
    async with run_origin() as origin:
        first = await stage.exchange(here(origin.port), stage.flow(stage.client()))
        second = await stage.exchange(here(origin.port), stage.flow(stage.client()))
        assert first is second
        await stage.pool.aclose()


async def test_clients_do_not_share_while_an_addon_handles_server_connect(make_stage: Callable[..., Stage]) -> None:
    async with run_origin() as origin:
        redirect = Redirect(origin.port)
        stage = make_stage(redirect)
        alice, bob = stage.client(), stage.client()
        target = Target("nowhere.test", 80)
        first = await stage.exchange(target, stage.flow(alice))
        second = await stage.exchange(target, stage.flow(bob))
        assert first is not second
        assert await stage.exchange(target, stage.flow(alice)) is first
        assert await stage.exchange(target, stage.flow(bob)) is second
        assert redirect.calls == 2  # a redirect costs no new connection per request
        assert first.server.address == ("127.0.0.1", origin.port)
        stage.pool.forget(alice)
        assert stage.pool.idle_count == 1
        assert await stage.exchange(target, stage.flow(bob)) is second
        await stage.pool.aclose()


async def test_connection_made_before_the_addon_came_is_not_taken(stage: Stage) -> None:
    async with run_origin() as origin:
        first = await stage.exchange(here(origin.port))
        stage.addons.add(Redirect(origin.port))
        assert await stage.exchange(here(origin.port)) is not first
        await stage.pool.aclose()


@pytest.mark.parametrize("scheme", ["NTLM TlRMTVNTUAAB", "Negotiate YIIB", "negotiate x", "NTLM"])
async def test_connection_bound_authentication_ties_a_connection_to_its_client(stage: Stage, scheme: str) -> None:
    async with run_origin() as origin:
        alice, bob = stage.client(), stage.client()
        first = await stage.exchange(here(origin.port), stage.flow(alice, authorization=scheme))
        second = await stage.exchange(here(origin.port), stage.flow(bob))
        assert second is not first
        assert await stage.exchange(here(origin.port), stage.flow(alice)) is first  # also without the field
        third = await stage.exchange(here(origin.port), stage.flow(bob))
        assert third is second
        stage.pool.forget(alice)
        assert stage.pool.idle_count == 1
        await stage.pool.aclose()


async def test_offer_of_connection_bound_authentication_ties_too(stage: Stage) -> None:
    async with run_origin() as origin:
        flow = stage.flow()
        flow.response = Response.make(401, headers={"WWW-Authenticate": "NTLM"})
        first = await stage.exchange(here(origin.port), flow)
        assert await stage.exchange(here(origin.port)) is not first
        assert await stage.exchange(here(origin.port), stage.flow(flow.client_conn)) is first
        await stage.pool.aclose()


@pytest.mark.parametrize("field", ["Basic TlRMTQ==", "Bearer NTLM", "Digest x"])
async def test_other_authentication_does_not_tie(stage: Stage, field: str) -> None:
    async with run_origin() as origin:
        first = await stage.exchange(here(origin.port), stage.flow(authorization=field))
        assert await stage.exchange(here(origin.port)) is first
        await stage.pool.aclose()
