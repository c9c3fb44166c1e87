"""Attacks on the ways in and out: SOCKS, reverse and upstream modes, who may use the proxy, and other proxies."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Awaitable, Callable
from ipaddress import ip_address

import pytest

from rulesproxy.model.effects import Via
from tests.support.app import RunningApp
from tests.support.certificates import OriginCA
from tests.support.http2 import http2_to_proxy
from tests.support.origin import OriginConnection, answering, run_origin
from tests.support.proxy import RunningProxy
from tests.support.tunnels import Pair, close, connect, connect_socks
from tests.support.upstream_proxies import Through

MakeApp = Callable[..., Awaitable[RunningApp]]
MakeProxy = Callable[..., Awaitable[RunningProxy]]
SECONDS = 10.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SOCKS = ("socks5@127.0.0.1:0",)
RULES = ("  - {name: hosts, match: {host: [blocked.test, bücher.test, 127.0.0.9]}, action: {block: true}}\n"
         "  - {name: paths, match: {host: [localhost, 127.0.0.1], path: /admin/**}, action: {block: {status: 403}}}\n")
NO_AUTH = b"\x05\x01\x00"


async def say(app: RunningProxy, data: bytes) -> bytes:
    """Everything at once; what is answered until the proxy closes."""
    return await app.talk(data)


def by_name(name: bytes, port: int = 80) -> bytes:
    return b"\x05\x01\x00\x03" + bytes([len(name)]) + name + port.to_bytes(2, "big")


def by_address(address: str, port: int = 80) -> bytes:
    packed = ip_address(address).packed
    return b"\x05\x01\x00" + (b"\x01" if len(packed) == 4 else b"\x04") + packed + port.to_bytes(2, "big")


# --- SOCKS -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [
    *map(by_name, (b"blocked.test", b"BLOCKED.test", b"blocked.test.", b"xn--bcher-kva.test", b"XN--BCHER-KVA.TEST.",
                   "bücher.test".encode(), b"127.0.0.9", b"127.9", b"0x7f.0.0.9", b"2130706441", b"0177.0.0.011",
                   b"::ffff:127.0.0.9", b"blocked.test\0", b"blocked.test:80", b"x@blocked.test", b"bl%6fcked.test",
                   b" blocked.test", b"blocked.test\r\n", b"", b"a" * 255)),
    by_address("127.0.0.9"), by_address("::ffff:127.0.0.9"),
], ids=range(22))
async def test_no_spelling_dodges_a_block_by_socks(make_app: MakeApp, asked: bytes) -> None:
    app = await make_app(RULES, mode=SOCKS)
    answer = await say(app, NO_AUTH + asked + b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer[:2] == b"\x05\x00"
    assert answer[2:4] in (b"\x05\x01", b"\x05\x02"), answer
    assert "server_connect" not in app.recorder.names


@pytest.mark.parametrize("host", [b"blocked.test", b"BLOCKED.test.:80", b"127.0.0.9"])
async def test_a_bare_address_does_not_hide_the_host(make_app: MakeApp, host: bytes) -> None:
    app = await make_app(RULES, mode=SOCKS)
    async with run_origin(OK) as origin:
        request = b"GET / HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n"
        answer = await say(app, NO_AUTH + by_address("127.0.0.1", origin.port) + request)
        assert b"HTTP/1.1 403 " in answer
        answer = await say(app, NO_AUTH + by_name(b"localhost", origin.port) + request)
        assert b"HTTP/1.1 421 " in answer or b"HTTP/1.1 403 " in answer
        assert not origin.requests


async def test_a_bare_address_does_not_hide_the_name_in_tls(make_app: MakeApp, origin_ca: OriginCA) -> None:
    app = await make_app(RULES, mode=SOCKS)
    async with run_origin(OK, tls=origin_ca.server_context("blocked.test")) as origin:
        _, writer = await connect_socks(app, "127.0.0.1", origin.port)
        context = ssl.create_default_context(cafile=str(app.ca))
        with pytest.raises((ssl.SSLError, ConnectionError)):
            async with asyncio.timeout(SECONDS):
                await writer.start_tls(context, server_hostname="blocked.test")
        await close(writer)
        assert not origin.connections


@pytest.mark.parametrize("through", [connect, connect_socks])
@pytest.mark.parametrize("path", ["/admin", "//admin/x", "/%61dmin", "/x/../admin"])
async def test_every_way_in_leads_past_the_rules(make_app: MakeApp, path: str,
                                                 through: Callable[..., Awaitable[Pair]]) -> None:
    app = await make_app(RULES, mode=SOCKS if through is connect_socks else ("regular@127.0.0.1:0",))
    async with run_origin(OK) as origin:
        for silent in (0.0, 0.4):  # the server is dialled when the client says nothing
            reader, writer = await through(app, "127.0.0.1", origin.port)
            async with asyncio.timeout(SECONDS):
                await asyncio.sleep(silent)
                writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
                assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 403 ")
            await close(writer)
        assert not origin.requests


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::ffff:127.0.0.1", "::", "::ffff:0.0.0.0"])
async def test_no_address_leads_back(make_app: MakeApp, address: str) -> None:
    app = await make_app(RULES, mode=SOCKS)
    inner = NO_AUTH + by_address("127.0.0.1", 9)
    try:
        answer = await say(app, NO_AUTH + by_address(address, app.port) + inner)
    except ConnectionError:  # what was raw is reset
        answer = b""
    assert answer.count(b"\x05\x00") <= 2  # method and reply of the outer one
    assert "server_connected" not in app.recorder.names
    assert len(app.recorder.arguments("client_connected")) == 1


CREDENTIALS = b"\x01\x02me\x06secret"


@pytest.mark.parametrize("data", [
    NO_AUTH + by_name(b"localhost"),
    b"\x05\x02\x00\x02" + by_name(b"localhost"),
    b"\x05\x01\x02" + by_name(b"localhost"),
    b"\x05\x02\x00\x02" + b"\x01\x02me\x05wrong" + by_name(b"localhost"),
    b"\x05\x01\x02" + b"\x01\x00\x00" + by_name(b"localhost"),
    b"\x05\x01\x02" + b"\x01\x02me\x00" + by_name(b"localhost"),
    b"\x05\x01\x02" + b"\x01\x08me\0secret\x00" + by_name(b"localhost"),
    b"\x05\x01\x02" + b"\x01\x02ME\x06secret" + by_name(b"localhost"),
    b"\x05\x01\x02" + b"\x01\x02me\x07secret\0" + by_name(b"localhost"),
    b"\x05\x01\x02" + b"\x01\x02me\x05wrong" + CREDENTIALS + by_name(b"localhost"),
    b"\x05\x01\x02" + b"\x05\x02me\x06secret" + by_name(b"localhost"),
    b"\x05\x01\x01" + by_name(b"localhost"), b"\x05\x00" + by_name(b"localhost"), b"\x05\x01\x80" + CREDENTIALS,
    b"\x04\x01\x00\x50\x7f\x00\x00\x01me\0",
    b"GET http://localhost/ HTTP/1.1\r\nProxy-Authorization: Basic bWU6c2VjcmV0\r\n\r\n",
], ids=range(16))
async def test_nobody_gets_past_the_password_by_socks(make_app: MakeApp, data: bytes) -> None:
    app = await make_app(RULES, mode=SOCKS, proxy_auth="me:secret")
    answer = await say(app, data)
    assert b"\x05\x00\x00\x01" not in answer  # "succeeded"
    assert "server_connect" not in app.recorder.names
    right = await say(app, b"\x05\x01\x02" + CREDENTIALS + by_name(b"localhost"))
    assert right.startswith(b"\x05\x02\x01\x00\x05\x00\x00\x01")


# --- who may use the proxy ---------------------------------------------------------------------------------------

RIGHT = "Basic " + base64.b64encode(b"me:secret").decode()
WRONG = ["Basic " + base64.b64encode(b"me:secre").decode(), "Basic", "Basic bWU6c2VjcmV0!", "Digest bWU6c2VjcmV0",
         "Basic bWU6c2VjcmV0, Basic bWU6c2VjcmV0", "bWU6c2VjcmV0", "Bearer secret"]


@pytest.mark.parametrize("kind", ["request", "CONNECT", "websocket", "page"])
async def test_every_stream_is_asked(make_app: MakeApp, kind: str) -> None:
    """What was shown on one stream does not let in the next."""
    app = await make_app(RULES, proxy_auth="me:secret")
    async with run_origin(OK) as origin, http2_to_proxy(app) as client:
        here = f"127.0.0.1:{origin.port}"

        async def status(*values: str) -> str:
            fields = [("proxy-authorization", value) for value in values]
            match kind:
                case "request":
                    stream = client.send_request(authority=here, scheme="http", fields=fields)
                case "page":
                    stream = client.send_request(authority="rulesproxy.test", scheme="http", fields=fields)
                case "CONNECT":
                    stream = client.send_block([(":method", "CONNECT"), (":authority", here), *fields], end=False)
                case _:
                    stream = client.send_block([(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"),
                                                (":authority", here), (":path", "/"), *fields], end=False)
            await client.wait(lambda: bool(client.streams[stream].status) or client.streams[stream].over)
            return client.streams[stream].status

        for values in ((), *((wrong,) for wrong in WRONG), (RIGHT, RIGHT), (WRONG[0], RIGHT)):
            assert await status(*values) == "407"
        assert not origin.connections
        assert await status(RIGHT) not in ("407", "")
        assert await status() == "407"
        assert await status(RIGHT.replace("Basic", "bASIC ")) not in ("407", "")
        assert await status(WRONG[0]) == "407"
    assert b"proxy-authorization" not in origin.received.lower()
    assert b"bWU6" not in origin.received


@pytest.mark.parametrize("where", ["head", "trailers", "tunnel", "upgrade"])
async def test_the_password_goes_no_further(make_app: MakeApp, where: str) -> None:
    app = await make_app(RULES, proxy_auth="me:secret")
    field = f"Proxy-Authorization: {RIGHT}\r\n"
    async with run_origin(OK) as origin:
        here = f"127.0.0.1:{origin.port}"
        start = f"POST http://{here}/ HTTP/1.1\r\nHost: {here}\r\nConnection: close\r\n"
        data = {
            "head": f"{start}{field}Content-Length: 0\r\n\r\n",
            "trailers": f"{start}{field}Transfer-Encoding: chunked\r\n\r\n0\r\n{field}\r\n",
            "tunnel": f"CONNECT {here} HTTP/1.1\r\nHost: {here}\r\n{field}\r\n"
                      f"GET / HTTP/1.1\r\nHost: {here}\r\nConnection: close\r\n{field}\r\n",
            "upgrade": f"GET http://{here}/ HTTP/1.1\r\nHost: {here}\r\nConnection: Upgrade, Proxy-Authorization\r\n"
                       f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n{field}\r\n",
        }[where]
        assert (await app.talk(data.encode())).endswith(b"ok")
        assert len(origin.requests) == 1
        assert b"bWU6" not in origin.received and b"proxy-authorization" not in origin.received.lower()


async def test_a_page_that_asks_leaves_nothing_unread(make_app: MakeApp) -> None:
    """The body of a request that was refused holds another one, with the right password."""
    app = await make_app(RULES, proxy_auth="me:secret")
    async with run_origin(OK) as origin:
        hidden = f"GET http://127.0.0.1:{origin.port}/ HTTP/1.1\r\nHost: x\r\nProxy-Authorization: {RIGHT}\r\n\r\n"
        for framing in (f"Content-Length: {len(hidden)}", "Transfer-Encoding: chunked"):
            raw = f"POST http://127.0.0.1:{origin.port}/ HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n{hidden}"
            answer = await app.talk(raw.encode())
            assert answer.startswith(b"HTTP/1.1 407 ") and answer.count(b"HTTP/1.1 ") == 1
        assert not origin.connections


# --- reverse and upstream modes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [
    b"GET http://127.0.0.9/ HTTP/1.1\r\nHost: 127.0.0.9\r\n\r\n", b"GET / HTTP/1.1\r\nHost: 127.0.0.9\r\n\r\n",
    b"CONNECT 127.0.0.1:9 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"GET https://other.test/ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://rulesproxy.test/ HTTP/1.1\r\nHost: rulesproxy.test\r\n\r\n",
    b"GET http://[::ffff:127.0.0.9]/ HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /admin HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET http://127.0.0.1/%61dmin HTTP/1.1\r\nHost: x\r\n\r\n",
], ids=range(8))
async def test_a_reverse_proxy_reaches_one_server_only(make_app: MakeApp, raw: bytes) -> None:
    async with run_origin(OK) as origin:
        app = await make_app(RULES, mode=(f"reverse:http://127.0.0.1:{origin.port}@127.0.0.1:0",))
        answer = await app.talk(raw.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert answer.startswith((b"HTTP/1.1 403 ", b"HTTP/1.1 405 ", b"HTTP/1.1 200 "))
        assert b"rulesproxy-ca" not in answer
        assert {data.server.address for data in app.recorder.arguments("server_connect")} <= {
            ("127.0.0.1", origin.port)}
        assert all(b"127.0.0.9" not in request.head for request in origin.requests)
        if b"dmin" in raw:
            assert answer.startswith(b"HTTP/1.1 403 ") and not origin.requests


async def test_streams_of_a_reverse_proxy_open_no_tunnels(make_app: MakeApp) -> None:
    async with run_origin(OK) as origin:
        app = await make_app(RULES, mode=(f"reverse:http://127.0.0.1:{origin.port}@127.0.0.1:0",))
        async with http2_to_proxy(app) as client:
            for target in ("127.0.0.1:9", f"127.0.0.1:{origin.port}", f"127.0.0.1:{app.port}"):
                stream = client.send_block([(":method", "CONNECT"), (":authority", target)], end=False)
                await client.wait(lambda stream=stream: bool(client.streams[stream].status))  # type: ignore[misc]
                assert client.streams[stream].status == "405"
            assert (await client.get("/%61dmin", scheme="http")).status == "403"
        assert not origin.requests


@pytest.mark.parametrize("raw", [
    b"GET http://blocked.test/ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://localhost/%61dmin HTTP/1.1\r\nHost: x\r\n\r\n",
    b"CONNECT blocked.test.:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"CONNECT localhost:80 HTTP/1.1\r\nHost: x\r\n\r\nGET //admin HTTP/1.1\r\nHost: localhost\r\n\r\n",
])
async def test_what_is_blocked_is_not_asked_of_the_next_proxy(make_app: MakeApp, raw: bytes) -> None:
    async with run_origin(OK) as other:
        app = await make_app(RULES, mode=(f"upstream:http://127.0.0.1:{other.port}@127.0.0.1:0",))
        assert b"HTTP/1.1 403 " in await app.talk(raw)
        assert not other.connections


# --- other proxies that lie --------------------------------------------------------------------------------------

POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n"


@pytest.mark.parametrize("answer", [
    ESTABLISHED + b"X: " + b"a" * 200_000, ESTABLISHED + b"X: 1\r\n" * 5_000,
    b"HTTP/1.1 103 Early Hints\r\n\r\n" * 500, b"HTTP/1.1 200 OK\r\nX : a\r\n\r\n", b"HTTP/1.1 200 OK\nX: a\n\n",
    b"HTTP/1.1 101 Switching Protocols\r\n\r\n", b"HTTP/9.9 200 OK\r\n\r\n", b"\x05\x00", b"HTTP/1.1 2000 OK\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: http://evil.test/\r\n\r\n",
    b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\n\r\n",
    b"HTTP/1.1 403 <script>\x1b[31m\r\nContent-Length: 6\r\n\r\npoison",
], ids=range(12))
async def test_a_proxy_that_lies_is_an_error(make_proxy: MakeProxy, answer: bytes,
                                             caplog: pytest.LogCaptureFixture) -> None:
    async def lie(connection: OriginConnection) -> None:
        await connection.read_head()
        await connection.send(answer)
        await connection.read_to_end()

    async with run_origin(lie) as other:
        proxy = await make_proxy(Through(Via("http", "127.0.0.1", other.port)), connect_timeout=0.5,
                                 tls_timeout=0.5)
        got = await proxy.talk(b"GET https://localhost:9/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert got.startswith((b"HTTP/1.1 502 ", b"HTTP/1.1 504 "))
        head = got.partition(b"\r\n\r\n")[0].lower()
        assert b"proxy-authenticate" not in head and b"location" not in head and b"evil" not in head
        assert b"poison" not in got and b"<script>" not in got and b"\x1b" not in got
    assert "\x1b" not in caplog.text


async def test_what_a_proxy_says_too_much_is_for_nobody_else(make_proxy: MakeProxy) -> None:
    """An answer behind the answer to CONNECT, before anybody asked: the next client must not get it."""
    async def lie(connection: OriginConnection) -> None:
        await connection.read_head()
        await connection.send(ESTABLISHED + b"\r\n" + POISON + POISON)
        await connection.read_to_end()

    async with run_origin(lie) as other:
        proxy = await make_proxy(Through(Via("http", "127.0.0.1", other.port)), record=False)
        raw = (b"GET http://127.0.0.1:9/%d HTTP/1.1\r\nHost: 127.0.0.1:9\r\nConnection: Upgrade\r\n"
               b"Upgrade: websocket\r\n\r\n")
        for number in range(3):
            await proxy.talk(raw % number)
        assert len(other.connections) == 3
        assert proxy.core.upstream.idle_count == 0


# --- TLS ---------------------------------------------------------------------------------------------------------


async def test_trust_of_one_client_is_not_lent_to_another(make_app: MakeApp, origin_ca: OriginCA) -> None:
    """A rule lets some requests reach a server whose certificate is bad: no connection and no session serves others."""
    app = await make_app("  - {name: lax, match: {host: localhost, headers: {x-lax: '1'}},"
                         " action: {tls: {verify: false}}}\n")
    bad = origin_ca.server_context("wrong.test")
    async with run_origin(answering(OK), tls=bad) as origin:
        def raw(fields: bytes) -> bytes:
            return b"GET https://localhost:%d/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s\r\n" % (origin.port,
                                                                                                   fields)

        lax = await app.talk(raw(b"X-Lax: 1\r\n"))
        for _ in range(2):
            assert (await app.talk(raw(b""))).startswith(b"HTTP/1.1 502 ")
        assert lax.endswith(b"ok")
        assert len(origin.requests) == 1


