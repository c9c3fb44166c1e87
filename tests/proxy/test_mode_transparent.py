"""Transparent mode: connections that the firewall redirects, on a network of namespaces."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import OriginCA
from tests.support.command import RunningCommand, running
from tests.support.namespaces import ROUTER, SERVER, SERVER6, Network, run_network
from tests.support.tools import curl

SECONDS = 15.0
PORT = 8081
MODES = ("--mode", f"transparent@0.0.0.0:{PORT}", "--mode", f"transparent@[::]:{PORT}", "--allow-remote")

#: The servers of the internet: HTTP on 80, HTTPS on 443, and one that speaks first on 2525.
_SERVERS = """
import asyncio, ssl, sys

async def http(reader, writer):
    head = await reader.readuntil(b"\\r\\n\\r\\n")
    peer = writer.get_extra_info("peername")[0]
    body = head.split(b"\\r\\n")[0] + b" at " + writer.get_extra_info("sockname")[0].encode()
    writer.write(b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n%b" % (len(body), body))
    await writer.drain()
    writer.close()

async def greet(reader, writer):
    writer.write(b"220 speaks first\\r\\n")
    await reader.read()
    writer.close()

async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1])
    for host in sys.argv[2:]:
        await asyncio.start_server(http, host, 80)
        await asyncio.start_server(http, host, 443, ssl=context)
        await asyncio.start_server(greet, host, 2525)
    print("ready", flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


@asynccontextmanager
async def internet(network: Network, origin_ca: OriginCA) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        *network.on_router, sys.executable, "-c", _SERVERS, str(origin_ca.leaf("shop.test", SERVER)), SERVER, SERVER6,
        stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(SECONDS):
            assert await process.stdout.readline() == b"ready\n"
        yield
    finally:
        process.kill()
        await process.wait()
        process._transport.close()  # type: ignore[attr-defined]


@asynccontextmanager
async def transparent(folder: Path, origin_ca: OriginCA, rules: str) -> AsyncIterator[tuple[Network, RunningCommand]]:
    """A client, servers it may reach, and the proxy on the way between them, with these rules."""
    (folder / "rules.yaml").write_text(f"version: 1\nrules:\n{rules}")
    async with run_network(PORT) as network, internet(network, origin_ca), running(
            "run", "rules.yaml", *MODES, "--set", f"upstream_ca={origin_ca.pem}", cwd=folder,
            prefix=network.on_router) as proxy:
        await proxy.line(f"listening on [::]:{PORT} for redirected connections")
        yield network, proxy


NO_RULES = "  - {name: other, match: {host: other.test}, action: {block: true}}\n"


async def test_plain_http_goes_where_it_was_going(tmp_path: Path, origin_ca: OriginCA) -> None:
    """Rules see the name in Host; the address is the client's choice."""
    async with transparent(tmp_path, origin_ca, """
  - {name: mock, match: {host: shop.test, path: /mock, listener: transparent}, action: {respond: {body: a rule}}}
""") as (network, _):
        named = await network.curl("-H", "Host: shop.test", f"http://{SERVER}/a")
        mocked = await network.curl("-H", "Host: shop.test", f"http://{SERVER}/mock")
        over_ipv6 = await network.curl("-g", f"http://[{SERVER6}]/b")
    assert named.text == f"GET /a HTTP/1.1 at {SERVER}"
    assert mocked.text == "a rule"
    assert over_ipv6.text == f"GET /b HTTP/1.1 at {SERVER6}"


async def test_https_is_intercepted_by_its_name(tmp_path: Path, origin_ca: OriginCA) -> None:
    async with transparent(tmp_path, origin_ca, """
  - {name: mark, match: {host: shop.test}, action: {rewrite: {response_headers: {set: {x-mark: "yes"}}}}}
""") as (network, proxy):
        resolve = ("--resolve", f"shop.test:443:{SERVER}")
        answer = await network.curl("-i", *resolve, "--cacert", str(proxy.cwd / "conf" / "ca-cert.pem"),
                                    "--http1.1", "https://shop.test/a")
        other_host = await network.curl("-i", *resolve, "--cacert", str(proxy.cwd / "conf" / "ca-cert.pem"),
                                        "--http1.1", "-H", "Host: other.test", "https://shop.test/a")
        untouched = await network.curl("--cacert", str(origin_ca.pem), f"https://{SERVER}/b")
    assert "x-mark: yes" in answer.text
    assert answer.text.endswith(f"GET /a HTTP/1.1 at {SERVER}")
    assert other_host.text.startswith("HTTP/1.1 421 ")
    assert untouched.text == f"GET /b HTTP/1.1 at {SERVER}"


async def test_a_server_may_speak_first(tmp_path: Path, origin_ca: OriginCA) -> None:
    async with transparent(tmp_path, origin_ca, NO_RULES) as (network, _):
        answer = await network.curl("--max-time", "3", f"telnet://{SERVER}:2525")
    assert answer.text == "220 speaks first\r\n"


async def test_rules_decide_when_a_connection_is_accepted(tmp_path: Path, origin_ca: OriginCA) -> None:
    async with transparent(tmp_path, origin_ca, f"""
  - {{name: no-server, match: {{host: {SERVER}}}, action: {{block: true}}}}
""") as (network, proxy):
        plain = await network.curl("-i", f"http://{SERVER}/")
        secured = await network.curl("--cacert", str(origin_ca.pem), f"https://{SERVER}/")
        await proxy.line(f"to {SERVER}:443: refused by rule no-server")
    assert plain.text.startswith("HTTP/1.1 403 ")
    assert "no-server" in plain.text
    assert secured.code == 35  # curl: TLS failed
    assert b"access denied" in secured.err


async def test_a_connection_to_the_listener_itself_ends(tmp_path: Path, origin_ca: OriginCA) -> None:
    async with transparent(tmp_path, origin_ca, NO_RULES) as (network, proxy):
        answer = await network.curl(f"http://{ROUTER}:{PORT}/")
        await proxy.line("was not redirected from anywhere")
    assert answer.code in (52, 56)


async def test_without_a_redirect_nothing_is_served(make_proxy: Any, caplog: pytest.LogCaptureFixture) -> None:
    proxy = await make_proxy(modes=("transparent@127.0.0.1:0",))
    answer = await curl(f"http://{proxy.address}/")
    assert answer.code in (52, 56)
    assert sum("was not redirected from anywhere" in record.getMessage() for record in caplog.records) == 1
    assert proxy.recorder.names == ["client_connected", "client_disconnected"]
