"""Reverse modes: HTTP and HTTPS in front of a server, raw TCP, TLS that ends here."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import socket
import ssl
from typing import Any

import pytest

from tests.support.certificates import OriginCA
from tests.support.leaks import until
from tests.support.origin import HELLO, OriginConnection, run_origin
from tests.support.proxy import RunningProxy
from tests.support.tools import curl

SECONDS = 10.0


def reverse(scheme: str, port: int, host: str = "127.0.0.1") -> dict[str, Any]:
    return {"modes": (f"reverse:{scheme}://{host}:{port}@127.0.0.1:0",)}


async def echo(connection: OriginConnection) -> None:
    while True:
        await connection.send(b"echo: " + await connection.read_some())


async def greet(connection: OriginConnection) -> None:
    await connection.send(b"220 speaks first\r\n")
    await connection.send(b"got " + await connection.read_some())


async def dialogue(proxy: RunningProxy, *, tls: ssl.SSLContext | None = None, name: str | None = None) -> bytes:
    async with asyncio.timeout(SECONDS):
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port, ssl=tls, server_hostname=name)
        greeting = await reader.readline()
        writer.write(b"hello\r\n")
        answer = await reader.readline()
        writer.close()
        await writer.wait_closed()
    return greeting + answer


# --- HTTP -------------------------------------------------------------------------------------------------------


async def test_the_destination_is_told_its_own_name(make_proxy: Any) -> None:
    async with run_origin(HELLO) as server:
        proxy = await make_proxy(**reverse("http", server.port))
        answer = await curl(f"http://localhost:{proxy.port}/a?b", "-H", "Connection: keep-alive")
    assert answer.text == "hello"
    request = server.requests[0]
    assert request.line == b"GET /a?b HTTP/1.1"
    assert request.values(b"host") == [f"127.0.0.1:{server.port}".encode()]
    assert proxy.recorder.of("http_connect", "requestheaders", "response") == ["requestheaders", "response"]


async def test_host_goes_on_as_it_came_if_that_is_wanted(make_proxy: Any) -> None:
    async with run_origin(HELLO) as server:
        proxy = await make_proxy(**reverse("http", server.port), keep_host_header=True)
        await curl(f"http://{proxy.address}/", "-H", "Host: shop.test")
    assert server.requests[0].values(b"host") == [b"shop.test"]


async def test_hooks_see_the_request_as_the_client_sent_it(make_proxy: Any) -> None:
    seen = []

    class Look:
        def requestheaders(self, flow: Any) -> None:
            seen.append((flow.request.url, flow.request.headers["host"], flow.client_conn.proxy_mode))

    async with run_origin(HELLO) as server:
        proxy = await make_proxy(Look(), **reverse("http", server.port))
        await curl(f"http://{proxy.address}/", "-H", "Host: shop.test")
        await curl(f"http://{proxy.address}/", "-H", "Host: shop.test:8443")
    assert seen == [("http://shop.test/", "shop.test", "reverse"),
                    ("http://shop.test:8443/", "shop.test:8443", "reverse")]


async def test_a_host_that_an_addon_sets_stays(make_proxy: Any) -> None:
    class Rename:
        def requestheaders(self, flow: Any) -> None:
            flow.request.headers["host"] = "other.test"

    async with run_origin(HELLO) as server:
        proxy = await make_proxy(Rename(), **reverse("http", server.port))
        await curl(f"http://{proxy.address}/")
    assert server.requests[0].values(b"host") == [b"other.test"]


@pytest.mark.parametrize("line", ["GET http://127.0.0.1:{other}/x HTTP/1.1", "GET http://rulesproxy.test/x HTTP/1.1"])
async def test_an_absolute_target_makes_no_open_proxy_of_it(make_proxy: Any, line: str) -> None:
    async with run_origin(HELLO) as server, run_origin(HELLO) as other:
        proxy = await make_proxy(**reverse("http", server.port))
        line = line.format(other=other.port)
        answer = await proxy.talk(f"{line}\r\nHost: a.test\r\nConnection: close\r\n\r\n".encode())
    assert answer.endswith(b"hello")
    assert server.requests[0].line == b"GET /x HTTP/1.1"
    assert server.requests[0].values(b"host") == [f"127.0.0.1:{server.port}".encode()]
    assert other.connections == []


async def test_connect_is_refused(make_proxy: Any) -> None:
    async with run_origin(HELLO) as server, run_origin(HELLO) as other:
        proxy = await make_proxy(**reverse("http", server.port))
        target = f"127.0.0.1:{other.port}"
        answer = await proxy.talk(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert server.connections == other.connections == []


async def test_what_is_no_http_gets_a_page(make_proxy: Any) -> None:
    async with run_origin(HELLO) as server:
        proxy = await make_proxy(**reverse("http", server.port))
        assert (await proxy.talk(b"\x00\x01\x02\x03\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
    assert server.connections == []


async def test_an_https_server_is_spoken_to_over_tls_and_verified(make_proxy: Any, origin_ca: OriginCA) -> None:
    async with run_origin(HELLO, tls=origin_ca.server_context("localhost")) as server:
        proxy = await make_proxy(**reverse("https", server.port, "localhost"))
        answer = await curl(f"http://{proxy.address}/", "-H", "Host: shop.test")
        wrong = await make_proxy(**reverse("https", server.port, "127.0.0.1"))
        refused = await curl("-i", f"http://{wrong.address}/")
    assert answer.text == "hello"
    assert server.requests[0].values(b"host") == [f"localhost:{server.port}".encode()]
    assert refused.text.startswith("HTTP/1.1 502 ")
    assert "certificate" in refused.text


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_clients_may_speak_tls_to_it(make_proxy: Any, origin_ca: OriginCA, scheme: str) -> None:
    tls = origin_ca.server_context("localhost") if scheme == "https" else None
    seen = []

    class Look:
        def requestheaders(self, flow: Any) -> None:
            seen.append((flow.request.scheme, flow.request.host, flow.client_conn.sni))

    async with run_origin(HELLO, tls=tls) as server:
        proxy = await make_proxy(Look(), **reverse(scheme, server.port, "localhost"))
        answer = await curl("--cacert", str(proxy.ca), "--connect-to", f"shop.test:443:{proxy.address}",
                            "https://shop.test/")
    assert answer.text == "hello"
    assert seen == [("https", "shop.test", "shop.test")]
    assert server.requests[0].values(b"host") == [f"localhost:{server.port}".encode()]


async def test_a_name_in_tls_does_not_bind_host(make_proxy: Any) -> None:
    """There is no 421 here: one server may have many names."""
    async with run_origin(HELLO) as server:
        proxy = await make_proxy(**reverse("http", server.port))
        answer = await curl("--cacert", str(proxy.ca), "--connect-to", f"shop.test:443:{proxy.address}",
                            "-H", "Host: other.test", "https://shop.test/")
    assert answer.text == "hello"


async def test_connections_to_the_destination_are_kept(make_proxy: Any) -> None:
    async with run_origin(HELLO) as server:
        proxy = await make_proxy(**reverse("http", server.port), record=False)
        for name in ("one.test", "two.test"):
            await curl(f"http://{proxy.address}/", "-H", f"Host: {name}")
    assert len(server.connections) == 1
    assert len(server.requests) == 2


# --- raw --------------------------------------------------------------------------------------------------------


async def test_raw_tcp_is_shown_to_its_hooks_and_passes(make_proxy: Any) -> None:
    async with run_origin(greet) as server:
        proxy = await make_proxy(**reverse("tcp", server.port))
        assert await dialogue(proxy) == b"220 speaks first\r\ngot hello\r\n"
        assert await until(lambda: "client_disconnected" in proxy.recorder.names)
    assert proxy.recorder.of("tcp_start", "tcp_end", "tcp_error", "requestheaders") == ["tcp_start", "tcp_end"]


async def test_nothing_is_looked_into_in_raw_tcp(make_proxy: Any) -> None:
    async with run_origin(echo) as server:
        proxy = await make_proxy(**reverse("tcp", server.port))
        answer = await proxy.talk(b"GET / HTTP/1.1\r\n\r\n")
    assert answer == b"echo: GET / HTTP/1.1\r\n\r\n"


async def test_tls_ends_here_and_begins_again(make_proxy: Any, origin_ca: OriginCA) -> None:
    async with run_origin(greet, tls=origin_ca.server_context("localhost")) as server:
        proxy = await make_proxy(**reverse("tls", server.port, "localhost"))
        context = ssl.create_default_context(cafile=proxy.ca)
        assert await dialogue(proxy, tls=context, name="localhost") == b"220 speaks first\r\ngot hello\r\n"
        assert await dialogue(proxy, tls=context, name="mail.test") == b"220 speaks first\r\ngot hello\r\n"
        assert await until(lambda: proxy.recorder.names.count("client_disconnected") == 2)
    names = proxy.recorder.of("tls_established_client", "tcp_start", "tls_established_server", "tcp_end")
    assert names == ["tls_established_client", "tcp_start", "tls_established_server", "tcp_end"] * 2
    assert [data.server.sni for data in proxy.recorder.arguments("tls_start_server")] == ["localhost"] * 2


async def test_http_in_reverse_tls_stays_bytes(make_proxy: Any, origin_ca: OriginCA) -> None:
    async with run_origin(HELLO, tls=origin_ca.server_context("localhost")) as server:
        proxy = await make_proxy(**reverse("tls", server.port, "localhost"))
        answer = await curl("--cacert", str(proxy.ca), "--connect-to", f"shop.test:443:{proxy.address}",
                            "--http1.1", "https://shop.test/")
    assert answer.text == "hello"
    assert proxy.recorder.of("requestheaders", "tcp_start") == ["tcp_start"]


async def test_a_client_without_tls_is_turned_away_from_reverse_tls(make_proxy: Any, origin_ca: OriginCA) -> None:
    async with run_origin(greet, tls=origin_ca.server_context("localhost")) as server:
        proxy = await make_proxy(**reverse("tls", server.port, "localhost"))
        answer = await proxy.talk(b"GET / HTTP/1.1\r\n\r\n")
    assert answer == b"\x15\x03\x03\x00\x02\x02\x32"  # a fatal alert
    assert server.connections == []


async def test_a_destination_that_is_the_listener_itself_is_no_loop(make_proxy: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    proxy = await make_proxy(modes=(f"reverse:http://127.0.0.1:{port}@127.0.0.1:{port}",))
    answer = await curl("-i", f"http://{proxy.address}/")
    assert answer.text.startswith("HTTP/1.1 502 ")
    assert "this proxy itself" in answer.text


# --- rules ------------------------------------------------------------------------------------------------------


async def test_rules_match_the_host_that_the_client_sent(make_app: Any) -> None:
    async with run_origin(HELLO) as server:
        app = await make_app("""
  - {name: shop, match: {host: shop.test, listener: reverse}, action: {respond: {body: from the rule}}}
