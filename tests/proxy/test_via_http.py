"""Through another HTTP proxy: tunnels, forwarded requests, passwords, refusals, and which connections are shared."""

from __future__ import annotations

import asyncio
import base64
import logging
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rulesproxy.model.connection import ServerConnectionHookData
from rulesproxy.model.effects import Route, Via
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.policy import NameAnswer
from rulesproxy.model.via import DIRECT
from tests.support.certificates import OriginCA
from tests.support.hook_logs import (
    ANSWER,
    CONNECTED,
    DISCONNECTED,
    INTERCEPTED,
    REQUEST,
    SERVER_TLS,
    TUNNEL,
    At,
    Decide,
    assert_log,
)
from tests.support.leaks import until
from tests.support.origin import HELLO, Origin, OriginConnection, answering, run_origin
from tests.support.proxy import RunningProxy
from tests.support.upstream_proxies import Asked, Through, connect_proxy, run_proxy_script

MakeProxy = Callable[..., Awaitable[RunningProxy]]

SECONDS = 10.0
ADA = ("ada", "secret")
BASIC_ADA = b"Basic " + base64.b64encode(b"ada:secret")
WANTS_AUTH = (b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=office\r\n"
              b"Content-Length: 2\r\n\r\nno")
VIA_HOOKS = ["server_connect", "http_connect_upstream", "server_connected"]


def to(proxy: Origin) -> Via:
    return Via("http", "127.0.0.1", proxy.port)


def lines(origin: Origin) -> list[bytes]:
    return [request.line for request in origin.requests]


# --- plain requests, which the proxy forwards ---------------------------------------------------------------------


async def test_a_plain_request_names_its_whole_url(make_proxy: MakeProxy) -> None:
    async with run_origin(HELLO) as upstream:
        proxy = await make_proxy(Through(to(upstream)))
        done = await proxy.curl("http://shop.test/items?q=1", "-H", "X-A: b", "-d", "body")
        assert done.text == "hello"
        assert lines(upstream) == [b"POST http://shop.test/items?q=1 HTTP/1.1"]
        assert upstream.requests[0].values(b"host") == [b"shop.test"]
        assert upstream.requests[0].values(b"x-a") == [b"b"]
        assert upstream.requests[0].body == b"body"
        assert upstream.requests[0].values(b"proxy-authorization") == []


async def test_the_port_is_named_where_it_is_not_the_usual_one(make_proxy: MakeProxy) -> None:
    async with run_origin(HELLO) as upstream:
        proxy = await make_proxy(Through(to(upstream)))
        for url in ("http://shop.test:8080/", "http://[2001:db8::1]/a"):
            assert (await proxy.curl("-g", url)).text == "hello"
        assert lines(upstream) == [b"GET http://shop.test:8080/ HTTP/1.1", b"GET http://[2001:db8::1]/a HTTP/1.1"]


async def test_options_of_a_whole_server_has_no_path_there(make_proxy: MakeProxy) -> None:
    async with run_origin(HELLO) as upstream:
        proxy = await make_proxy(Through(to(upstream)))
        assert (await proxy.talk(b"OPTIONS http://shop.test HTTP/1.1\r\nHost: shop.test\r\n\r\n")).endswith(b"hello")
        assert lines(upstream) == [b"OPTIONS http://shop.test HTTP/1.1"]


async def test_connections_to_the_proxy_are_shared_between_servers_and_clients(make_proxy: MakeProxy) -> None:
    async with run_origin(HELLO) as upstream:
        proxy = await make_proxy(Through(to(upstream)), record=False)
        for host in ("a.test", "b.test", "a.test:81"):
            assert (await proxy.curl(f"http://{host}/")).text == "hello"
        assert lines(upstream) == [b"GET http://a.test/ HTTP/1.1", b"GET http://b.test/ HTTP/1.1",
                                   b"GET http://a.test:81/ HTTP/1.1"]
        assert len(upstream.connections) == 1


