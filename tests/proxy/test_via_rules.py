"""`upstream_proxy` on the wire: another rulesproxy in between, who is asked when, and what a reload changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from tests.support.app import RunningApp
from tests.support.certificates import OriginCA
from tests.support.origin import HELLO, OriginConnection, run_origin
from tests.support.proxy import RunningProxy
from tests.support.upstream_proxies import Asked, connect_proxy, run_proxy_script, socks_proxy

MakeApp = Callable[..., Awaitable[RunningApp]]
MakeProxy = Callable[..., Awaitable[RunningProxy]]

SECONDS = 10.0
VIA = '  - {name: office, match: {host: localhost}, action: {upstream_proxy: "%s"}}\n'
MARK = "  - {name: mark, match: {host: localhost}, action: {rewrite: {headers: {set: {x-mark: seen}}}}}\n"


async def test_another_rulesproxy_forwards_plain_requests(make_app: MakeApp, make_proxy: MakeProxy) -> None:
    async with run_origin(HELLO) as origin:
        outer = await make_proxy()
        inner = await make_app(VIA % f"http://{outer.address}")
        for path in ("a", "b"):
            assert (await inner.curl(f"http://localhost:{origin.port}/{path}")).text == "hello"
        assert [request.line for request in origin.requests] == [b"GET /a HTTP/1.1", b"GET /b HTTP/1.1"]
        assert "http_connect" not in outer.recorder.names
        assert [flow.request.url for flow in outer.recorder.arguments("request")] == [
            f"http://localhost:{origin.port}/a", f"http://localhost:{origin.port}/b"]


@pytest.mark.parametrize("decrypted", [False, True])
async def test_another_rulesproxy_opens_tunnels(make_app: MakeApp, make_proxy: MakeProxy, origin_ca: OriginCA,
                                                decrypted: bool) -> None:
    async with run_origin(HELLO, tls=origin_ca.server_context("localhost")) as origin:
        outer = await make_proxy()
        inner = await make_app(VIA % f"http://{outer.address}" + MARK * decrypted)
        trust = [] if decrypted else ["--cacert", str(origin_ca.pem)]
        assert (await inner.curl(*trust, f"https://localhost:{origin.port}/")).text == "hello"
        assert origin.requests[0].values(b"x-mark") == [b"seen"] * decrypted
        assert outer.recorder.of("http_connect", "http_connected") == ["http_connect", "http_connected"]
        assert [flow.server_conn.address for flow in inner.recorder.arguments("http_connect_upstream")] == [
            ("localhost", origin.port)]


async def test_a_tunnel_refused_by_the_other_is_told(make_app: MakeApp) -> None:
    outer = await make_app("  - {name: no, match: {host: localhost}, action: {block: true}}\n")
    inner = await make_app(VIA % f"http://{outer.address}" + MARK)
    done = await inner.curl("--http1.1", "-i", "https://localhost:9/")
    assert "HTTP/1.1 502 " in done.text and "403" in done.text and "Rule: office" in done.text


async def test_the_password_of_a_rule_is_sent_and_never_told(make_app: MakeApp,
                                                            caplog: pytest.LogCaptureFixture) -> None:
    rules = ('  - name: office\n    match: {host: localhost}\n    action:\n      upstream_proxy:\n'
             '        url: "socks5://127.0.0.1:%d"\n        auth: "ada:%s"\n')
    asked = Asked()
    async with (run_origin(HELLO) as origin,
                run_proxy_script(socks_proxy(asked, auth=("ada", "secret")), "socks5") as (_, via)):
        with caplog.at_level(logging.DEBUG):
            app = await make_app(rules % (via.port, "secret"))
            assert (await app.curl(f"http://localhost:{origin.port}/")).text == "hello"
            await app.edit(rules % (via.port, "wrongword"))
            done = await app.curl("-i", f"http://localhost:{origin.port}/")
        assert asked.auth == [("ada", "secret"), ("ada", "wrongword")]
        assert "HTTP/1.1 502 " in done.text and "auth" in done.text
        state = (await app.curl("http://rulesproxy.test/rules")).text
        assert "secret" not in caplog.text + done.text + state and "wrongword" not in caplog.text + done.text + state


async def test_the_first_rule_leads_and_direct_is_a_way(make_app: MakeApp) -> None:
    async with run_origin(HELLO) as origin:
        app = await make_app('  - {name: near, match: {host: localhost, path: /near/**}, action: '
                             '{upstream_proxy: direct}}\n' + VIA % "socks5://127.0.0.1:9")
        assert (await app.curl(f"http://localhost:{origin.port}/near/x")).text == "hello"
        assert "502" in (await app.curl("-i", f"http://localhost:{origin.port}/far")).text


async def test_an_answer_needs_no_way(make_app: MakeApp) -> None:
    app = await make_app('  - {name: mock, match: {host: localhost}, action: {respond: here}}\n'
                         + VIA % "http://127.0.0.1:9")
    assert (await app.curl("http://localhost:9/")).text == "here"


async def test_via_goes_with_a_route(make_app: MakeApp, make_proxy: MakeProxy) -> None:
    async with run_origin(HELLO) as origin:
        outer = await make_proxy()
        app = await make_app(
            '  - {name: moved, match: {host: shop.test}, action: {redirect_server: '
            f'{{to: "127.0.0.1:{origin.port}", keep_host: false}}}}}}\n'
            f'  - {{name: office, match: {{domain: test}}, action: {{upstream_proxy: "http://{outer.address}"}}}}\n')
        assert (await app.curl("http://shop.test/")).text == "hello"
        assert origin.requests[0].values(b"host") == [f"127.0.0.1:{origin.port}".encode()]
        assert [flow.request.url for flow in outer.recorder.arguments("request")] == [f"http://127.0.0.1:{origin.port}/"]


async def test_a_tunnel_that_goes_another_way_now_ends(make_app: MakeApp) -> None:
    async def echo(connection: OriginConnection) -> None:
        while True:
            await connection.send(await connection.read_some())

    asked = Asked()
    async with run_origin(echo) as origin, run_proxy_script(connect_proxy(asked)) as (_, via):
        app = await make_app(VIA % via)
        reader, writer = await app.connect()
        async with asyncio.timeout(SECONDS):
            writer.write(f"CONNECT localhost:{origin.port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"\x00")
            assert await reader.readexactly(1) == b"\x00"
            await app.edit(VIA % via + "  - {name: more, match: {host: nobody.test}, action: {block: true}}\n")
            writer.write(b"\x01")  # the same way: it goes on
            assert await reader.readexactly(1) == b"\x01"
            await app.edit(VIA % "direct")
            assert await reader.read() == b""
            writer.close()
        assert len(asked.connects) == 1


async def test_a_tunnel_chosen_by_its_server_name_stays_closed(make_app: MakeApp, origin_ca: OriginCA) -> None:
    asked = Asked()
    async with (run_origin(HELLO, tls=origin_ca.server_context("localhost")) as origin,
                run_proxy_script(connect_proxy(asked)) as (_, via)):
        app = await make_app(f'  - {{name: office, match: {{sni: localhost}}, action: {{upstream_proxy: "{via}"}}}}\n')
        done = await app.curl("--cacert", str(origin_ca.pem), f"https://localhost:{origin.port}/")
        assert done.text == "hello" and asked.targets == [f"localhost:{origin.port}"]
        assert "tls_start_client" not in app.recorder.names