""", mode=(f"reverse:http://127.0.0.1:{server.port}@127.0.0.1:0",))
        shop = await curl(f"http://{app.address}/", "-H", "Host: shop.test")
        other = await curl(f"http://{app.address}/", "-H", "Host: other.test")
    assert (shop.text, other.text) == ("from the rule", "hello")


@pytest.mark.parametrize(("to", "expected"), [
    ("redirect_server: {{to: '127.0.0.1:{other}'}}", b"shop.test"),
    ("redirect_server: {{to: '127.0.0.1:{other}', keep_host: false}}", b"127.0.0.1:{other}"),
    ("map_remote: 'http://127.0.0.1:{other}'", b"127.0.0.1:{other}"),
])
async def test_a_rule_may_lead_elsewhere(make_app: Any, to: str, expected: bytes) -> None:
    async with run_origin(HELLO) as server, run_origin(HELLO) as other:
        action = to.format(other=other.port)
        app = await make_app(f"  - {{name: away, match: {{path: /away}}, action: {{{action}}}}}\n",
                             mode=(f"reverse:http://127.0.0.1:{server.port}@127.0.0.1:0",))
        await curl(f"http://{app.address}/away", "-H", "Host: shop.test")
        await curl(f"http://{app.address}/here", "-H", "Host: shop.test")
    assert [request.target for request in other.requests] == [b"/away"]
    assert other.requests[0].values(b"host") == [expected.replace(b"{other}", str(other.port).encode())]
    assert [request.target for request in server.requests] == [b"/here"]


@pytest.mark.parametrize("how", ["", "how: close", "how: reset", "status: 451"])
async def test_a_blocked_destination_is_not_dialled(make_app: Any, how: str) -> None:
    async with run_origin(HELLO) as server:
        app = await make_app(f"  - {{name: no, match: {{host: localhost}}, action: {{block: {{{how}}}}}}}\n",
                             mode=(f"reverse:http://localhost:{server.port}@127.0.0.1:0",))
        answer = await curl("-i", f"http://localhost:{app.port}/")
    assert server.connections == []
    if how.startswith("how"):
        assert answer.code in (7, 52, 56)  # a reset may come before curl has begun
    else:
        assert answer.text.startswith("HTTP/1.1 451 " if how else "HTTP/1.1 403 ")
        assert "no" in answer.text


@pytest.mark.parametrize("listener", ["tcp", "tls", "https"])
async def test_a_blocked_tunnel_is_refused_in_its_own_protocol(make_app: Any, listener: str) -> None:
    async with run_origin(greet) as server:
        app = await make_app("  - {name: no, match: {host: localhost}, action: {block: true}}\n",
                             mode=(f"reverse:{listener}://localhost:{server.port}@127.0.0.1:0",))
        if listener == "tcp":
            assert await app.talk(b"\x01hello") == b""
        else:
            context = ssl.create_default_context(cafile=app.ca)
            with pytest.raises(ssl.SSLError, match="access denied"):
                await dialogue(app, tls=context, name="shop.test")
    assert server.connections == []


async def test_notes_of_connect_rules_act_when_a_connection_is_accepted(
        make_app: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "rulesproxy")
    async with run_origin(greet) as server:
        app = await make_app("""
  - name: noted
    match: {host: nowhere.test, listener: reverse}
    action: {log: somebody came, delay: 50ms, redirect_server: {to: "127.0.0.1"}}
