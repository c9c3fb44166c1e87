"""TLS with servers: facts, client certificates, versions, resumption, key logs, and how handshakes end early."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from rulesproxy.model.effects import TlsDemands
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.proxy.upstream.target import Target
from tests.support.app import RunningApp
from tests.support.automaton import Recorder
from tests.support.certificates import OriginCA
from tests.support.leaks import until
from tests.support.origin import HELLO, OriginConnection, answering, run_origin
from tests.support.stage import SECONDS, Stage
from tests.support.zoo import Issued, Plan, issue, make_root, server_context

MakeStage = Callable[..., Stage]
MakeApp = Callable[..., Awaitable[RunningApp]]
CLOSING = HELLO.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


def https(port: int, **changes: Any) -> Target:
    return Target("localhost", port, "https", **{"alpn": ("http/1.1",), **changes})


# --- facts ------------------------------------------------------------------------------------------------------


async def test_the_whole_chain_is_known(make_stage: MakeStage, tmp_path: Path) -> None:
    root, pem = make_root(tmp_path)
    leaf = issue(issue(root, Plan(ca=True), "intermediate"), Plan())
    stage = make_stage()
    stage.core.settings.upstream_ca = pem
    async with run_origin(tls=server_context(leaf, tmp_path)) as origin:
        server = (await stage.exchange(https(origin.port))).server
    assert server.certificate_list == leaf.chain and len(leaf.chain) == 2
    assert server.timestamp_tls_setup is not None and server.timestamp_tcp_setup is not None
    assert server.timestamp_tcp_setup <= server.timestamp_tls_setup
    assert not server.tls_resumed


async def test_what_is_known_of_a_failed_handshake(make_stage: MakeStage) -> None:
    seen: list[Any] = []

    class Looks:
        def tls_failed_server(self, data: Any) -> None:
            seen.append((data.conn, data.conn.tls_established, data.conn.error))

    async def not_tls(connection: OriginConnection) -> None:
        await connection.send(b"SSH-2.0-nothing\r\n")
        await connection.read_to_end()

    stage = make_stage(Looks())
    async with run_origin(not_tls) as origin:
        error = await stage.failure(https(origin.port))
    (server, established, why), = seen
    assert not established and server.tls and server.sni == "localhost" and server.alpn_offers == (b"http/1.1",)
    assert server.certificate_list == [] and server.cipher is None and server.tls_version is None
    assert "does not speak TLS" in why and error.message == why


# --- client certificates ----------------------------------------------------------------------------------------


def wants_certificate(origin_ca: OriginCA) -> ssl.SSLContext:
    context = origin_ca.server_context("localhost")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(origin_ca.pem)
    return context


def subject(connection: OriginConnection) -> str:
    """Whom the client's certificate names."""
    shown = connection._writer.get_extra_info("ssl_object").getpeercert()
    return str(shown["subject"][0][0][1])


async def test_a_certificate_file_is_shown_to_every_server(make_stage: MakeStage, origin_ca: OriginCA) -> None:
    stage = make_stage()
    stage.core.settings.upstream_ca = origin_ca.pem
    stage.core.settings.client_certs = origin_ca.leaf("the-proxy", flaw="client")
    async with run_origin(tls=wants_certificate(origin_ca)) as origin:
        await stage.exchange(https(origin.port))
        assert subject(origin.connections[0]) == "the-proxy"
        await stage.pool.aclose()


async def test_a_folder_has_a_certificate_for_some_hosts(
        make_stage: MakeStage, origin_ca: OriginCA, tmp_path: Path) -> None:
    folder = tmp_path / "certs"
    folder.mkdir()
    (folder / "localhost.pem").write_bytes(origin_ca.leaf("for-localhost", flaw="client").read_bytes())
    context = origin_ca.server_context("localhost", "127.0.0.1")
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(origin_ca.pem)
    stage = make_stage()
    stage.core.settings.upstream_ca = origin_ca.pem
    stage.core.settings.client_certs = folder
    async with run_origin(tls=context) as origin:
        await stage.exchange(https(origin.port))
        await stage.exchange(Target("127.0.0.1", origin.port, "https"))
        assert subject(origin.connections[0]) == "for-localhost"
        assert not origin.connections[1]._writer.get_extra_info("ssl_object").getpeercert()
        await stage.pool.aclose()


