"""Rules and the tunnels they open, close, send elsewhere and change their mind about."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tests.support.app import RunningApp
from tests.support.certificates import OriginCA
from tests.support.origin import OriginConnection, run_origin

MakeApp = Callable[..., Awaitable[RunningApp]]
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SECONDS = 10.0

NOTHING = "  - {name: nothing, match: {host: nobody.test}, action: {block: true}}\n"
BLOCK = "  - {name: blocked, match: {host: localhost}, action: {block: true}}\n"


@asynccontextmanager
async def tunnel(app: RunningApp, port: int, host: str = "localhost") -> AsyncIterator[Pair]:
    """An open CONNECT tunnel."""
    reader, writer = await app.connect()
    try:
        async with asyncio.timeout(SECONDS):
            writer.write(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            yield reader, writer
    finally:
        writer.close()


async def echo(connection: OriginConnection) -> None:
    while True:
        await connection.send(await connection.read_some())


# --- tunnels that new rules would decide differently (rule-language 6.3) -------------------------------------------

async def test_a_tunnel_whose_connect_is_blocked_now_ends_when_it_is_quiet(make_app: MakeApp,
                                                                         caplog: pytest.LogCaptureFixture) -> None:
    app = await make_app(NOTHING)
    async with run_origin(echo) as origin, tunnel(app, origin.port) as (reader, writer):
        writer.write(b"\x00one")
        assert await reader.readexactly(4) == b"\x00one"
        with caplog.at_level(logging.INFO):
            await app.edit(BLOCK)
        assert "closing 1 tunnel" in caplog.text
        assert await reader.read() == b""


async def test_a_tunnel_that_is_not_quiet_goes_on(make_app: MakeApp) -> None:
    app = await make_app(NOTHING)
    async with run_origin(echo) as origin, tunnel(app, origin.port) as (reader, writer):
        writer.write(b"\x00")
        await reader.readexactly(1)
        await app.edit(BLOCK)
        for _ in range(10):  # a second, never 500 ms of silence
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            await asyncio.sleep(0.1)
        assert await reader.read() == b""


async def test_a_tunnel_that_leads_elsewhere_now_ends(make_app: MakeApp) -> None:
    route = "  - {name: moved, match: {host: localhost}, action: {redirect_server: {to: 127.0.0.1:%d}}}\n"
    app = await make_app(route % 1)
    async with run_origin(echo) as one, run_origin(echo) as other:
        await app.edit(route % one.port)
        async with tunnel(app, 1) as (reader, writer):
            writer.write(b"\x00")
            await reader.readexactly(1)
            assert len(one.connections) == 1
            await app.edit(NOTHING + (route % one.port).replace("moved", "renamed"))
            assert app.core.reconsider_tunnels() == 0  # the same by another name
            await app.edit(route % other.port)
            assert await reader.read() == b""
        async with tunnel(app, 1) as (reader, writer):
            writer.write(b"\x00")
            await reader.readexactly(1)
            assert len(other.connections) == 1


async def test_plain_http_in_a_tunnel_ends_between_requests(make_app: MakeApp) -> None:
    app = await make_app(NOTHING)
    async with run_origin(OK) as origin, tunnel(app, origin.port) as (reader, writer):
        writer.write(f"GET / HTTP/1.1\r\nHost: localhost:{origin.port}\r\n\r\n".encode())
        await reader.readuntil(b"ok")
        await app.edit(BLOCK)
        assert await reader.read() == b""


@pytest.mark.parametrize("stale", ["close", "keep"])
async def test_a_relayed_tunnel_of_a_host_that_rules_need_now(make_app: MakeApp, origin_ca: OriginCA,
                                                              stale: str) -> None:
    app = await make_app(NOTHING, stale_tunnels=stale)
    context = ssl.create_default_context(cafile=str(origin_ca.pem))
    async with (run_origin(OK, tls=origin_ca.server_context("localhost")) as origin,
                tunnel(app, origin.port) as (reader, writer)):
        await writer.start_tls(context, server_hostname="localhost")
        await app.edit("  - {name: page, match: {host: localhost}, action: {respond: mock}}\n")
        if stale == "close":
            assert await reader.read() == b""
        else:
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 OK")


async def test_an_addon_that_had_a_tunnel_relayed_is_not_overruled_later(make_app: MakeApp,
                                                                        origin_ca: OriginCA) -> None:
    class Ignoring:
        def tls_clienthello(self, data: object) -> None:
            data.ignore_connection = True  # type: ignore[attr-defined]

    app = await make_app("  - {name: mock, match: {host: localhost}, action: {respond: mock}}\n", Ignoring())
    context = ssl.create_default_context(cafile=str(origin_ca.pem))
    async with (run_origin(OK, tls=origin_ca.server_context("localhost")) as origin,
                tunnel(app, origin.port) as (_, writer)):
        await writer.start_tls(context, server_hostname="localhost")
        assert app.core.reconsider_tunnels() == 0


# --- servers that a rule chose and that cannot be reached ----------------------------------------------------------

async def test_the_page_names_the_rule_that_chose_the_server(make_app: MakeApp,
                                                            caplog: pytest.LogCaptureFixture) -> None:
    app = await make_app("  - {name: to-nowhere, match: {host: moved.test}, action: {redirect_server: 127.0.0.1:1}}\n")
    done = await app.curl("-i", "http://moved.test/")
    assert "502 Bad Gateway" in done.text
    assert "127.0.0.1:1: connection refused" in done.text
    assert "Rule: to-nowhere\n" in done.text
    assert "(sent there by rule to-nowhere)" in caplog.text
    caplog.clear()
    async with tunnel(app, 1, "moved.test") as (reader, writer):
        writer.write(b"\x00")
        with pytest.raises(ConnectionResetError):
            await reader.read()
    assert "(sent there by rule to-nowhere)" in caplog.text
    assert "Rule:" not in (await app.curl("http://127.0.0.1:1/")).text


# --- tunnels without a name (rule-language 5.1) --------------------------------------------------------------------

@pytest.mark.parametrize("unnamed", ["relay", "intercept", "refuse"])
async def test_tls_that_names_no_host(make_app: MakeApp, origin_ca: OriginCA, unnamed: str) -> None:
    app = await make_app("  - {name: page, match: {host: localhost}, action: {respond: mock}}\n", unnamed=unnamed)
    async with run_origin(OK, tls=origin_ca.server_context("127.0.0.1")) as origin:
        done = await app.curl("--insecure", f"https://127.0.0.1:{origin.port}/")
        assert (done.code, done.text) == ((35, "") if unnamed == "refuse" else (0, "ok"))
    assert len(app.core.contexts) == (unnamed == "intercept")
    state = json.loads((await app.curl("http://rulesproxy.test/rules")).text)
    assert state["unnamed_relays"] == (unnamed == "relay")
    if unnamed == "relay":
        assert "TLS relayed because it named no host: 1\n" in (await app.curl("http://rulesproxy.test/")).text
