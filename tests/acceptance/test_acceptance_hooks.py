"""Acceptance line 4: the hooks of the real command, in order, as a script given with `-s` sees them."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.acceptance import recorder
from tests.acceptance.command import RulesProxy, run_rulesproxy
from tests.acceptance.conftest import MakeNginx, MakeResolver
from tests.support.certificates import OriginCA
from tests.support.dns_upstream import FakeResolver, silent
from tests.support.hook_logs import (
    ANSWER,
    CLOSING_GET,
    CONNECTED,
    DIALLED,
    DISCONNECTED,
    INTERCEPTED,
    REQUEST,
    SERVER_TLS,
    TUNNEL,
)
from tests.support.leaks import until
from tests.support.nginx import Nginx
from tests.support.origin import OriginConnection, run_origin
from tests.support.tools import Completed, curl, run_tool

SECONDS = 10.0
RULES = """\
version: 1
rules:
  - name: mark
    match: {host: localhost}
    action: {rewrite: {response_headers: {set: {x-mark: "yes"}}}}
  - name: mock
    match: {host: mock.test}
    action: {respond: mock}
  - name: closed
    match: {host: blocked.test}
    action: {block: true}
  - name: spoofed
    match: {host: spoof.test}
    action: {spoof_dns: {A: 192.0.2.10}}