""", mode=(f"reverse:tcp://nowhere.test:{server.port}@127.0.0.1:0",))
        begun = asyncio.get_running_loop().time()
        assert (await dialogue(app)).startswith(b"220 ")
        taken = asyncio.get_running_loop().time() - begun
    assert sum("somebody came" in record.getMessage() for record in caplog.records) == 1
    assert taken >= 0.05


async def test_a_passthrough_rule_lets_the_client_see_the_servers_certificate(
        make_app: Any, origin_ca: OriginCA) -> None:
    async with run_origin(HELLO, tls=origin_ca.server_context("localhost")) as server:
        app = await make_app("  - {name: alone, match: {sni: localhost}, action: {tls: passthrough}}\n",
                             mode=(f"reverse:https://localhost:{server.port}@127.0.0.1:0",))
        untouched = await curl("--cacert", str(origin_ca.pem), f"https://localhost:{app.port}/")
        ended = await curl("--cacert", str(app.ca), "--connect-to", f"shop.test:443:{app.address}",
                           "https://shop.test/")
    assert (untouched.text, ended.text) == ("hello", "hello")


async def test_http_1_0_needs_no_host(make_proxy: Any) -> None:
    async with run_origin(HELLO) as server:
        proxy = await make_proxy(**reverse("http", server.port), keep_host_header=True)
        answer = await proxy.talk(b"GET /health HTTP/1.0\r\n\r\n")
    assert answer.endswith(b"hello")
    assert server.requests[0].values(b"host") == [f"127.0.0.1:{server.port}".encode()]


@pytest.mark.parametrize("arguments", [
    ("--http2", "--connect-to", "shop.test:443:{place}", "https://shop.test/x"),
    ("--http2-prior-knowledge", "-H", "Host: shop.test", "http://{place}/x"),
])
async def test_clients_may_speak_http2_to_it(make_proxy: Any, arguments: tuple[str, ...]) -> None:
    seen = []

    class Look:
        def requestheaders(self, flow: Any) -> None:
            seen.append((flow.request.host, flow.request.http_version))

    async with run_origin(HELLO) as server:
        proxy = await make_proxy(Look(), **reverse("http", server.port))
        answer = await curl("--cacert", str(proxy.ca), "-w", " %{http_version}",
                            *(argument.format(place=proxy.address) for argument in arguments))
    assert answer.text == "hello 2"
    assert seen == [("shop.test", "HTTP/2.0")]
    request = server.requests[-1]  # a client that knew of HTTP/2 had it tried with the destination first
    assert request.line == b"GET /x HTTP/1.1"
    assert request.values(b"host") == [f"127.0.0.1:{server.port}".encode()]


async def test_an_upgrade_goes_to_the_destination(make_proxy: Any) -> None:
    async def switch(connection: OriginConnection) -> None:
        request = await connection.read_request()
        key = request.values(b"sec-websocket-key")[0]
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        await connection.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                              b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n\x81\x05hello")
        await connection.read_to_end()

    async with run_origin(switch) as server:
        proxy = await make_proxy(**reverse("http", server.port))
        reader, writer = await proxy.connect()
        async with asyncio.timeout(SECONDS):
            writer.write(b"GET /chat HTTP/1.1\r\nHost: shop.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                         b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            assert await reader.readexactly(7) == b"\x81\x05hello"
        writer.close()
        await writer.wait_closed()
        assert await until(lambda: "client_disconnected" in proxy.recorder.names)
    assert server.requests[0].target == b"/chat"
