"""Connections to servers: hooks, names, TLS and every way to fail."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rulesproxy.model.connection import Client, ServerConnectionHookData
from rulesproxy.model.policy import NameAnswer
from rulesproxy.proxy.upstream.target import Target
from tests.support.automaton import Recorder
from tests.support.certificates import OriginCA
from tests.support.leaks import until
from tests.support.origin import OriginConnection, run_origin
from tests.support.stage import SECONDS, Stage, here

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
        assert set(spoof.asked) == {("spoofed.test", client)}
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
    "name in the subject only": ({"names": ("localhost",), "flaw": "no SAN"}, "not valid for 'localhost'"),
    "for clients": ({"names": ("localhost",), "flaw": "client"}, "certificate purpose"),
    "wildcard of nothing": ({"names": ("*.localhost",)}, "not valid for 'localhost'"),
    "part of the name": ({"names": ("local", "host", "localhost.test")}, "not valid for 'localhost'"),
    "weak key": ({"names": ("localhost",), "flaw": "weak key"}, "key too weak"),
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


async def test_address_written_as_a_name_is_no_address(stage: Stage, origin_ca: OriginCA) -> None:
    stage.core.settings.upstream_ca = origin_ca.pem
    async with run_origin(tls=origin_ca.server_context("127.0.0.1", flaw="IP as name")) as origin:
        error = await stage.failure(here(origin.port, scheme="https"))
        assert "not valid for '127.0.0.1'" in error.message
        assert origin.requests == []


async def test_unknown_authority_is_refused(stage: Stage, origin_ca: OriginCA) -> None:
    async with run_origin(tls=origin_ca.server_context("localhost")) as origin:
        error = await stage.failure(Target("localhost", origin.port, "https"))
        assert "certificate verify failed" in error.message
        assert origin.requests == []


async def test_name_verified_is_the_sni_of_the_target(stage: Stage, origin_ca: OriginCA) -> None:
    stage.core.settings.upstream_ca = origin_ca.pem
    seen: list[str | None] = []
    context = origin_ca.server_context("api.test", "127.0.0.1")
    context.sni_callback = lambda obj, name, ctx: seen.append(name)
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
