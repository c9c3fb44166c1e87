"""What handlers may change where connections are made: clients, servers, CONNECT, TLS, SOCKS; over both versions."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

import pytest
from h2.exceptions import ProtocolError

from rulesproxy.certs.authority import Authority
from rulesproxy.model.http import Response
from tests.hooks.ends import Ends, Sent
from tests.hooks.scene import Scene, scene, vanish
from tests.support.certificates import OriginCA
from tests.support.hook_logs import At, Decide
from tests.support.upstream_proxies import Asked, connect_proxy

pytestmark = pytest.mark.usefixtures("no_leaks")
_VERSIONS = pytest.mark.parametrize("version", ["http1", "http2"])
#: A CONNECT in either version, to a port: what was answered, and what came with it.
Answered = tuple[str, dict[str, str], bytes]


def _kill(flow: Any) -> None:
    flow.kill()


async def _connect(made: Scene, version: str, port: int) -> Answered:
    """Status "" when there was none."""
    authority = f"localhost:{port}"
    if version == "http1":
        wire = await made.connect()
        await wire.send(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
        try:
            lines = (await wire.until(b"\r\n\r\n")).decode().split("\r\n")
        except EOFError:
            return "", {}, b""
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        return lines[0].split()[1], fields, await wire.exactly(int(fields.get("content-length", "0")))
    peer = await made.http2(await made.connect())
    stream = peer.send_block([(":method", "CONNECT"), (":authority", authority)], end=False)
    message = peer.streams[stream]
    await peer.wait(lambda: message.over or (message.status == "200"))
    return message.status, message.head, message.body


# --- clients and servers ------------------------------------------------------------------------------------------


async def test_client_error_closes(authority: Authority, origin_ca: OriginCA) -> None:
    def refuse(client: Any) -> None:
        client.error = "not you"

    async with scene(authority, origin_ca) as made:
        await made.proxy(At("client_connected", refuse))
        wire = await made.connect()
        assert await wire.rest() == b""
        await wire.close()
        await made.fired("client_disconnected")
    assert made.recorder.names == ["client_connected", "client_disconnected"]


@_VERSIONS
async def test_server_address_redirects(version: str, authority: Authority, origin_ca: OriginCA) -> None:
    """TLS still is with the name that was asked for, and one connection serves all requests."""
    async with scene(authority, origin_ca) as made:
        ends = Ends(made, version)
        port = await ends.server()

        def redirect(data: Any) -> None:
            assert data.server.address == ("localhost", 9)
            data.server.address = ("127.0.0.1", port)

        await ends.proxy(At("server_connect", redirect))
        for _ in range(3):
            assert (await ends.ask(9)).body == b"hello"
        assert [got.fields["host"] for got in ends.received] == ["localhost:9"] * 3
    assert made.recorder.of("server_connect", "server_connected", "server_disconnected") == [
        "server_connect", "server_connected", "server_disconnected"]
    assert made.recorder.arguments("server_connected")[0].server.sni == "localhost"


@_VERSIONS
async def test_server_error_prevents(version: str, authority: Authority, origin_ca: OriginCA) -> None:
    def prevent(data: Any) -> None:
        data.server.error = "not there"

    async with scene(authority, origin_ca) as made:
        ends = Ends(made, version)
        port = await ends.server()
        await ends.proxy(At("server_connect", prevent))
        got = await ends.ask(port)
        assert got.start == "502" and b"not there" in got.body and not ends.received
        assert made.recorder.names[-4:] == ["request", "server_connect", "server_connect_error", "error"]


@_VERSIONS
async def test_an_open_server_keeps_its_address(version: str, authority: Authority, origin_ca: OriginCA) -> None:
    refused = []

    def move(data: Any) -> None:
        with pytest.raises(ValueError, match="open"):
            data.server.address = ("127.0.0.1", 9)
        refused.append(True)

    async with scene(authority, origin_ca) as made:
        ends = Ends(made, version)
        port = await ends.server()
        await ends.proxy(At("server_connected", move))
        assert (await ends.ask(port)).body == b"hello"
    assert refused == [True]


# --- CONNECT ------------------------------------------------------------------------------------------------------


@_VERSIONS
async def test_http_connect_moves_the_tunnel(version: str, authority: Authority, origin_ca: OriginCA) -> None:
    """A relayed one, so that it shows where it leads."""
    async with scene(authority, origin_ca) as made:
        ends = Ends(made, version)
        port = await ends.server()

        def move(flow: Any) -> None:
            flow.request.host, flow.request.port = "127.0.0.1", port

        await made.proxy(At("http_connect", move))
        wire = await made.secure(await made.tunnel(9, "localhost"), "h2" if version == "http2" else "http/1.1",
                                 ca=origin_ca.pem)
        certificate = wire.writer.get_extra_info("ssl_object").getpeercert()
        vanish(wire.writer, reset=False)
    assert certificate["issuer"] == ((("commonName", "Test origin CA"),),)
    assert made.recorder.arguments("server_connect")[0].server.address == ("127.0.0.1", port)


@_VERSIONS
async def test_http_connect_refuses_with_the_response(version: str, authority: Authority, origin_ca: OriginCA) -> None:
    def refuse(flow: Any) -> None:
        flow.response = Response.make(407, b"who are you?", {"X-Why": "hook"})

    async with scene(authority, origin_ca) as made:
        await made.proxy(At("http_connect", refuse))
        status, fields, body = await _connect(made, version, 9)
        assert (status, fields["x-why"], body) == ("407", "hook", b"who are you?")
    assert made.recorder.of("http_connect", "http_connected", "http_connect_error") == [
        "http_connect", "http_connect_error"]


@_VERSIONS
async def test_http_connect_grants_with_a_response(version: str, authority: Authority, origin_ca: OriginCA) -> None:
    def grant(flow: Any) -> None:
        flow.response = Response.make(200)

    async with scene(authority, origin_ca) as made:
        await made.proxy(At("http_connect", grant))
        assert (await _connect(made, version, 9))[0] == "200"
        await made.fired("http_connected")


@pytest.mark.parametrize(("hook", "status", "then"), [
    ("http_connect", "", ["http_connect", "http_connect_error"]),
    ("http_connected", "200", ["http_connect", "http_connected"]),
])
@_VERSIONS
async def test_a_killed_connect(version: str, hook: str, status: str, then: list[str], authority: Authority,
                                origin_ca: OriginCA) -> None:
    """No tunnel, also where it was granted before."""
    async with scene(authority, origin_ca) as made:
        port = await made.origin()
        await made.proxy(At(hook, _kill))
        assert (await _connect(made, version, port))[0] == status
        if version == "http1":
            await made.fired("client_disconnected")
        else:
            await made.fired(then[-1])
    assert made.recorder.of("http_connect", "http_connected", "http_connect_error", "server_connect") == then


@_VERSIONS
@pytest.mark.parametrize("kills", [False, True])
async def test_http_connect_upstream(version: str, kills: bool, authority: Authority, origin_ca: OriginCA) -> None:
    """Headers for the other proxy; killed, it is not asked."""
    def sign(flow: Any) -> None:
        flow.request.headers["Proxy-Authorization"] = "Bearer token"
        if kills:
            flow.kill()

    asked = Asked()
    async with scene(authority, origin_ca) as made:
        ends = Ends(made, version)
        port = await ends.server()
        front = await made.origin(connect_proxy(asked))

        def lead(data: Any) -> None:
            data.server.via = ("http", ("127.0.0.1", front))

        await ends.proxy(At("http_connect_upstream", sign), At("server_connect", lead))
        got = await ends.ask(port)
        assert (got.start, len(ends.received)) == (("502", 0) if kills else ("200", 1))
    assert [request.values(b"proxy-authorization") for request in asked.connects] == (
        [] if kills else [[b"Bearer token"]])
    assert made.recorder.of("server_connected", "server_connect_error") == [
        "server_connect_error" if kills else "server_connected"]


# --- TLS ----------------------------------------------------------------------------------------------------------


@_VERSIONS
async def test_ignore_connection_relays(version: str, authority: Authority, origin_ca: OriginCA) -> None:
    """What would be decrypted goes on as it is: the client sees the server's certificate, and no HTTP hook fires."""
    hellos = []

    def ignore(data: Any) -> None:
        hello = data.client_hello
        hellos.append((hello.sni, hello.alpn_protocols, hello.raw_bytes()[:3]))
        data.ignore_connection = True

    alpn = "h2" if version == "http2" else "http/1.1"
    async with scene(authority, origin_ca) as made:
        ends = Ends(made, version)
        port = await ends.server()
        await ends.proxy(At("tls_clienthello", ignore))
        wire = await made.secure(await made.tunnel(port, "localhost"), alpn, ca=origin_ca.pem)
        if version == "http2":
            assert (await (await made.http2(wire)).get(authority=f"localhost:{port}")).body == b"hello"
        else:
            await wire.send(b"GET / HTTP/1.1\r\nHost: localhost:%d\r\n\r\n" % port)
            await wire.head()
    assert hellos == [("localhost", (alpn.encode(),), b"\x16\x03\x01")]
    assert not made.recorder.of("tls_start_client", "requestheaders", "tcp_start")