async def test_connections_with_different_certificates_are_not_shared(
        make_stage: MakeStage, origin_ca: OriginCA) -> None:
    stage = make_stage()
    stage.core.settings.upstream_ca = origin_ca.pem
    demands = [TlsDemands(client_cert=str(origin_ca.leaf(name, flaw="client"))) for name in ("one", "other")]
    async with run_origin(tls=wants_certificate(origin_ca)) as origin:
        for wanted in (*demands, *demands):
            await stage.exchange(https(origin.port, server_tls=wanted))
        assert [subject(connection) for connection in origin.connections] == ["one", "other"]
        await stage.pool.aclose()


async def test_a_rule_shows_a_certificate(make_app: MakeApp, origin_ca: OriginCA) -> None:
    app = await make_app(f"""\
  - name: with-certificate
    match: {{host: localhost}}
    action: {{tls: {{client_cert: {origin_ca.leaf("by-rule", flaw="client")}}}}}
""")
    shown: list[str] = []

    async def script(connection: OriginConnection) -> None:
        shown.append(subject(connection))
        await answering(HELLO)(connection)

    async with run_origin(script, tls=wants_certificate(origin_ca)) as origin:
        answer = await app.curl(f"https://localhost:{origin.port}/")
    assert (answer.text, shown) == ("hello", ["by-rule"])


async def test_the_key_of_a_rule_is_not_copied(make_app: MakeApp, origin_ca: OriginCA) -> None:
    app = await make_app(f"""\
  - name: with-certificate
    match: {{host: localhost}}
    action: {{tls: {{client_cert: {origin_ca.leaf("by-rule", flaw="client")}}}}}
""")
    await app.edit("  - {name: other, match: {host: other.test}, action: {block: {}}}\n")
    kept = app.rules.parent / "conf" / "last-good"
    assert await until(lambda: (kept / "index.json").exists())
    assert all(b"PRIVATE KEY" not in path.read_bytes() for path in kept.iterdir())


async def test_a_rule_may_name_a_file_that_is_gone_since(make_app: MakeApp, origin_ca: OriginCA) -> None:
    certificate = origin_ca.leaf("by-rule", flaw="client")
    app = await make_app(f"""\
  - name: with-certificate
    match: {{host: localhost}}
    action: {{tls: {{client_cert: {certificate}}}}}
""")
    certificate.unlink()
    async with run_origin(tls=wants_certificate(origin_ca)) as origin:
        page = (await app.curl(f"https://localhost:{origin.port}/")).text
    assert "502 TLS is not set up" in page and str(certificate) in page and "with-certificate" in page


# --- versions ---------------------------------------------------------------------------------------------------


def only(version: ssl.TLSVersion, origin_ca: OriginCA) -> ssl.SSLContext:
    context = origin_ca.server_context("localhost")
    context.maximum_version = version
    return context


async def test_the_option_says_which_versions_servers_may_speak(make_stage: MakeStage, origin_ca: OriginCA) -> None:
    stage = make_stage()
    stage.core.settings.upstream_ca = origin_ca.pem
    stage.core.settings.tls_version_server_min = "TLS1_3"
    async with run_origin(tls=only(ssl.TLSVersion.TLSv1_2, origin_ca)) as origin:
        error = await stage.failure(https(origin.port))
        assert "tls_version_server_min" in error.hint
        stage.core.settings.tls_version_server_min = "TLS1_2"
        server = (await stage.exchange(https(origin.port))).server
        assert server.tls_version == "TLSv1.2"
        await stage.pool.aclose()


