"""Attacks on the way from HTTP/2 to HTTP/1: what the origin saw is the judge."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.support.app import RunningApp
from tests.support.certificates import OriginCA
from tests.support.http2 import Fields, Http2Peer, http2_client, http2_to_proxy
from tests.support.leaks import until
from tests.support.origin import OriginConnection, run_origin

MakeApp = Callable[..., Awaitable[RunningApp]]

SECONDS = 10.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
RULES = ("  - {name: guard, match: {host: [localhost, 127.0.0.1], path: /admin/**}, action: {block: {status: 403}}}\n"
         "  - {name: hosts, match: {host: [blocked.test, bücher.test, 127.0.0.9]}, action: {block: true}}\n")


def head(**changes: str | None) -> Fields:
    """The pseudo-header fields of a plain request; `_` stands for the colon."""
    fields: dict[str, str | None] = {":method": "GET", ":scheme": "https", ":authority": "localhost", ":path": "/"}
    fields |= {name.replace("_", ":"): value for name, value in changes.items()}
    return [(name, value) for name, value in fields.items() if value is not None]


SMUGGLED = "GET /smuggled HTTP/1.1"

HOSTILE: dict[str, Fields] = {
    "line end in a value": [*head(), ("x", f"a\r\n{SMUGGLED}")],
    "line feed in a value": [*head(), ("x", f"a\n{SMUGGLED}")],
    "return in a value": [*head(), ("x", "a\rb")],
    "NUL in a value": [*head(), ("x", "a\0b")],
    "space before a value": [*head(), ("x", " a")],
    "tab after a value": [*head(), ("x", "a\t")],
    "line end in a name": [*head(), (f"x: a\r\n{SMUGGLED}", "b")],
    "colon in a name": [*head(), ("x: a", "b")],
    "space in a name": [*head(), ("x y", "b")],
    "space after a name": [*head(), ("transfer-encoding ", "chunked")],
    "an empty name": [*head(), ("", "b")],
    "upper case in a name": [*head(), ("Transfer-Encoding", "chunked")],
    "not ASCII in a name": [*head(), ("x\xe9", "b")],
    "transfer-encoding": [*head(_method="POST"), ("transfer-encoding", "chunked")],
    "connection": [*head(), ("connection", "x-guard")],
    "proxy-connection": [*head(), ("proxy-connection", "keep-alive")],
    "keep-alive": [*head(), ("keep-alive", "1")],
    "upgrade": [*head(), ("upgrade", "websocket")],
    "te": [*head(), ("te", "gzip")],
    "two lengths": [*head(_method="POST"), ("content-length", "0"), ("content-length", "0")],
    "two lengths in one": [*head(_method="POST"), ("content-length", "0, 0")],
    "a length with a sign": [*head(_method="POST"), ("content-length", "+0")],
    "a length that is none": [*head(_method="POST"), ("content-length", "")],
    "a huge length": [*head(_method="POST"), ("content-length", "9" * 30)],
    "a length and no body": [*head(), ("content-length", "30")],
    "another host": [*head(), ("host", "blocked.test")],
    "two hosts": [*head(_authority=None), ("host", "localhost"), ("host", "localhost")],
    "no host": head(_authority=None),
    "an empty host": head(_authority=""),
    "user information": head(_authority="user@localhost"),
    "a space in the host": head(_authority="localhost blocked.test"),
    "a path in the host": head(_authority="localhost/admin"),
    "a percent in the host": head(_authority="local%68ost"),
    "a line end in the host": head(_authority=f"localhost\r\n{SMUGGLED}"),
    "a comma in the host": head(_authority="localhost,blocked.test"),
    "no port after the colon": head(_authority="localhost:x"),
    "port 0": head(_authority="localhost:0"),
    "a huge port": head(_authority="localhost:65536"),
    "two hosts again": [*head(), (":authority", "localhost")],
    "no path": head(_path=None),
    "an empty path": head(_path=""),
    "a relative path": head(_path="admin"),
    "an absolute path": head(_path="https://localhost/admin"),
    "a star": head(_path="*"),
    "a space in the path": head(_path="/ HTTP/1.1\r\nx: y"),
    "a space": head(_path="/ /admin"),
    "a fragment": head(_path="/#/admin"),
    "a backslash": head(_path="/\\admin"),
    "not ASCII in the path": head(_path="/\xe9"),
    "a control character in the path": head(_path="/\x7f"),
    "no method": head(_method=None),
    "an empty method": head(_method=""),
    "a space in the method": head(_method="GET /smuggled HTTP/1.1\r\n\r\nGET"),
    "a colon in the method": head(_method="G:ET"),
    "another scheme": head(_scheme="ftp"),
    "no scheme": head(_scheme=None),
    "a scheme with more": head(_scheme="https://localhost/smuggled?"),
    "a status": [*head(), (":status", "200")],
    "an unknown pseudo-header": [*head(), (":other", "x")],
    "a pseudo-header too late": [*head(_path=None), ("x", "y"), (":path", "/")],
    "a protocol": [*head(), (":protocol", "websocket")],
    "a connect with a path": head(_method="CONNECT"),
    "a connect with a length": [(":method", "CONNECT"), (":authority", "blocked.test:443"), ("content-length", "0")],
}


@pytest.mark.parametrize("name", list(HOSTILE))
async def test_no_head_reaches_an_http1_origin_that_is_not_http1(make_app: MakeApp, origin_ca: OriginCA,
                                                                name: str) -> None:
    app = await make_app(RULES)
    async with (run_origin(OK, tls=origin_ca.server_context("localhost")) as origin,
                http2_client(app, origin.port) as client):
        answer = await client.over(client.send_block(HOSTILE[name]))
        assert answer.reset is not None or answer.status in ("400", "403", "421")
        assert (await client.get("/after")).body == b"ok"
        assert [request.line for request in origin.requests] == [b"GET /after HTTP/1.1"]
        assert b"smuggled" not in origin.received


HARMLESS: dict[str, tuple[Fields, bytes]] = {
    "a port": (head(_authority="localhost:1"), b"GET / HTTP/1.1"),
    "upper case": (head(_authority="LOCALHOST"), b"GET / HTTP/1.1"),
    "a dot": (head(_authority="localhost."), b"GET / HTTP/1.1"),
    "the other scheme": (head(_scheme="http"), b"GET / HTTP/1.1"),
    "host only": ([*head(_authority=None), ("host", "localhost")], b"GET / HTTP/1.1"),
    "options": (head(_method="OPTIONS", _path="*"), b"OPTIONS * HTTP/1.1"),
    "an empty body": ([*head(_method="POST"), ("content-length", "0")], b"POST / HTTP/1.1"),
    "settings of HTTP/2": ([*head(), ("http2-settings", "AAMAAABkAAQAAP__")], b"GET / HTTP/1.1"),
    "credentials for a proxy": ([*head(), ("proxy-authorization", "Basic c2VjcmV0")], b"GET / HTTP/1.1"),
}


@pytest.mark.parametrize("name", list(HARMLESS))
async def test_what_is_odd_but_right_arrives_as_one_request(make_app: MakeApp, origin_ca: OriginCA, name: str) -> None:
    app = await make_app(RULES)
    block, line = HARMLESS[name]
    async with (run_origin(OK, tls=origin_ca.server_context("localhost")) as origin,
                http2_client(app, origin.port) as client):
        assert (await client.over(client.send_block(block))).body == b"ok"
        assert (await client.get("/after")).body == b"ok"
    assert [request.line for request in origin.requests] == [line, b"GET /after HTTP/1.1"]
    assert b"c2VjcmV0" not in origin.received and b"http2-settings" not in origin.received.lower()
    assert all(len(request.values(b"host")) == 1 for request in origin.requests)


TRAILERS: dict[str, Fields] = {
    "a pseudo-header": [(":path", "/admin")], "a method": [(":method", "GET")],
    "transfer-encoding": [("transfer-encoding", "chunked")], "a line end": [("x", f"a\r\n\r\n{SMUGGLED}")],
    "a name with a line end": [("x\r\ny", "a")], "connection": [("connection", "close")],
    "two lengths": [("content-length", "3"), ("content-length", "4")],
}


@pytest.mark.parametrize("name", list(TRAILERS))
async def test_trailers_that_are_none_cut_the_request(make_app: MakeApp, origin_ca: OriginCA, name: str) -> None:
    """The origin has seen some of the body: it must not take that for all of it."""
    app = await make_app(RULES)
    async with (run_origin(OK, tls=origin_ca.server_context("localhost")) as origin,
                http2_client(app, origin.port) as client):
        stream = client.send_request(method="POST", end=False)
        await client.send_body(stream, b"body", end=False)
        assert await until(lambda: b"body" in origin.received)
        client.send_trailers(stream, TRAILERS[name])
        assert (await client.over(stream)).reset is not None
        assert (await client.get("/after")).body == b"ok"
    assert [request.line for request in origin.requests] == [b"GET /after HTTP/1.1"]
    assert b"0\r\n\r\n" not in origin.received and b"smuggled" not in origin.received


@pytest.mark.parametrize("field", ["content-length", "host", "authorization", "trailer", "content-encoding", "cookie"])
async def test_trailers_do_not_change_what_was_judged(make_app: MakeApp, origin_ca: OriginCA, field: str) -> None:
    app = await make_app(RULES)
    async with (run_origin(OK, tls=origin_ca.server_context("localhost")) as origin,
                http2_client(app, origin.port) as client):
        stream = client.send_request(method="POST", end=False)
        await client.send_body(stream, b"body", end=False)
        client.send_trailers(stream, [(field, "4"), ("x-sum", "7")])
        assert (await client.over(stream)).body == b"ok"
    assert origin.requests[0].body == b"4\r\nbody\r\n0\r\nx-sum: 7\r\n\r\n"


@pytest.mark.parametrize("how", ["short", "long", "long in two", "reset", "padded"])
async def test_a_body_is_whole_or_cut(make_app: MakeApp, origin_ca: OriginCA, how: str) -> None:
    """What is too long must not become the next request of the origin's connection."""
    app = await make_app(RULES)
    async with (run_origin(OK, tls=origin_ca.server_context("localhost")) as origin,
                http2_client(app, origin.port) as client):
        stream = client.send_request("/first", method="POST", fields=[("content-length", "4")], end=False)
        hidden = f"{SMUGGLED}\r\nHost: localhost\r\n\r\n".encode()
        match how:
            case "short":
                client.h2.send_data(stream, b"abc", end_stream=True)
            case "long":
                client.h2.send_data(stream, b"abcd" + hidden, end_stream=True)
            case "long in two":
                client.h2.send_data(stream, b"abcd")
                client.flush()
                await until(lambda: b"abcd" in origin.received)
                client.h2.send_data(stream, hidden, end_stream=True)
            case "reset":
                client.h2.send_data(stream, b"abc")
                client.flush()
                await until(lambda: b"abc" in origin.received)
                client.h2.reset_stream(stream)
            case "padded":
                client.h2.send_data(stream, b"abcd", end_stream=True, pad_length=200)
        client.flush()
        if how == "padded":
            assert (await client.over(stream)).body == b"ok"
        assert (await client.get("/after")).body == b"ok"
    assert b"smuggled" not in origin.received
    assert origin.requests[-1].line == b"GET /after HTTP/1.1"
    assert [request.body for request in origin.requests if request.target == b"/first"] in ([], [b"abcd"])


