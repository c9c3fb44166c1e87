"""Attacks on identity: rules cannot be dodged by spelling a host, a path or a protocol differently."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable

import pytest

from tests.support.app import RunningApp
from tests.support.certificates import OriginCA
from tests.support.origin import OriginConnection, RawRequest, answering, run_origin
from tests.support.proxy import RunningProxy

MakeApp = Callable[..., Awaitable[RunningApp]]
MakeProxy = Callable[..., Awaitable[RunningProxy]]

SECONDS = 10.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

BLOCK_PATH = "  - {name: guard, match: {host: localhost, path: /admin/**}, action: {block: {status: 403}}}\n"
BLOCK_HOST = "  - {name: guard, match: {host: [blocked.test, bücher.test, 127.0.0.9, '::9']}, action: {block: true}}\n"


# --- spellings of a host ---------------------------------------------------------------------------------------

HOSTS = ["blocked.test", "BLOCKED.Test", "blocked.test.", "blocked.test:80", "blocked.test.:8080", "x@blocked.test",
         "blocked.test:", "blocked.test:00080", "xn--bcher-kva.test", "XN--BCHER-KVA.TEST.", "127.0.0.9",
         "127.0.0.9.", "127.9", "0x7f.0.0.9", "2130706441", "0177.0.0.011", "127.000.000.009", "[::9]",
         "[0:0:0:0:0:0:0:9]", "[0000::0009]", "[::0.0.0.9]", "[::ffff:127.0.0.9]", "[::FFFF:7F00:9]", "bl%6fcked.test"]


@pytest.mark.parametrize("spelling", HOSTS)
@pytest.mark.parametrize("form", ["http", "https", "CONNECT", "tunnel"])
async def test_no_spelling_of_a_host_dodges_a_block(make_app: MakeApp, spelling: str, form: str) -> None:
    app = await make_app(BLOCK_HOST)
    match form:
        case "CONNECT" | "tunnel":
            authority = spelling if spelling.rpartition(":")[2].isdigit() and "]" not in spelling else f"{spelling}:443"
            raw = f"CONNECT {authority} HTTP/1.1\r\nHost: other.test\r\n\r\n"
        case scheme:
            raw = f"GET {scheme}://{spelling}/ HTTP/1.1\r\nHost: other.test\r\n\r\n"
    answer = await app.talk(raw.encode())
    assert answer.startswith((b"HTTP/1.1 403 ", b"HTTP/1.1 400 "))
    assert "server_connect" not in app.recorder.names


@pytest.mark.parametrize("hosts", [
    ["localhost", "blocked.test"], ["blocked.test", "localhost"], ["localhost blocked.test"],
    ["localhost,blocked.test"], ["localhost\tblocked.test"], ["http://localhost"], ["localhost/"],
    ["localhost@blocked.test"], ["[localhost]"],
    ["localhost\\blocked.test"], ["loc\x00alhost"], ["b\xfccher.test"], [":80"], ["localhost:0"],
    ["localhost:65536"],
])
async def test_a_host_field_that_two_readers_read_differently_is_refused(make_app: MakeApp, hosts: list[str]) -> None:
    app = await make_app(BLOCK_HOST)
    async with run_origin(OK) as origin:
        lines = "".join(f"Host: {host}\r\n" for host in hosts)
        raw = f"GET http://localhost:{origin.port}/ HTTP/1.1\r\n{lines}\r\n".encode("latin-1")
        assert (await app.talk(raw + raw)).startswith(b"HTTP/1.1 400 ")
        raw = f"CONNECT localhost:{origin.port} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")
        assert (await app.talk(raw)).startswith(b"HTTP/1.1 400 ")
        assert not origin.connections


async def test_the_later_requests_of_a_connection_are_judged_by_their_own_host(make_app: MakeApp) -> None:
    app = await make_app(BLOCK_HOST)
    async with run_origin(OK) as origin:
        fine = f"GET http://localhost:{origin.port}/ HTTP/1.1\r\nHost: blocked.test\r\n\r\n".encode()
        bad = b"GET http://blocked.test/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        answers = await app.talk(fine + bad)
        assert answers.startswith(b"HTTP/1.1 200 ")
        assert answers.count(b"HTTP/1.1 403 ") == 1
        assert [request.values(b"host") for request in origin.requests] == [[b"localhost:%d" % origin.port]]


# --- spellings of a path ---------------------------------------------------------------------------------------

PATHS = ["/admin", "/admin/", "/admin/x", "//admin/x", "/./admin", "/a/../admin", "/%61dmin", "/%61%64min/x",
         "/admin?x", "/admin/?", "/a/%2e%2e/admin", "/%2e/admin", "/..//admin", "/admin/%00", "/admin//",
         "/x/.%2e/admin", "/admin/..%2f", "/;x/../admin", "/%2E%2E/admin", "/a/b/../../admin"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("tunnelled", [False, True])
async def test_no_spelling_of_a_path_dodges_a_block(make_app: MakeApp, path: str, tunnelled: bool) -> None:
    app = await make_app(BLOCK_PATH)
    async with run_origin(OK) as origin:
        host = f"localhost:{origin.port}"
        if tunnelled:
            raw = f"CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\nGET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"
        else:
            raw = f"GET http://{host}{path} HTTP/1.1\r\nHost: {host}\r\n\r\n"
        assert b"HTTP/1.1 403 " in await app.talk(raw.encode())
        assert not origin.requests


@pytest.mark.parametrize("path", ["/x#/../admin", "\\admin", "/x\\..\\admin", "/adm\tin", "/adm in", "/admin\x7f",
                                  "/\xe0dmin", "/admin\x00", "admin", "?admin"])
async def test_a_path_outside_the_grammar_is_refused(make_app: MakeApp, path: str) -> None:
    app = await make_app(BLOCK_PATH)
    async with run_origin(OK) as origin:
        raw = f"GET {path} HTTP/1.1\r\nHost: localhost:{origin.port}\r\n\r\n".encode("latin-1")
        connect = f"CONNECT localhost:{origin.port} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        assert b"HTTP/1.1 400 " in await app.talk(connect + raw + raw)
        assert not origin.requests


# --- what looks like another protocol --------------------------------------------------------------------------

HIDDEN = b"GET /admin HTTP/1.1\r\nHost: localhost\r\n\r\n"

DISGUISES = [
    b"GET  /admin HTTP/1.1", b"GET\t/admin HTTP/1.1", b"FOO  /admin HTTP/1.1", b"FOO\t/admin\tHTTP/1.1",
    b" GET /admin HTTP/1.1", b"\tFOO /admin HTTP/1.1", b"\nGET /admin HTTP/1.1", b"\n\nFOO /admin HTTP/1.1",
    b"\x0bGET /admin HTTP/1.1", b"get /admin http/1.1", b"FOO /admin HTTP/1.10", b"FOO /admin HTTP/2.0",
    b"FOO /admin HTTP/01.1", b"FOO /admin http/1.1", b"FOO /admin HTTP/1,1", b"FOO /ad\x00min HTTP/1.1",
    b"FOO /adm\xc3\xadn HTTP/1.1", b"F(OO /admin HTTP/1.1", b"GET /admin", b"\r\n\r\n\nGET /",
    b"FOO /admin HTTP/1.1\r", b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2",
    b"A" * 70 + b" /admin HTTP/1.1", b"FOO /\x01dmin HTTP/1.1", b"\r\n" * 9 + b"GET /admin HTTP/1.1",
    b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x7f\x00\x00\x01\x7f\x00\x00\x01\x00\x01\x00\x02",
    b"FOO /admin " + b"x" * 100 + b" HTTP/1.1",
]


@pytest.mark.parametrize("first", DISGUISES, ids=range(len(DISGUISES)))
@pytest.mark.parametrize("slow", [False, True])
async def test_no_request_passes_for_another_protocol(make_app: MakeApp, first: bytes, slow: bool) -> None:
    app = await make_app(BLOCK_PATH)

    async def script(connection: OriginConnection) -> None:
        await connection.read_to_end()

    async with run_origin(script) as origin:
        reader, writer = await app.connect()
        async with asyncio.timeout(SECONDS):
            writer.write(f"CONNECT localhost:{origin.port} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            await reader.readuntil(b"\r\n\r\n")
            data = first + b"\r\nHost: localhost\r\n\r\n" + HIDDEN
            for piece in (data[at:at + 1] for at in range(len(data))) if slow else [data]:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.0005)
            writer.write_eof()
            await reader.read()
        writer.close()
        assert b"/admin" not in origin.received
        assert b"GET /" not in origin.received


async def test_an_old_hello_does_not_pass_for_another_protocol(make_app: MakeApp) -> None:
    """Some servers still read a ClientHello in the format of SSL 2 (RFC 5246 appendix E.2)."""
    app = await make_app(BLOCK_PATH)
    hello = b"\x01\x03\x03\x00\x09\x00\x00\x00\x20\x00\xc0\x2f\x00\x00\x3c\x00\x00\x2f" + bytes(range(32))
    async with run_origin(OK) as origin:
        connect = f"CONNECT localhost:{origin.port} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        answer = await app.talk(connect + (0x8000 | len(hello)).to_bytes(2, "big") + hello, half_close=False)
        assert answer.partition(b"\r\n\r\n")[2][:1] in (b"", b"\x15")
        assert not origin.connections


async def test_http2_on_the_proxy_port_is_refused_where_it_is_off(make_app: MakeApp) -> None:
    app = await make_app(BLOCK_PATH, http2=False)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    answer = await app.talk(preface)
    assert answer.startswith((b"HTTP/1.1 505 ", b"HTTP/1.1 400 "))


# --- tunnels in tunnels ----------------------------------------------------------------------------------------

async def test_a_tunnel_in_a_tunnel_is_judged_too(make_app: MakeApp, origin_ca: OriginCA) -> None:
    app = await make_app(BLOCK_HOST + BLOCK_PATH.replace("guard", "paths"))
    async with run_origin(OK, tls=origin_ca.server_context("localhost")) as origin:
        reader, writer = await app.connect()
        async with asyncio.timeout(SECONDS):
            writer.write(f"CONNECT localhost:{origin.port} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            await reader.readuntil(b"\r\n\r\n")
            await writer.start_tls(ssl.create_default_context(cafile=str(app.ca)), server_hostname="localhost")
            writer.write(b"CONNECT blocked.test:443 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 403 ")
            await reader.readuntil(b"guard")
        writer.close()
        assert not origin.requests


async def test_an_https_target_on_the_proxy_port_is_verified_and_judged(make_app: MakeApp, origin_ca: OriginCA) -> None:
    app = await make_app(BLOCK_PATH)
    async with (run_origin(OK, tls=origin_ca.server_context("localhost")) as good,
                run_origin(OK, tls=origin_ca.server_context("other.test")) as bad):
        def raw(port: int, path: str) -> bytes:
            return (f"GET https://localhost:{port}{path} HTTP/1.1\r\nHost: localhost:{port}\r\n"
                    "Connection: close\r\n\r\n").encode()
        assert (await app.talk(raw(good.port, "/"))).startswith(b"HTTP/1.1 200 ")
        assert (await app.talk(raw(good.port, "/admin"))).startswith(b"HTTP/1.1 403 ")
        assert (await app.talk(raw(bad.port, "/"))).startswith(b"HTTP/1.1 502 ")
        assert not bad.requests


# --- names that move -------------------------------------------------------------------------------------------

def who(name: bytes) -> Callable[[RawRequest], bytes]:
    return lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(name), name)


async def test_a_kept_connection_does_not_outlive_the_rule_that_chose_its_address(make_app: MakeApp) -> None:
    spoof = "  - {name: s, match: {host: moved.test}, action: {spoof_dns: %s}}\n"
    app = await make_app(spoof % "127.0.0.2")
    async with run_origin(answering(who(b"two")), host="127.0.0.2") as two, \
            run_origin(answering(who(b"three")), host="127.0.0.3", port=two.port):
        raw = f"GET http://moved.test:{two.port}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        reader, writer = await app.connect()
        async with asyncio.timeout(SECONDS):
            writer.write(raw)
            assert (await reader.readuntil(b"two")).startswith(b"HTTP/1.1 200 ")
            await app.edit(spoof % "127.0.0.3")
            writer.write(raw)
            assert (await reader.readuntil(b"\r\n\r\nt")).startswith(b"HTTP/1.1 200 ")
            assert await reader.readexactly(2) == b"hr"
        writer.close()