async def test_connections_are_not_shared_between_users(make_proxy: MakeProxy) -> None:
    async with run_origin(HELLO) as upstream:
        through = Through(replace(to(upstream), auth=ADA))
        proxy = await make_proxy(through, record=False)
        await proxy.curl("http://a.test/")
        through.via = replace(to(upstream), auth=("bob", "secret"))
        await proxy.curl("http://a.test/")
        through.via = to(upstream)
        await proxy.curl("http://a.test/")
        through.via = replace(to(upstream), auth=ADA)
        await proxy.curl("http://a.test/")
        said = [[request.values(b"proxy-authorization") for request in connection.requests]
                for connection in upstream.connections]
        assert said == [[[BASIC_ADA], [BASIC_ADA]], [[b"Basic " + base64.b64encode(b"bob:secret")]], [[]]]


async def test_a_connection_to_the_proxy_is_not_one_to_a_server_of_the_same_place(make_proxy: MakeProxy) -> None:
    async with run_origin(HELLO) as upstream:
        through = Through(to(upstream))
        proxy = await make_proxy(through, record=False)
        await proxy.curl("http://a.test/")
        through.via = DIRECT
        await proxy.curl(f"http://127.0.0.1:{upstream.port}/")
        assert lines(upstream) == [b"GET http://a.test/ HTTP/1.1", b"GET / HTTP/1.1"]
        assert len(upstream.connections) == 2


async def test_the_clients_own_proxy_password_goes_no_further(make_proxy: MakeProxy) -> None:
    async with run_origin(HELLO) as upstream:
        proxy = await make_proxy(Through(replace(to(upstream), auth=ADA)))
        await proxy.curl("http://a.test/", "--proxy-user", "client:own")
        assert upstream.requests[0].values(b"proxy-authorization") == [BASIC_ADA]


async def test_a_refused_password_is_a_page_of_our_own(make_proxy: MakeProxy) -> None:
    async with run_origin(WANTS_AUTH) as upstream:
        proxy = await make_proxy(Through(replace(to(upstream), auth=ADA, rule="office")))
        done = await proxy.curl("-i", "http://a.test/")
        assert done.text.startswith("HTTP/1.1 502 ")
        assert "proxy-authenticate" not in done.text.lower() and "secret" not in done.text
        assert "407" in done.text and f"127.0.0.1:{upstream.port}" in done.text
        assert "does not accept" in done.text and "rule office" in done.text


async def test_without_a_rule_the_page_names_the_option(make_proxy: MakeProxy) -> None:
    async with run_origin(WANTS_AUTH) as upstream:
        proxy = await make_proxy(Through(to(upstream)))
        done = await proxy.curl("-i", "http://a.test/")
        assert done.text.startswith("HTTP/1.1 502 ")
        assert "wants a user" in done.text and "upstream_auth" in done.text


@pytest.mark.parametrize("status", [b"403 Forbidden", b"503 Service Unavailable", b"502 Bad Gateway"])
async def test_other_answers_of_the_proxy_are_the_answer(make_proxy: MakeProxy, status: bytes) -> None:
    async with run_origin(b"HTTP/1.1 " + status + b"\r\nContent-Length: 3\r\n\r\nits") as upstream:
        proxy = await make_proxy(Through(to(upstream)))
        done = await proxy.curl("-i", "http://a.test/")
        assert done.text.startswith(f"HTTP/1.1 {status.decode()}") and done.text.endswith("its")


async def test_a_host_the_proxy_would_replace_goes_through_a_tunnel(make_proxy: MakeProxy) -> None:
    """RFC 9112 §3.2.2: with a whole URL the proxy makes its own Host, and `keep_host` would be for nothing."""
    asked = Asked()
    async with run_origin(HELLO) as origin, run_origin(connect_proxy(asked)) as upstream:
        proxy = await make_proxy(Through(to(upstream)), At("request", lambda flow: setattr(
            flow, "route", Route("127.0.0.1", origin.port))))
        assert (await proxy.curl("http://shop.test/")).text == "hello"
        assert asked.targets == [f"127.0.0.1:{origin.port}"]
        assert lines(origin) == [b"GET / HTTP/1.1"]
        assert origin.requests[0].values(b"host") == [b"shop.test"]


async def test_a_host_that_goes_with_the_route_is_forwarded(make_proxy: MakeProxy) -> None:
    async with run_origin(HELLO) as upstream:
        proxy = await make_proxy(Through(to(upstream)), At("request", lambda flow: setattr(
            flow, "route", Route("staging.test", 8080, host_header="staging.test:8080"))))
        assert (await proxy.curl("http://shop.test/a")).text == "hello"
        assert lines(upstream) == [b"GET http://staging.test:8080/a HTTP/1.1"]
        assert upstream.requests[0].values(b"host") == [b"staging.test:8080"]