async def test_a_rule_decides_for_its_host(make_app: MakeApp, origin_ca: OriginCA) -> None:
    app = await make_app("""\
  - name: modern
    match: {host: localhost, path: /new}
    action: {tls: {min_version: TLS1_3}}
  - name: any
    match: {host: localhost}
    action: {rewrite: {headers: {set: {x-seen: "1"}}}}
""")
    async with run_origin(tls=only(ssl.TLSVersion.TLSv1_2, origin_ca)) as origin:
        assert (await app.curl(f"https://localhost:{origin.port}/old")).text == "hello"
        page = (await app.curl(f"https://localhost:{origin.port}/new")).text
        assert page.startswith("502 TLS with the server failed") and "tls_version_server_min" in page
        assert len(origin.requests) == 1


@pytest.mark.parametrize("minimum", ["TLS1", "TLS1_1"])
async def test_old_servers_can_be_reached_when_asked_for(
        make_stage: MakeStage, origin_ca: OriginCA, minimum: str) -> None:
    context = origin_ca.server_context("localhost")
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    stage = make_stage()
    stage.core.settings.upstream_ca = origin_ca.pem
    async with run_origin(tls=context) as origin:
        assert (await stage.failure(https(origin.port))).hint
        server = (await stage.exchange(https(origin.port, server_tls=TlsDemands(min_version=minimum)))).server
        assert server.tls_version == "TLSv1.1"
        await stage.pool.aclose()


# --- verification by rule ---------------------------------------------------------------------------------------


async def test_a_rule_allows_a_certificate_for_its_host_only(make_app: MakeApp, tmp_path: Path) -> None:
    bad: Issued = issue(None, Plan())
    app = await make_app("""\
  - name: allow-it
    match: {host: localhost, path_prefix: /open}
    action: {tls: {verify: false}}
  - name: the-rest
    match: {host: localhost}
    action: {rewrite: {headers: {set: {x-seen: "1"}}}}
""")
    async with run_origin(tls=server_context(bad, tmp_path)) as origin:
        assert (await app.curl(f"https://localhost:{origin.port}/open")).text == "hello"
        page = (await app.curl(f"https://localhost:{origin.port}/closed")).text
        assert "signed its certificate itself" in page
        assert len(origin.requests) == 1


async def test_what_is_not_http_follows_the_rule_too(make_app: MakeApp, tmp_path: Path) -> None:
    async def echo(connection: OriginConnection) -> None:
        while True:
            await connection.send((await connection.read_some()).upper())

    app = await make_app("""\
  - name: allow-it
    match: {host: localhost}
    action: {tls: {verify: false}}
""")
    async with run_origin(echo, tls=server_context(issue(None, Plan()), tmp_path, alpn=("x",))) as origin:
        reader, writer = await app.connect()
        async with asyncio.timeout(SECONDS):
            writer.write(f"CONNECT localhost:{origin.port} HTTP/1.1\r\nHost: localhost:{origin.port}\r\n\r\n".encode())
            await reader.readuntil(b"\r\n\r\n")
            context = ssl.create_default_context(cafile=app.ca)
            await writer.start_tls(context, server_hostname="localhost")
            writer.write(b"\x01\x02hello\n")
            assert await reader.readexactly(8) == b"\x01\x02HELLO\n"
            writer.close()