"""
START = ["load", "configure", "running"]


class Scene:
    """The command with its recorder; `fired` are the hooks since it was last asked."""

    def __init__(self, proxy: RulesProxy, log: Path, nginx: Nginx, resolver: FakeResolver, origin_ca: OriginCA) -> None:
        self.proxy = proxy
        self.resolver = resolver
        self.nginx = nginx
        self.origin_ca = origin_ca
        self._log = log
        self._read = 0

    async def fired(self, expected: list[str]) -> None:
        """Exactly these hooks have fired since the last call. The ends of connections come when they come: one for
        each beginning."""
        begun = Counter(expected)
        ends = {"server_disconnected": begun["server_connected"], "client_disconnected": begun["client_connected"]}
        await until(lambda: len(self.new()) >= len(expected) + ends["server_disconnected"], SECONDS)
        names = self.new()
        self._read += len(names)
        assert [name for name in names if name != "server_disconnected"] == expected
        assert {end: names.count(end) for end in ends} == ends

    def new(self) -> list[str]:
        return self._log.read_text().splitlines()[self._read:]

    async def dig(self, *arguments: str) -> Completed:
        return await run_tool("dig", "@127.0.0.1", "-p", str(self.proxy.dns_port), *arguments, "+tries=1", "+time=5")

    async def openssl(self, authority: Path) -> Completed:
        return await run_tool(
            "openssl", "s_client", "-proxy", self.proxy.address, "-connect", f"localhost:{self.nginx.tls_port}",
            "-servername", "localhost", "-CAfile", str(authority), "-verify_return_error", "-ign_eof",
            stdin=CLOSING_GET)


@pytest.fixture
async def scene(make_nginx: MakeNginx, make_resolver: MakeResolver, origin_ca: OriginCA, rules: Path, tmp_path: Path,
                monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    rules.write_text(RULES)
    log = tmp_path / "hooks.log"
    monkeypatch.setenv(recorder.LOG, str(log))
    nginx = await make_nginx()
    resolver = await make_resolver({("known.test", "A"): ["192.0.2.1"], ("origin.test", "A"): ["127.0.0.1"]})
    async with run_rulesproxy(tmp_path / "conf", rules, "-s", recorder.__file__,
                              "--set", f"upstream_ca={origin_ca.pem}", "--set", f"resolvers={resolver.address}",
                              "--set", "dns_timeout=1", dns=True) as proxy:
        made = Scene(proxy, log, nginx, resolver, origin_ca)
        await made.fired(START)
        yield made
    assert made.new() == ["done"]  # nothing fired after it, and nothing was out of order


async def test_plain(scene: Scene) -> None:
    hello = f"http://localhost:{scene.nginx.port}/hello"
    done = await scene.proxy.curl("--include", hello, hello)
    assert done.text.count("x-mark: yes") == 2
    await scene.fired([*CONNECTED, *REQUEST, *DIALLED, *ANSWER, *REQUEST, *ANSWER, *DISCONNECTED])
    assert (await scene.proxy.curl("http://mock.test/")).text == "mock"
    await scene.fired([*CONNECTED, "requestheaders", *ANSWER, *DISCONNECTED])  # the rule answers at the head


async def test_intercepted(scene: Scene) -> None:
    hooks = [*CONNECTED, *INTERCEPTED, *REQUEST, *DIALLED, *SERVER_TLS, *ANSWER, *DISCONNECTED]
    assert "x-mark: yes" in (await scene.proxy.curl("-i", f"https://localhost:{scene.nginx.tls_port}/hello")).text
    await scene.fired(hooks)
    assert b"x-mark: yes" in (await scene.openssl(scene.proxy.ca)).out
    await scene.fired(hooks)


async def test_relayed(scene: Scene) -> None:
    url = f"https://origin.test:{scene.nginx.tls_port}/hello"
    # The origin's certificate is for another name; what matters is whose it is.
    done = await curl("--cacert", str(scene.origin_ca.pem), "--include", url, proxy=scene.proxy.address)
    assert b"no alternative certificate subject name matches" in done.err
    await scene.fired([*CONNECTED, *TUNNEL, *DIALLED, *DISCONNECTED])
    done = await curl("--insecure", "--proxytunnel", url, proxy=scene.proxy.address)
    assert done.text == "hello from nginx\n"
    await scene.fired([*CONNECTED, *TUNNEL, *DIALLED, *DISCONNECTED])


async def test_refused_tunnel(scene: Scene) -> None:
    assert b"CONNECT tunnel failed, response 403" in (await scene.proxy.curl("https://blocked.test/")).err
    await scene.fired([*CONNECTED, "http_connect", "http_connect_error", *DISCONNECTED])


async def test_failing_servers(scene: Scene) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        refusing = server.getsockname()[1]
    failed = [*REQUEST, "server_connect", "server_connect_error", "error", *DISCONNECTED]
    assert "502 Bad Gateway" in (await scene.proxy.curl("-i", f"http://localhost:{refusing}/")).text
    await scene.fired([*CONNECTED, *failed])
    assert "HTTP/2 502" in (await scene.proxy.curl("-i", f"https://localhost:{refusing}/")).text
    await scene.fired([*CONNECTED, *INTERCEPTED, *failed])
    assert "502 Bad Gateway" in (await scene.proxy.curl("-i", "http://nowhere.test/")).text
    await scene.fired([*CONNECTED, *failed])

    async def cutting(connection: OriginConnection) -> None:
        await connection.read_request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")

    async with run_origin(cutting) as origin:
        assert (await scene.proxy.curl(f"http://localhost:{origin.port}/")).code == 18  # a partial file
        await scene.fired([*CONNECTED, *REQUEST, *DIALLED, "responseheaders", "error", *DISCONNECTED])


@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
async def test_names(scene: Scene, transport: str) -> None:
    opened, closed = (CONNECTED, DISCONNECTED) if transport == "+tcp" else ([], [])
    for name, answer in (("spoof.test", "192.0.2.10"), ("known.test", "192.0.2.1")):
        assert (await scene.dig(name, "A", "+short", transport)).text == f"{answer}\n"
        await scene.fired([*opened, "dns_request", "dns_response", *closed])
    assert "status: NXDOMAIN" in (await scene.dig("blocked.test", "AAAA", transport)).text
    await scene.fired([*opened, "dns_request", "dns_response", *closed])
    scene.resolver.udp = scene.resolver.tcp = silent
    assert "status: SERVFAIL" in (await scene.dig("origin.test", "A", transport)).text
    await scene.fired([*opened, "dns_request", "dns_error", *closed])