# --- identity ----------------------------------------------------------------------------------------------------

PATHS = ["/admin", "/admin/", "/admin/x", "//admin/x", "/./admin", "/a/../admin", "/%61dmin", "/admin?x",
         "/a/%2e%2e/admin", "/..//admin", "/admin/%00", "/x/.%2e/admin", "/;x/../admin"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("way", ["tls", "clear", "proxy", "websocket"])
async def test_no_path_dodges_a_block(make_app: MakeApp, origin_ca: OriginCA, path: str, way: str) -> None:
    app = await make_app(RULES)
    tls = origin_ca.server_context("localhost") if way in ("tls", "websocket") else None
    async with run_origin(OK, tls=tls) as origin:
        if way == "proxy":
            client_to = http2_to_proxy(app)
        else:
            client_to = http2_client(app, origin.port, tls=tls is not None)
        async with client_to as client:
            scheme = "https" if tls else "http"
            if way == "websocket":
                stream = client.send_block([(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", scheme),
                                            (":authority", "localhost"), (":path", path)], end=False)
            else:
                stream = client.send_request(path, scheme=scheme, authority=f"localhost:{origin.port}")
            await client.wait(lambda: bool(client.streams[stream].status))
            assert client.streams[stream].status == "403"
        assert not origin.requests


HOSTS = ["blocked.test", "BLOCKED.Test", "blocked.test.", "blocked.test:8080", "xn--bcher-kva.test",
         "XN--BCHER-KVA.TEST.", "127.0.0.9", "127.9", "0x7f.0.0.9", "2130706441", "[::ffff:127.0.0.9]"]


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("how", ["request", "CONNECT", "websocket"])
async def test_no_host_dodges_a_block(make_app: MakeApp, host: str, how: str) -> None:
    app = await make_app(RULES)
    async with http2_to_proxy(app) as client:
        match how:
            case "request":
                stream = client.send_request(authority=host, scheme="http")
            case "CONNECT":
                port = "" if host.endswith(":8080") else ":443"
                stream = client.send_block([(":method", "CONNECT"), (":authority", host + port)], end=False)
            case _:
                stream = client.send_block([(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"),
                                            (":authority", host), (":path", "/")], end=False)
        await client.wait(lambda: bool(client.streams[stream].status))
        assert client.streams[stream].status in ("403", "400")
    assert "server_connect" not in app.recorder.names


async def test_a_connection_for_one_host_carries_nothing_for_another(make_app: MakeApp, origin_ca: OriginCA) -> None:
    """A browser would: the certificate may be good for both (RFC 9113 §9.1.1)."""
    app = await make_app(RULES)
    async with (run_origin(OK, tls=origin_ca.server_context("localhost", "blocked.test")) as origin,
                http2_client(app, origin.port) as client):
        for authority in ("blocked.test", "other.test", "127.0.0.1", "localhost.test", "xlocalhost"):
            assert (await client.get(authority=authority)).status == "421"
        stream = client.send_block([(":method", "CONNECT"), (":authority", "blocked.test:443")], end=False)
        await client.wait(lambda: bool(client.streams[stream].status))
        assert client.streams[stream].status == "403"
        assert not origin.requests


async def test_a_tunnel_in_a_stream_is_looked_into(make_app: MakeApp) -> None:
    async def script(connection: OriginConnection) -> None:
        await connection.read_to_end()

    app = await make_app(RULES)
    async with run_origin(script) as origin, http2_to_proxy(app) as client:
        stream = await open_tunnel(client, f"127.0.0.1:{origin.port}")
        for piece in (b"GET /ad", b"min HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"):
            await client.send_body(stream, piece, end=False)
        await client.wait(lambda: b"\r\n\r\n" in client.streams[stream].body)
        assert client.streams[stream].body.startswith(b"HTTP/1.1 403 ")
        assert not origin.received


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "0.0.0.0", "[::ffff:127.0.0.1]"])
async def test_a_tunnel_in_a_stream_does_not_lead_back(make_app: MakeApp, host: str) -> None:
    app = await make_app(RULES)
    async with http2_to_proxy(app) as client:
        stream = client.send_block([(":method", "CONNECT"), (":authority", f"{host}:{app.port}")], end=False)
        await client.wait(lambda: bool(client.streams[stream].status))
        if client.streams[stream].status == "200":
            await client.send_body(stream, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", end=False)
            await client.wait(lambda: client.streams[stream].body != b"" or client.streams[stream].over)
            assert not client.streams[stream].body.startswith(b"HTTP/1.1 2")
        else:
            assert client.streams[stream].status == "400"
        answer = await client.get(authority=f"{host}:{app.port}", scheme="http")
        assert answer.status in ("502", "400")
    assert "server_connected" not in app.recorder.names


async def open_tunnel(client: Http2Peer, authority: str) -> int:
    stream = client.send_block([(":method", "CONNECT"), (":authority", authority)], end=False)
    async with asyncio.timeout(SECONDS):
        await client.wait(lambda: bool(client.streams[stream].status))
    assert client.streams[stream].status == "200"
    return stream