# --- sessions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("answer", [HELLO, CLOSING], ids=["kept", "closed"])
async def test_sessions_are_resumed(make_stage: MakeStage, origin_ca: OriginCA, version: ssl.TLSVersion,
                                    answer: bytes) -> None:
    """Whether the connection before is still open or not."""
    stage = make_stage()
    stage.core.settings.upstream_ca = origin_ca.pem
    reused: list[bool] = []

    async def script(connection: OriginConnection) -> None:
        reused.append(connection._writer.get_extra_info("ssl_object").session_reused)
        await connection.read_head()
        await connection.send(answer)
        await connection.read_to_end()

    async with run_origin(script, tls=only(version, origin_ca)) as origin:
        servers = []
        for _ in range(4):
            connection = await stage.acquire(https(origin.port), fresh=True)
            await stage.converse(connection)
            servers.append(connection.server)
            stage.pool.release(connection, answer is HELLO, stage.flow())
        await stage.pool.aclose()
    assert reused == [False, True, True, True]
    assert [server.tls_resumed for server in servers] == reused
    assert all(server.certificate_list == servers[0].certificate_list for server in servers)
    assert len(servers[0].certificate_list) == 1


async def test_a_session_is_for_one_name_and_one_trust(make_stage: MakeStage, origin_ca: OriginCA) -> None:
    """What was verified for one name, or not at all, must not pass for another."""
    stage = make_stage()
    stage.core.settings.upstream_ca = origin_ca.pem
    async with run_origin(CLOSING, tls=origin_ca.server_context("localhost", "other.test")) as origin:
        for target in (https(origin.port), https(origin.port, sni="other.test"), https(origin.port, verify=False)):
            connection = await stage.acquire(target)
            assert not connection.server.tls_resumed
            await stage.converse(connection)
            stage.pool.release(connection, False, stage.flow())
        assert (await stage.failure(https(origin.port, sni="wrong.test"))).status == 502
        await stage.pool.aclose()


# --- hooks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("junk", [None, "context"])
async def test_a_context_that_is_none_fails_the_handshake(make_stage: MakeStage, origin_ca: OriginCA,
                                                         junk: object) -> None:
    class Breaks:
        def tls_start_server(self, data: Any) -> None:
            data.ssl_context = junk

    recorder = Recorder()
    stage = make_stage(recorder, Breaks())
    async with run_origin(tls=origin_ca.server_context("localhost")) as origin:
        error = await stage.failure(https(origin.port))
    assert "left no SSL context" in error.message
    await stage.pool.aclose()
    assert recorder.names == ["server_connect", "server_connected", "tls_start_server", "tls_failed_server",
                              "server_disconnected"]


async def test_cancelled_in_tls_start_server(make_stage: MakeStage, origin_ca: OriginCA) -> None:
    class Slow:
        async def tls_start_server(self, data: Any) -> None:
            await asyncio.sleep(SECONDS)

    recorder = Recorder()
    stage = make_stage(recorder, Slow())
    async with run_origin(tls=origin_ca.server_context("localhost")) as origin:
        task = asyncio.create_task(stage.pool.acquire(stage.flow(), https(origin.port)))
        assert await until(lambda: "tls_start_server" in recorder.names)
        task.cancel()
        await asyncio.wait({task}, timeout=SECONDS)
        assert task.cancelled()
        await stage.pool.aclose()
    assert recorder.names == ["server_connect", "server_connected", "tls_start_server", "tls_failed_server",
                              "server_disconnected"]


@pytest.mark.parametrize("hook", ["tls_start_server", "tls_established_server"])
async def test_flows_killed_around_the_handshake(make_app: MakeApp, origin_ca: OriginCA, hook: str) -> None:
    """The order of hooks stays whole (the automaton looks at it), and the origin gets no request."""
    flows: list[HTTPFlow] = []

    class Kills:
        def requestheaders(self, flow: HTTPFlow) -> None:
            flows.append(flow)

    def kill(data: Any) -> None:
        flows[0].kill()

    addon = Kills()
    setattr(addon, hook, kill)
    app = await make_app("  - {name: open, match: {host: localhost}, action: {tls: intercept}}\n", addon)
    async with run_origin(tls=origin_ca.server_context("localhost")) as origin:
        answer = await app.curl(f"https://localhost:{origin.port}/")
        assert answer.code != 0
        assert origin.requests == []
    assert "error" in app.recorder.names
