"""All modes in one process, as `run` starts them."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

import pytest

from rulesproxy.errors import StartupError
from tests.support.dns_upstream import FakeResolver
from tests.support.origin import HELLO, run_origin
from tests.support.tools import curl, run_tool

RULES = """
  - {name: mock, match: {host: mock.test}, action: {respond: {body: a mock}}}
  - {name: name, match: {domain: spoofed.test}, action: {spoof_dns: {A: 192.0.2.7}}}
"""


async def test_all_modes_at_once(make_app: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "rulesproxy")
    async with run_origin(HELLO) as server:
        app = await make_app(RULES, mode=(
            "dns@127.0.0.1:0", "socks5@127.0.0.1:0", f"reverse:http://127.0.0.1:{server.port}@127.0.0.1:0",
            "regular@127.0.0.1:0", f"reverse:udp://127.0.0.1:{server.port}@127.0.0.1:0", "transparent@127.0.0.1:0",
            "regular@127.0.0.1:0"))
        app.app.announce()
        kinds = [f"{mode.name}:{mode.transport}" for mode, _ in app.app.listening]
        assert kinds == ["socks5:tcp", "reverse:tcp", "regular:tcp", "transparent:tcp", "regular:tcp", "dns:dns",
                         "reverse:udp"]
        socks, reverse, regular, _, second = [f"{host}:{port}" for host, port in app.app.addresses]
        answers = [
            await curl("--noproxy", "", "--socks5-hostname", socks, "http://mock.test/"),
            await curl("-H", "Host: mock.test", f"http://{reverse}/"),
            await curl("http://mock.test/", proxy=regular),
            await curl("http://mock.test/", proxy=second),
        ]
        host, port = app.dns_address
        answer = await run_tool("dig", "+short", "+timeout=5", f"@{host}", "-p", str(port), "a.spoofed.test")
    assert [answer.text for answer in answers] == ["a mock"] * 4
    assert answer.text.strip() == "192.0.2.7"
    said = "\n".join(record.getMessage() for record in caplog.records)
    for line in (f"listening on {socks} for SOCKS5", f"listening on {regular} for HTTP and HTTPS",
                 f"listening on {reverse} for http://127.0.0.1:{server.port}", f"listening on {host}:{port} for DNS",
                 "for redirected connections", f"for udp://127.0.0.1:{server.port}"):
        assert line in said


async def test_a_reverse_proxy_alone_is_no_proxy(make_app: Any) -> None:
    async with run_origin(HELLO) as server:
        app = await make_app(RULES, mode=(f"reverse:http://127.0.0.1:{server.port}@127.0.0.1:0",))
        assert [mode.name for mode, _ in app.app.listening] == ["reverse"]


@pytest.mark.parametrize("kind", ["+notcp", "+tcp"])
async def test_reverse_dns_asks_that_server_only(make_app: Any, kind: str) -> None:
    clients = []

    class Look:
        def dns_request(self, flow: Any) -> None:
            clients.append((flow.client_conn.proxy_mode, flow.request.question.name))

    async with FakeResolver({("www.example.test", "A"): ["192.0.2.80"]}) as upstream:
        app = await make_app(RULES, Look(), mode=(f"reverse:dns://127.0.0.1:{upstream.port}@127.0.0.1:0",))
        host, port = app.dns_address
        dig = ("dig", kind, "+timeout=5", "+tries=1", f"@{host}", "-p", str(port))
        forwarded = await run_tool(*dig, "+short", "www.example.test")
        spoofed = await run_tool(*dig, "+short", "a.spoofed.test")
        assert app.proxy.core.is_own_address(host, port)
    assert forwarded.text.strip() == "192.0.2.80"
    assert spoofed.text.strip() == "192.0.2.7"
    assert clients == [("reverse", "www.example.test"), ("reverse", "a.spoofed.test")]


async def test_reverse_udp_passes_datagrams(make_app: Any) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.setblocking(False)
        server.bind(("127.0.0.1", 0))
        app = await make_app(RULES, mode=(f"reverse:udp://127.0.0.1:{server.getsockname()[1]}@127.0.0.1:0",))
        _, place = app.app.listening[0]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.connect(place)
            async with asyncio.timeout(10):
                await loop.sock_sendall(client, b"ping")
                data, peer = await loop.sock_recvfrom(server, 100)
                await loop.sock_sendto(server, b"pong " + data, peer)
                assert await loop.sock_recv(client, 100) == b"pong ping"
    assert app.recorder.of("udp_start") == ["udp_start"]


@pytest.mark.parametrize("spec", ["socks5", "reverse:tcp://10.0.0.7:1", "transparent", "regular", "dns",
                                  "reverse:udp://10.0.0.7:1", "reverse:dns://10.0.0.7"])
async def test_a_port_in_use_is_said_with_the_mode_to_change(make_app: Any, spec: str) -> None:
    kind = socket.SOCK_DGRAM if "udp" in spec else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind is socket.SOCK_STREAM:
            taken.listen()
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(StartupError, match=f"cannot listen on {place}: the port is in use") as caught:
            await make_app(RULES, mode=("regular@127.0.0.1:0", f"{spec}@{place}"))
    assert str(caught.value).endswith(f"--mode {spec}@HOST:PORT")


@pytest.mark.parametrize("auth", ["me", ":secret", "me:a\nb"])
async def test_upstream_auth_is_looked_at_at_the_start(make_app: Any, auth: str) -> None:
    with pytest.raises(Exception, match="option upstream_auth: user and password") as caught:
        await make_app(RULES, mode=("upstream:http://127.0.0.1:1@127.0.0.1:0",), upstream_auth=auth)
    assert type(caught.value).__name__ == "OptionsError"
    assert "secret" not in str(caught.value)
