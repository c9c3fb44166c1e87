"""The upstream pool and the connector beneath it, against real sockets."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from rulesproxy.addons.manager import AddonManager
from rulesproxy.addons.options import Options
from rulesproxy.certs.authority import Authority
from rulesproxy.model.connection import Client, ServerConnectionHookData
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.http import Request, Response
from rulesproxy.model.policy import NameAnswer
from rulesproxy.net.resolve import SystemResolver
from rulesproxy.proxy.core import Core
from rulesproxy.proxy.upstream import Target, UpstreamConnection, UpstreamError, UpstreamPool
from tests.support.automaton import Recorder
from tests.support.certificates import OriginCA
from tests.support.leaks import until
from tests.support.origin import HELLO, OriginConnection, answering, run_origin

SECONDS = 10.0


class Stage:
    """A core with a pool, and the few steps of an exchange that the pool sees."""

    def __init__(self, authority: Authority, **limits: Any) -> None:
        self.addons = AddonManager(Options())
        self.core = Core(self.addons, authority, SystemResolver())
        self.core.settings.connect_timeout = self.core.settings.tls_timeout = 3.0
        self.pool = self.core.upstream = UpstreamPool(self.core, **limits)
        self.clients = 0

    def client(self) -> Client:
        self.clients += 1
        return Client(peername=("127.0.0.1", self.clients))

    def flow(self, client: Client | None = None, **headers: str) -> HTTPFlow:
        client = client or self.client()
        flow = HTTPFlow(client, None)  # type: ignore[arg-type]
        flow.request = Request.make("GET", "http://origin.test/", headers=headers)
        flow.response = Response.make(200)
        return flow

    async def acquire(self, target: Target, flow: HTTPFlow | None = None, **options: Any) -> UpstreamConnection:
        async with asyncio.timeout(SECONDS):
            return await self.pool.acquire(flow or self.flow(), target, **options)

    async def exchange(self, target: Target, flow: HTTPFlow | None = None) -> UpstreamConnection:
        """One request, its answer read to the end, the connection given back."""
        flow = flow or self.flow()
        connection = await self.acquire(target, flow)
        await self.converse(connection)
        self.pool.release(connection, True, flow)
        return connection

    async def converse(self, connection: UpstreamConnection) -> None:
        async with asyncio.timeout(SECONDS):
            await connection.stream.write(b"GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n")
            receiver = connection.receiver
            while (head := receiver.next_response("GET")) is None:
                receiver.feed(await connection.stream.read())
            left = head.framing.length
            while left:
                piece = receiver.next_body()
                if isinstance(piece, bytes):
                    left -= len(piece)
                elif piece is None:
                    receiver.feed(await connection.stream.read())
            receiver.next_body()

    async def failure(self, target: Target, flow: HTTPFlow | None = None) -> UpstreamError:
        with pytest.raises(UpstreamError) as caught:
            await self.acquire(target, flow)
        return caught.value


@pytest.fixture
async def make_stage(no_leaks: None, authority: Authority) -> AsyncIterator[Callable[..., Stage]]:
    stages: list[Stage] = []

    def make(*addons: Any, **limits: Any) -> Stage:
        stage = Stage(authority, **limits)
        stage.addons.add(*addons)
        stages.append(stage)
        return stage

    yield make
    for stage in stages:
        await stage.pool.aclose()
        await stage.core.resolver.aclose()
        assert stage.pool.idle_count == 0


@pytest.fixture
async def stage(make_stage: Callable[..., Stage]) -> Stage:
    return make_stage()


def here(port: int, **changes: Any) -> Target:
    return Target("127.0.0.1", port, **changes)


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


# --- hooks ------------------------------------------------------------------------------------------------------


class Spoof:
    """Answers names, as the rules do."""

    def __init__(self, answer: NameAnswer) -> None:
        self.answer = answer
        self.asked: list[tuple[str, Client | None]] = []

    def resolve(self, name: str, client: Client | None) -> NameAnswer | None:
        self.asked.append((name, client))
        return self.answer


class Prevent:
    def server_connect(self, data: ServerConnectionHookData) -> None:
        data.server.error = "not today"


SERVER_HOOKS = ("server_connect", "server_connected", "server_connect_error", "server_disconnected",
                "tls_start_server", "tls_established_server", "tls_failed_server")


async def test_hooks_of_a_plain_connection(make_stage: Callable[..., Stage]) -> None:
    recorder = Recorder()
    stage = make_stage(recorder)
    async with run_origin() as origin:
        await stage.exchange(here(origin.port))
        await stage.pool.aclose()
    assert recorder.names == ["server_connect", "server_connected", "server_disconnected"]


async def test_hooks_of_a_tls_connection(make_stage: Callable[..., Stage], origin_ca: OriginCA) -> None:
    recorder = Recorder()
    stage = make_stage(recorder)
    stage.core.settings.upstream_ca = origin_ca.pem
    async with run_origin(tls=origin_ca.server_context("localhost")) as origin:
        target = Target("localhost", origin.port, "https", alpn=("http/1.1",))
        server = (await stage.exchange(target)).server
        await stage.pool.aclose()
    assert recorder.names == ["server_connect", "server_connected", "tls_start_server", "tls_established_server",
                              "server_disconnected"]
    assert (server.sni, server.alpn, server.alpn_offers) == ("localhost", b"http/1.1", (b"http/1.1",))
    assert server.tls and server.tls_established and server.tls_version == "TLSv1.3" and server.cipher
    assert len(server.certificate_list) == 1


async def test_prevented_connection(make_stage: Callable[..., Stage]) -> None:
    recorder = Recorder()
    stage = make_stage(recorder, Prevent())
    async with run_origin() as origin:
        error = await stage.failure(here(origin.port))
        assert (error.status, error.message) == (502, "not today")
        assert origin.connections == []
    assert recorder.names == ["server_connect", "server_connect_error"]


async def test_tls_start_server_may_replace_the_context(make_stage: Callable[..., Stage], origin_ca: OriginCA) -> None:
    class Trust:
        def tls_start_server(self, data: Any) -> None:
            data.ssl_context = origin_ca.client_context()

    stage = make_stage(Trust())
    async with run_origin(tls=origin_ca.server_context("127.0.0.1")) as origin:
        await stage.exchange(here(origin.port, scheme="https"))
        assert len(origin.requests) == 1
        await stage.pool.aclose()


async def test_cancelled_connect_has_an_outcome(make_stage: Callable[..., Stage]) -> None:
    """A client that leaves while TLS with its server is under way."""
    recorder = Recorder()
    stage = make_stage(recorder)

    async def silent(connection: OriginConnection) -> None:
        await connection.read_to_end()

    async with run_origin(silent) as origin:
        task = asyncio.create_task(stage.pool.acquire(stage.flow(), here(origin.port, scheme="https")))
        assert await until(lambda: "tls_start_server" in recorder.names)
        task.cancel()
        await asyncio.wait({task}, timeout=SECONDS)
        assert task.cancelled()
        await stage.pool.aclose()
    assert recorder.names == ["server_connect", "server_connected", "tls_start_server", "tls_failed_server",
                              "server_disconnected"]


async def test_cancelled_look_up_has_an_outcome(make_stage: Callable[..., Stage]) -> None:
    recorder = Recorder()

    class Slow:
        async def server_connect(self, data: ServerConnectionHookData) -> None:
            await asyncio.sleep(SECONDS)

    stage = make_stage(recorder, Slow())
    task = asyncio.create_task(stage.pool.acquire(stage.flow(), Target("origin.test", 80)))
    assert await until(lambda: "server_connect" in recorder.names)
    task.cancel()
    await asyncio.wait({task}, timeout=SECONDS)
    assert recorder.names == ["server_connect", "server_connect_error"]


# --- names ------------------------------------------------------------------------------------------------------


async def test_spoofed_name_is_dialled_at_the_rules_address(make_stage: Callable[..., Stage]) -> None:
    spoof = Spoof(NameAnswer(("127.0.0.1",), rule="r"))
    stage = make_stage(spoof)
    async with run_origin() as origin:
        client = stage.client()
        connection = await stage.exchange(Target("spoofed.test", origin.port), stage.flow(client))
        assert spoof.asked == [("spoofed.test", client)]
        assert connection.server.address == ("spoofed.test", origin.port)
        await stage.pool.aclose()


@pytest.mark.parametrize("answer", [NameAnswer(rcode="NXDOMAIN", rule="no-ads (rules/dns.yaml:2)"),
                                    NameAnswer(rule="no-ads (rules/dns.yaml:2)")])
async def test_name_a_rule_fails_is_a_502_that_names_the_rule(make_stage: Callable[..., Stage],
                                                              answer: NameAnswer) -> None:
    error = await make_stage(Spoof(answer)).failure(Target("spoofed.test", 80))
    assert (error.status, error.rule) == (502, "no-ads (rules/dns.yaml:2)")
    assert "spoofed.test" in error.message


async def test_addresses_are_not_asked_for(make_stage: Callable[..., Stage]) -> None:
    spoof = Spoof(NameAnswer(rcode="NXDOMAIN"))
    stage = make_stage(spoof)
    async with run_origin() as origin:
        await stage.exchange(here(origin.port))
        assert spoof.asked == []
        await stage.pool.aclose()


async def test_name_the_hook_left_is_the_one_looked_up(make_stage: Callable[..., Stage]) -> None:
    class Elsewhere:
        def server_connect(self, data: ServerConnectionHookData) -> None:
            data.server.address = ("LOCALHOST.", data.server.address[1])  # type: ignore[index]

    stage = make_stage(Elsewhere())
    async with run_origin() as origin:
        await stage.exchange(Target("nowhere.test", origin.port))
        assert len(origin.requests) == 1
        await stage.pool.aclose()


async def test_unknown_name(stage: Stage) -> None:
    error = await stage.failure(Target("does-not-exist.invalid", 80))
    assert error.status == 502
    assert "does-not-exist.invalid" in error.message


@pytest.mark.parametrize("target", [Target("127.0.0.1", 8080), Target("localhost", 8080), Target("spoofed.test", 8080)])
async def test_proxy_never_dials_itself(make_stage: Callable[..., Stage], target: Target) -> None:
    stage = make_stage(*[Spoof(NameAnswer(("127.0.0.1",)))][:target.host == "spoofed.test"])
    stage.core.listening.update({("127.0.0.1", 8080), ("::1", 8080)})
    error = await stage.failure(target)
    assert error.status == 502
    if target.host != "spoofed.test":  # a spoofed answer that is the proxy is for clients: the name is looked up
        assert "is this proxy itself" in error.message


# --- failures ---------------------------------------------------------------------------------------------------


async def test_refused_connection(make_stage: Callable[..., Stage]) -> None:
    recorder = Recorder()
    stage = make_stage(recorder)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        flow = stage.flow()
        error = await stage.failure(here(unused.getsockname()[1]), flow)
    assert error.status == 502
    assert "connection refused" in error.message
    assert recorder.names == ["server_connect", "server_connect_error"]
    assert flow.server_conn.error == error.message


async def test_connect_timeout_is_a_504(stage: Stage) -> None:
    stage.core.settings.connect_timeout = 0.2
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = [socket.socket() for _ in range(3)]
        try:
            for filler in fillers:  # the backlog takes one or two: further ones wait for ever
                filler.setblocking(False)
                filler.connect_ex(full.getsockname())
            error = await stage.failure(here(full.getsockname()[1]))
        finally:
            for filler in fillers:
                filler.close()
    assert error.status == 504
    assert "timed out after 0.2 s" in error.message


async def test_tls_timeout_is_a_504(stage: Stage) -> None:
    stage.core.settings.tls_timeout = 0.2

    async def silent(connection: OriginConnection) -> None:
        await connection.read_to_end()

    async with run_origin(silent) as origin:
        error = await stage.failure(here(origin.port, scheme="https"))
        assert error.status == 504
        assert "timed out" in error.message


async def test_server_that_does_not_speak_tls(stage: Stage) -> None:
    async def plain(connection: OriginConnection) -> None:
        await connection.read_some()
        await connection.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with run_origin(plain) as origin:
        error = await stage.failure(here(origin.port, scheme="https"))
        assert error.status == 502
        assert "does not speak TLS" in error.message


BAD_CERTIFICATES: dict[str, tuple[dict[str, Any], str]] = {
    "expired": ({"names": ("localhost",), "from_days": -20, "until_days": -5}, "expired"),
    "not yet valid": ({"names": ("localhost",), "from_days": 5, "until_days": 10}, "not yet valid"),
    "another name": ({"names": ("other.test",)}, "not valid for 'localhost'"),
    "self-signed": ({"names": ("localhost",), "self_signed": True}, "self-signed"),
}


@pytest.mark.parametrize(("options", "reason"), BAD_CERTIFICATES.values(), ids=BAD_CERTIFICATES)
async def test_bad_certificate_is_refused_with_the_reason_and_the_way_out(
        make_stage: Callable[..., Stage], origin_ca: OriginCA, options: dict[str, Any], reason: str) -> None:
    recorder = Recorder()
    stage = make_stage(recorder)
    stage.core.settings.upstream_ca = origin_ca.pem
    context = origin_ca.server_context(*options["names"],
                                       **{key: value for key, value in options.items() if key != "names"})
    async with run_origin(tls=context) as origin:
        error = await stage.failure(Target("localhost", origin.port, "https"))
        assert origin.requests == []
        assert error.status == 502
        assert reason in error.message
        assert "verify: false" in error.hint and "verify_upstream=false" in error.hint
        assert recorder.names == ["server_connect", "server_connected", "tls_start_server", "tls_failed_server",
                                  "server_disconnected"]
        await stage.exchange(Target("localhost", origin.port, "https", verify=False))
        assert len(origin.requests) == 1
        await stage.pool.aclose()


async def test_unknown_authority_is_refused(stage: Stage, origin_ca: OriginCA) -> None:
    async with run_origin(tls=origin_ca.server_context("localhost")) as origin:
        error = await stage.failure(Target("localhost", origin.port, "https"))
        assert "certificate verify failed" in error.message
        assert origin.requests == []


async def test_name_verified_is_the_sni_of_the_target(stage: Stage, origin_ca: OriginCA) -> None:
    stage.core.settings.upstream_ca = origin_ca.pem
    seen: list[str | None] = []
    context = origin_ca.server_context("api.test", "127.0.0.1")
    context.sni_callback = lambda obj, name, ctx: seen.append(name)  # type: ignore[assignment, misc]
    async with run_origin(tls=context) as origin:
        await stage.exchange(here(origin.port, scheme="https", sni="api.test"))
        await stage.exchange(here(origin.port, scheme="https"))
        assert seen == ["api.test", None]  # an address is verified but never sent
        error = await stage.failure(here(origin.port, scheme="https", sni="other.test"))
        assert "not valid for 'other.test'" in error.message
        await stage.pool.aclose()


async def test_unusable_upstream_ca_is_said(make_stage: Callable[..., Stage], tmp_path: Path) -> None:
    recorder = Recorder()
    stage = make_stage(recorder)
    stage.core.settings.upstream_ca = tmp_path / "none.pem"
    async with run_origin(tls=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)) as origin:
        error = await stage.failure(here(origin.port, scheme="https"))
        assert "none.pem" in error.message
    assert recorder.names == ["server_connect", "server_connected", "server_disconnected"]


# --- tunnels ----------------------------------------------------------------------------------------------------


async def test_tunnel_passes_bytes_and_fires_the_server_hooks(make_stage: Callable[..., Stage]) -> None:
    recorder = Recorder()
    stage = make_stage(recorder)

    async def echo(connection: OriginConnection) -> None:
        await connection.send(await connection.read_some())

    async with run_origin(echo) as origin, asyncio.timeout(SECONDS):
        client = stage.client()
        server, stream = await stage.pool.open_tunnel(client, "127.0.0.1", origin.port)
        await stream.write(b"ping")
        assert await stream.read() == b"ping"
        await stage.pool.close_tunnel(client, server, stream)
        await stage.pool.close_tunnel(client, server, stream)
        assert stage.pool.idle_count == 0
    assert recorder.names == ["server_connect", "server_connected", "server_disconnected"]


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