class Spoofed:
    """Rules say where a name is."""

    def __init__(self, **names: NameAnswer) -> None:
        self.names = names

    def resolve(self, name: str, client: object) -> NameAnswer | None:
        return self.names.get(name.removesuffix(".test"))


async def test_a_name_that_rules_answer_is_not_left_to_the_proxy(make_proxy: MakeProxy) -> None:
    asked = Asked()
    async with run_origin(HELLO) as origin, run_origin(connect_proxy(asked)) as upstream:
        proxy = await make_proxy(Through(to(upstream)), Spoofed(shop=NameAnswer(("127.0.0.1",))))
        assert (await proxy.curl(f"http://shop.test:{origin.port}/")).text == "hello"
        assert asked.targets == [f"127.0.0.1:{origin.port}"]
        assert origin.requests[0].values(b"host") == [f"shop.test:{origin.port}".encode()]


async def test_a_name_that_rules_refuse_is_not_dialled_by_the_proxy_either(make_proxy: MakeProxy) -> None:
    async with run_origin(HELLO) as upstream:
        proxy = await make_proxy(Through(to(upstream)), Spoofed(gone=NameAnswer(rcode="NXDOMAIN", rule="no-such")))
        done = await proxy.curl("-i", "http://gone.test/")
        assert done.text.startswith("HTTP/1.1 502 ") and "no-such" in done.text
        assert upstream.connections == []


async def test_rules_say_where_the_proxy_is(make_proxy: MakeProxy) -> None:
    async with run_origin(HELLO) as upstream:
        proxy = await make_proxy(Through(Via("http", "proxy.test", upstream.port)),
                                 Spoofed(proxy=NameAnswer(("127.0.0.1",))))
        assert (await proxy.curl("http://shop.test/")).text == "hello"
        assert lines(upstream) == [b"GET http://shop.test/ HTTP/1.1"]


async def test_hooks_of_a_forwarded_request(make_proxy: MakeProxy) -> None:
    async with run_origin(HELLO) as upstream:
        proxy = await make_proxy(Through(to(upstream)))
        await proxy.curl("http://shop.test/")
        await assert_log(proxy.recorder, [*CONNECTED, *REQUEST, "server_connect", "server_connected", *ANSWER,
                                          *DISCONNECTED])
        server = proxy.recorder.arguments("server_connected")[0].server
        assert server.address == ("shop.test", 80)
        assert server.via == ("http", ("127.0.0.1", upstream.port))
        assert server.peername == ("127.0.0.1", upstream.port)


async def test_a_stale_connection_to_the_proxy_is_made_anew(make_proxy: MakeProxy) -> None:
    async def once(connection: OriginConnection) -> None:
        await connection.read_request()
        await connection.send(HELLO)

    async with run_origin(once) as upstream:
        proxy = await make_proxy(Through(to(upstream)), record=False)
        for host in ("a.test", "b.test", "c.test"):
            assert (await proxy.curl(f"http://{host}/")).text == "hello"
        assert [len(connection.requests) for connection in upstream.connections] == [1, 1, 1]


# --- tunnels ------------------------------------------------------------------------------------------------------