@_VERSIONS
async def test_the_context_for_the_client(version: str, authority: Authority, origin_ca: OriginCA) -> None:
    alpn = "h2" if version == "http2" else "http/1.1"

    def replace(data: Any) -> None:
        assert isinstance(data.ssl_context, ssl.SSLContext)
        data.ssl_context = origin_ca.server_context("localhost", alpn=(alpn,))

    async with scene(authority, origin_ca) as made:
        ends = Ends(made, version)
        port = await ends.server()
        await ends.proxy(At("tls_start_client", replace))
        wire = await made.secure(await made.tunnel(port, "localhost"), alpn, ca=origin_ca.pem)
        vanish(wire.writer, reset=False)
    assert made.recorder.of("tls_established_client", "tls_failed_client") == ["tls_established_client"]


@_VERSIONS
@pytest.mark.parametrize("trusting", [True, False])
async def test_the_context_for_the_server(version: str, trusting: bool, authority: Authority,
                                          origin_ca: OriginCA) -> None:
    """Where the server's certificate is not trusted: with a context of an addon's that trusts it it is."""
    alpn = "h2" if version == "http2" else "http/1.1"

    def replace(data: Any) -> None:
        assert data.conn is data.server
        data.ssl_context = origin_ca.client_context()
        data.ssl_context.set_alpn_protocols([alpn])

    async with scene(authority, origin_ca) as made:
        ends = Ends(made, version)
        port = await ends.server()
        await ends.proxy(*([At("tls_start_server", replace)] if trusting else []))
        assert made.running is not None
        made.running.core.settings.upstream_ca = None
        assert (await ends.ask(port)).start == ("200" if trusting else "502")
    assert made.recorder.of("tls_established_server", "tls_failed_server") == [
        "tls_established_server" if trusting else "tls_failed_server"]


# --- SOCKS --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("password", [b"secret", b"wrong"])
@pytest.mark.parametrize("verdict", [None, True, False])
async def test_socks5_auth(password: bytes, verdict: bool | None, authority: Authority, origin_ca: OriginCA) -> None:
    """`valid` is what the option says, and what the handler leaves counts."""
    seen = []

    def judge(data: Any) -> None:
        seen.append((data.user, data.password, data.valid))
        if verdict is not None:
            data.valid = verdict

    right = password == b"secret"
    admitted = right if verdict is None else verdict
    async with scene(authority, origin_ca) as made:
        port = await made.origin()
        await made.proxy(At("socks5_auth", judge), mode="socks5", proxy_auth="user:secret")
        wire = await made.special()
        await wire.send(b"\x05\x01\x02")
        assert await wire.exactly(2) == b"\x05\x02"
        await wire.send(b"\x01\x04user" + bytes((len(password),)) + password)
        assert await wire.exactly(2) == (b"\x01\0" if admitted else b"\x01\x01")
        if admitted:
            await wire.send(b"\x05\x01\0\x01\x7f\0\0\x01" + port.to_bytes(2, "big"))
            assert (await wire.exactly(10))[:2] == b"\x05\0"
            await wire.send(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % port)
            assert await wire.answer() == b"hello"
            await wire.close()
        else:
            assert await wire.rest() == b""
    assert seen == [("user", password.decode(), right)]
    if admitted:
        assert made.recorder.arguments("client_disconnected")[0].user == "user"


# --- flow.kill() by somebody else, at any moment ------------------------------------------------------------------


@_VERSIONS
@pytest.mark.parametrize("moment", ["server_connect", "server_connected", "tls_start_server",
                                    "tls_established_server"])
async def test_kill_while_a_connection_is_made(version: str, moment: str, authority: Authority,
                                               origin_ca: OriginCA) -> None:
    """By a handler of a hook that has no flow: nothing is sent on either side."""
    async with scene(authority, origin_ca) as made:
        ends = Ends(made, version)
        port = await ends.server()

        def kill(data: Any) -> None:
            made.recorder.arguments("requestheaders")[0].kill()

        await ends.proxy(At(moment, kill))
        try:
            got = await ends.ask(port, Sent())
        except ProtocolError:
            pass  # the stream was reset under our request
        else:
            assert got.cut and got.start == ""
        await made.fired("error")
        assert not ends.received
    assert made.recorder.of("response", "error") == ["error"]
    assert made.recorder.arguments("error")[0].error.msg == "Connection killed."


def _raises(argument: Any) -> None:
    raise RuntimeError("a bug of the script's")


@_VERSIONS
@pytest.mark.parametrize("hook", ["requestheaders", "request", "server_connect", "server_connected", "tls_clienthello",
                                  "tls_start_client", "tls_start_server", "responseheaders", "response"])
async def test_a_failing_handler_changes_nothing(version: str, hook: str, authority: Authority,
                                                 origin_ca: OriginCA) -> None:
    seen: list[str] = []

    def note(argument: Any) -> None:
        seen.append(hook)

    second: Callable[[Any], None] = note
    async with scene(authority, origin_ca) as made:
        ends = Ends(made, version)
        port = await ends.server()
        await ends.proxy(At(hook, _raises), At(hook, second), Decide())
        assert (await ends.ask(port)).body == b"hello"
    assert seen == [hook]