async def test_an_intercepted_tunnel_goes_through_the_proxy(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    asked = Asked()
    async with (run_origin(HELLO, tls=origin_ca.server_context("localhost")) as origin,
                run_origin(connect_proxy(asked)) as upstream):
        proxy = await make_proxy(Decide(), Through(replace(to(upstream), auth=ADA)))
        assert (await proxy.curl(f"https://localhost:{origin.port}/")).text == "hello"
        connect = asked.connects[0]
        assert connect.line == f"CONNECT localhost:{origin.port} HTTP/1.1".encode()
        assert connect.values(b"host") == [f"localhost:{origin.port}".encode()]
        assert connect.values(b"proxy-authorization") == [BASIC_ADA]
        assert origin.requests[0].values(b"proxy-authorization") == []
        await assert_log(proxy.recorder, [*CONNECTED, *INTERCEPTED, *REQUEST, *VIA_HOOKS, *SERVER_TLS, *ANSWER,
                                          *DISCONNECTED])
        server = proxy.recorder.arguments("server_connect")[0].server
        assert (server.address, server.via) == (("localhost", origin.port), ("http", ("127.0.0.1", upstream.port)))


async def test_a_relayed_tunnel_goes_through_the_proxy(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    asked = Asked()
    async with (run_origin(HELLO, tls=origin_ca.server_context("localhost")) as origin,
                run_origin(connect_proxy(asked)) as upstream):
        proxy = await make_proxy(Through(to(upstream)))
        done = await proxy.curl("--cacert", str(origin_ca.pem), f"https://localhost:{origin.port}/")
        assert done.text == "hello" and asked.targets == [f"localhost:{origin.port}"]
        await assert_log(proxy.recorder, [*CONNECTED, *TUNNEL, *VIA_HOOKS, *DISCONNECTED])


async def test_tunnels_are_kept_for_the_same_server_and_user(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    asked = Asked()
    async with (run_origin(HELLO, tls=origin_ca.server_context("localhost")) as origin,
                run_origin(connect_proxy(asked)) as upstream):
        through = Through(replace(to(upstream), auth=ADA))
        proxy = await make_proxy(Decide(), through, record=False)
        for _ in range(3):
            assert (await proxy.curl(f"https://localhost:{origin.port}/")).text == "hello"
        through.via = replace(to(upstream), auth=("bob", "secret"))
        assert (await proxy.curl(f"https://localhost:{origin.port}/")).text == "hello"
        through.via = DIRECT
        assert (await proxy.curl(f"https://localhost:{origin.port}/")).text == "hello"
        assert len(asked.connects) == 2 and len(origin.connections) == 3


async def test_what_a_server_says_first_may_come_with_the_answer(make_proxy: MakeProxy) -> None:
    async def greet(connection: OriginConnection) -> None:
        await connection.send(b"220 ready\r\n")
        assert await connection.read_until(b"\n") == b"QUIT\r\n"
        await connection.send(b"221 bye\r\n")

    asked = Asked()
    async with run_origin(greet) as origin, run_origin(connect_proxy(asked, together=True)) as upstream:
        proxy = await make_proxy(Through(to(upstream)), record=False)
        reader, writer = await proxy.connect()
        async with asyncio.timeout(SECONDS):
            writer.write(f"CONNECT localhost:{origin.port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readuntil(b"\n") == b"220 ready\r\n"
            writer.write(b"QUIT\r\n")
            assert await reader.read() == b"221 bye\r\n"
            writer.close()


async def test_a_websocket_goes_through_a_tunnel(make_proxy: MakeProxy) -> None:
    async def refuse(connection: OriginConnection) -> None:
        await connection.read_request()
        await connection.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    asked = Asked()
    async with run_origin(refuse) as origin, run_origin(connect_proxy(asked)) as upstream:
        proxy = await make_proxy(Through(to(upstream)))
        await proxy.curl(f"http://localhost:{origin.port}/chat", "-H", "Connection: Upgrade", "-H",
                         "Upgrade: websocket", "-H", "Sec-WebSocket-Version: 13", "-H",
                         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
        assert asked.targets == [f"localhost:{origin.port}"]
        assert origin.requests[0].line == b"GET /chat HTTP/1.1"
        assert origin.requests[0].values(b"upgrade") == [b"websocket"]


async def test_the_hook_may_change_the_connect(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    def sign(flow: HTTPFlow) -> None:
        assert (flow.request.method, flow.request.authority) == ("CONNECT", f"localhost:{origin.port}")
        flow.request.headers["Proxy-Authorization"] = "Bearer token"
        flow.request.headers["X-Team"] = "web"

    asked = Asked()
    async with (run_origin(HELLO, tls=origin_ca.server_context("localhost")) as origin,
                run_origin(connect_proxy(asked)) as upstream):
        proxy = await make_proxy(Decide(), Through(replace(to(upstream), auth=ADA)), At("http_connect_upstream", sign))
        assert (await proxy.curl(f"https://localhost:{origin.port}/")).text == "hello"
        assert asked.connects[0].values(b"proxy-authorization") == [b"Bearer token"]
        assert asked.connects[0].values(b"x-team") == [b"web"]


async def test_a_connect_killed_by_the_hook_is_not_sent(make_proxy: MakeProxy) -> None:
    asked = Asked()
    async with run_origin(connect_proxy(asked)) as upstream:
        proxy = await make_proxy(Decide(), Through(to(upstream)), At("http_connect_upstream", lambda flow: flow.kill()))
        done = await proxy.curl("--http1.1", "-i", "https://localhost:9/")
        assert "HTTP/1.1 502 " in done.text and "Connection killed" in done.text
        assert asked.connects == []


@pytest.mark.parametrize(("answer", "words"), [
    (b"HTTP/1.1 403 Not that one\r\nContent-Length: 4\r\n\r\nnope", ["403 Not that one", "refused CONNECT"]),
    (b"HTTP/1.1 302 Found\r\nLocation: http://evil.test/\r\n\r\n", ["302 Found"]),
    (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", ["101"]),
    (b"HTTP/1.0 500 \r\n\r\n", ["500"]),
    (WANTS_AUTH, ["407", "wants a user", "upstream_auth"]),
    (b"SSH-2.0-OpenSSH\r\n\r\n", ["no valid answer"]),
    (b"HTTP/1.1 2000 OK\r\n\r\n", ["no valid answer"]),
    (b"HTTP/1.1 500 x\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", ["too large"]),
    (b"HTTP/1.1 100 Continue\r\n\r\n" * 50 + b"HTTP/1.1 403 no\r\n\r\n", ["without end"]),
])
async def test_what_the_proxy_says_instead_of_yes_is_told(make_proxy: MakeProxy, answer: bytes,
                                                         words: list[str]) -> None:
    async def script(connection: OriginConnection) -> None:
        await connection.read_head()
        await connection.send(answer)
        await connection.read_to_end()

    async with run_origin(script) as upstream:
        proxy = await make_proxy(Decide(), Through(to(upstream)))
        done = await proxy.curl("--http1.1", "-i", "https://localhost:9/")
        page = done.text.partition("\r\n\r\n")[2]
        assert page.startswith("HTTP/1.1 502 ")
        assert f"http://127.0.0.1:{upstream.port}" in page and "evil.test" not in page
        for word in words:
            assert word in page
        assert proxy.recorder.names.count("server_connect_error") == 1
        assert "server_connected" not in proxy.recorder.names


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 O"])
async def test_a_proxy_that_hangs_up_is_told(make_proxy: MakeProxy, answer: bytes) -> None:
    async def script(connection: OriginConnection) -> None:
        await connection.read_head()
        await connection.send(answer)

    async with run_origin(script) as upstream:
        proxy = await make_proxy(Decide(), Through(to(upstream)))
        done = await proxy.curl("--http1.1", "-i", "https://localhost:9/")
        assert "HTTP/1.1 502 " in done.text and f"127.0.0.1:{upstream.port}" in done.text


async def test_interim_answers_are_waited_out(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    asked = Asked()
    answer = (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 x\r\nA: b\r\n\r\n"
              b"HTTP/1.1 204 Fine\r\nContent-Length: 9\r\n\r\n")
    async with (run_origin(HELLO, tls=origin_ca.server_context("localhost")) as origin,
                run_origin(connect_proxy(asked, answer)) as upstream):
        proxy = await make_proxy(Decide(), Through(to(upstream)))
        assert (await proxy.curl(f"https://localhost:{origin.port}/")).text == "hello"


async def test_a_silent_proxy_is_given_up(make_proxy: MakeProxy) -> None:
    async def silent(connection: OriginConnection) -> None:
        await connection.read_to_end()

    async with run_origin(silent) as upstream:
        proxy = await make_proxy(Decide(), Through(to(upstream)), connect_timeout=0.3)
        done = await proxy.curl("--http1.1", "-i", "https://localhost:9/")
        assert "HTTP/1.1 504 " in done.text and "did not answer" in done.text


async def test_a_tunnel_that_cannot_be_made_says_why_in_the_log(make_proxy: MakeProxy,
                                                               caplog: pytest.LogCaptureFixture) -> None:
    async with run_origin(WANTS_AUTH) as upstream:
        proxy = await make_proxy(Through(replace(to(upstream), auth=ADA)))
        with caplog.at_level(logging.DEBUG):
            await proxy.curl("https://localhost:9/")
        assert f"the upstream proxy http://127.0.0.1:{upstream.port} does not accept" in caplog.text
        assert "secret" not in caplog.text and BASIC_ADA.decode() not in caplog.text


async def test_a_proxy_nobody_reaches_is_named(make_proxy: MakeProxy) -> None:
    async with run_origin(HELLO) as gone:
        pass
    proxy = await make_proxy(Through(replace(to(gone), rule="office")))
    done = await proxy.curl("-i", "http://shop.test/")
    assert done.text.startswith("HTTP/1.1 502 ")
    assert f"upstream proxy http://127.0.0.1:{gone.port}" in done.text and "Rule: office" in done.text


async def test_the_proxy_itself_is_no_way_to_go(make_proxy: MakeProxy) -> None:
    through = Through(DIRECT)
    proxy = await make_proxy(Decide(), through)
    through.via = Via("http", "127.0.0.1", proxy.port)
    for url in ("http://shop.test/", "https://shop.test/"):
        done = await proxy.curl("--http1.1", "-i", url)
        assert "HTTP/1.1 502 " in done.text and "this proxy itself" in done.text


async def test_no_other_proxy_is_asked_for_this_one(make_proxy: MakeProxy) -> None:
    asked = Asked()
    async with run_origin(connect_proxy(asked)) as upstream:
        proxy = await make_proxy(Decide(), Through(to(upstream)))
        for host in ("127.0.0.1", "localhost"):
            for scheme in ("http", "https"):
                done = await proxy.curl("--http1.1", "-i", f"{scheme}://{host}:{proxy.port}/")
                assert "HTTP/1.1 502 " in done.text and "this proxy itself" in done.text
        assert asked.connects == [] and upstream.connections == []


@pytest.mark.parametrize("scheme", ["http", "https", "socks5"])
async def test_a_client_that_leaves_while_the_proxy_thinks_leaves_nothing_behind(make_proxy: MakeProxy,
                                                                                scheme: str) -> None:
    async def silent(connection: OriginConnection) -> None:
        await connection.read_to_end()

    async with run_origin(silent) as upstream:
        # A Host that the proxy would replace makes it a tunnel.
        proxy = await make_proxy(Through(Via(scheme, "127.0.0.1", upstream.port)), At("request", lambda flow: setattr(
            flow, "route", Route("elsewhere.test"))))
        _, writer = await proxy.connect()
        writer.write(b"GET http://shop.test/ HTTP/1.1\r\nHost: shop.test\r\n\r\n")
        await upstream.wait_for_connections(1)
        await until(lambda: bool(upstream.connections[0].received))
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # RST: it is no half-close
        writer.transport.abort()
        assert await until(lambda: "client_disconnected" in proxy.recorder.names)
        assert proxy.recorder.of("server_connect_error", "server_connected", "error") == [
            "server_connect_error", "error"]


async def test_a_large_upload_is_forwarded_as_it_comes(make_proxy: MakeProxy, tmp_path: Path) -> None:
    body = bytes(range(256)) * 8192  # 2 MiB
    (tmp_path / "body").write_bytes(body)
    async with run_origin(HELLO) as upstream:
        proxy = await make_proxy(Through(to(upstream)))
        done = await proxy.curl("-H", "Expect:", "--data-binary", f"@{tmp_path / 'body'}", "http://shop.test/up")
        assert done.text == "hello" and upstream.requests[0].body == body
        assert upstream.requests[0].line == b"POST http://shop.test/up HTTP/1.1"


# --- TLS to the proxy ---------------------------------------------------------------------------------------------


async def test_an_https_proxy_is_spoken_to_over_tls(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    context = origin_ca.server_context("localhost")
    asked = Asked()
    async with (run_proxy_script(connect_proxy(asked), "https", tls=context) as (_, via),
                run_origin(HELLO, tls=origin_ca.server_context("localhost")) as origin):
        proxy = await make_proxy(Decide(), Through(replace(via, auth=ADA)))
        assert (await proxy.curl(f"https://localhost:{origin.port}/")).text == "hello"
        assert asked.targets == [f"localhost:{origin.port}"]
        assert proxy.recorder.of(*VIA_HOOKS, *SERVER_TLS) == [*VIA_HOOKS, *SERVER_TLS]
        server = proxy.recorder.arguments("server_connected")[0].server
        assert server.sni == "localhost" and len(server.certificate_list) == 1


async def test_an_https_proxy_forwards_plain_requests(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    async with run_proxy_script(answering(HELLO), "https", tls=origin_ca.server_context("localhost")) as (upstream,
                                                                                                          via):
        proxy = await make_proxy(Through(via), record=False)
        for host in ("a.test", "b.test"):
            assert (await proxy.curl(f"http://{host}/")).text == "hello"
        assert lines(upstream) == [b"GET http://a.test/ HTTP/1.1", b"GET http://b.test/ HTTP/1.1"]
        assert len(upstream.connections) == 1


async def test_the_certificate_of_the_proxy_must_be_for_its_name(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    async with run_proxy_script(answering(HELLO), "https", tls=origin_ca.server_context("other.test")) as (upstream,
                                                                                                           via):
        proxy = await make_proxy(Through(replace(via, auth=ADA)))
        done = await proxy.curl("-i", "http://a.test/")
        assert "HTTP/1.1 502 " in done.text and "TLS with the upstream proxy" in done.text
        assert upstream.requests == []
        unverified = await make_proxy(Through(via), verify_upstream=False)
        assert (await unverified.curl("http://a.test/")).text == "hello"


async def test_what_is_allowed_to_a_server_is_not_allowed_to_the_proxy(make_proxy: MakeProxy,
                                                                      origin_ca: OriginCA) -> None:
    """`verify: false` is about the server behind it."""
    asked = Asked()
    bad = origin_ca.server_context("localhost", self_signed=True)
    async with run_origin(HELLO, tls=bad) as origin:
        route = At("request", lambda flow: setattr(flow, "route", Route(verify=False)))
        async with run_proxy_script(connect_proxy(asked), "https", tls=origin_ca.server_context("localhost")) as (_,
                                                                                                                  via):
            proxy = await make_proxy(Decide(), Through(via), route)
            assert (await proxy.curl(f"https://localhost:{origin.port}/")).text == "hello"
        async with run_proxy_script(connect_proxy(asked), "https", tls=bad) as (_, via):
            proxy = await make_proxy(Decide(), Through(via), route)
            assert "502" in (await proxy.curl("-i", f"https://localhost:{origin.port}/")).text


# --- server_connect -----------------------------------------------------------------------------------------------


async def test_an_addon_may_lead_through_a_proxy(make_proxy: MakeProxy) -> None:
    def lead(data: ServerConnectionHookData) -> None:
        data.server.via = ("http", ("127.0.0.1", upstream.port))

    asked = Asked()
    async with run_origin(HELLO) as origin, run_origin(connect_proxy(asked)) as upstream:
        proxy = await make_proxy(At("server_connect", lead))
        assert (await proxy.curl(f"http://localhost:{origin.port}/")).text == "hello"
        assert asked.targets == [f"localhost:{origin.port}"]
        assert lines(origin) == [b"GET / HTTP/1.1"]


async def test_an_addon_may_lead_past_the_proxy(make_proxy: MakeProxy) -> None:
    def lead(data: ServerConnectionHookData) -> None:
        data.server.via = None

    async with run_origin(HELLO) as origin, run_origin(HELLO) as upstream:
        proxy = await make_proxy(Through(to(upstream)), At("server_connect", lead))
        assert (await proxy.curl(f"http://localhost:{origin.port}/")).text == "hello"
        assert lines(origin) == [b"GET / HTTP/1.1"] and upstream.connections == []


async def test_an_addon_may_redirect_what_goes_through_a_tunnel(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    def move(data: ServerConnectionHookData) -> None:
        data.server.address = ("127.0.0.1", origin.port)

    asked = Asked()
    async with (run_origin(HELLO, tls=origin_ca.server_context("other.test")) as origin,
                run_origin(connect_proxy(asked)) as upstream):
        proxy = await make_proxy(Decide(), Through(to(upstream)), At("server_connect", move))
        assert (await proxy.curl("https://other.test/")).text == "hello"
        assert asked.targets == [f"127.0.0.1:{origin.port}"]


@pytest.mark.parametrize("via", ["http://proxy:1", ("ftp", ("a", 1)), ("http", ("a", 0)), ("http", "a", 1)])
async def test_what_is_no_way_is_refused(make_proxy: MakeProxy, via: object) -> None:
    proxy = await make_proxy(At("server_connect", lambda data: setattr(data.server, "via", via)))
    done = await proxy.curl("-i", "http://localhost:9/")
    assert done.text.startswith("HTTP/1.1 502 ") and "server.via" in done.text
