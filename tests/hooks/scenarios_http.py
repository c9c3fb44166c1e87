"""The scenarios of HTTP, by name: what clients and servers do, step by step."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from rulesproxy.addons.lifecycle import UpdateHook
from rulesproxy.model.http import Response
from rulesproxy.model.policy import TlsVerdict
from tests.hooks.scene import Scenario, Scene
from tests.support.hook_logs import At, Decide
from tests.support.http2 import Http2Peer, Message, answering
from tests.support.leaks import until
from tests.support.origin import HELLO, OriginConnection
from tests.support.upstream_proxies import Asked, connect_proxy

GET = b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: x\r\n\r\n"
INSIDE = b"GET / HTTP/1.1\r\nHost: localhost:%d\r\n\r\n"
POST = b"POST http://127.0.0.1:%d/ HTTP/1.1\r\nHost: x\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
LARGE = b"x" * 300_000


async def get(scene: Scene) -> None:
    port = await scene.origin()
    await scene.proxy()
    wire = await scene.connect()
    await wire.send(GET % port)
    assert await wire.answer() == b"hello"
    await wire.close()


async def post_collected(scene: Scene) -> None:
    class Wants:
        def needs_body(self, flow: Any, phase: str) -> bool:
            return True

    port = await scene.origin()
    await scene.proxy(Wants())
    wire = await scene.connect()
    await wire.send(POST % port + b"Content-Length: 10\r\n\r\nhalf-")
    await scene.fired("requestheaders")
    await wire.send(b"half-")
    assert await wire.answer() == b"hello"
    await wire.close()


async def upload_streamed(scene: Scene) -> None:
    port = await scene.origin()
    await scene.proxy()
    wire = await scene.connect()
    await wire.send(POST % port + b"Content-Length: %d\r\n\r\n" % len(LARGE))
    await wire.send(LARGE)
    assert await wire.answer() == b"hello"
    await wire.close()


async def download_streamed(scene: Scene) -> None:
    port = await scene.origin(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(LARGE), LARGE))
    await scene.proxy()
    wire = await scene.connect()
    await wire.send(GET % port)
    assert await wire.answer() == LARGE
    await wire.close()


async def head(scene: Scene) -> None:
    port = await scene.origin(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    await scene.proxy()
    wire = await scene.connect()
    await wire.send((GET % port).replace(b"GET", b"HEAD"))
    assert b"Content-Length: 5\r\n" in await wire.until(b"\r\n\r\n")
    await wire.close()


async def no_content(scene: Scene) -> None:
    port = await scene.origin(b"HTTP/1.1 204 No Content\r\n\r\n")
    await scene.proxy()
    wire = await scene.connect()
    await wire.send(GET % port)
    assert (await wire.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 204 ")
    await wire.close()


async def expect_continue(scene: Scene) -> None:
    async def script(connection: OriginConnection) -> None:
        await connection.read_head()
        await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await connection.read_exactly(5)
        await connection.send(HELLO)
        await connection.read_to_end()

    port = await scene.origin(script)
    await scene.proxy()
    wire = await scene.connect()
    await wire.send(POST % port + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    assert (await wire.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
    await wire.send(b"whole")
    assert await wire.answer() == b"hello"
    await wire.close()


async def trailers(scene: Scene) -> None:
    port = await scene.origin(CHUNKED + b"\r\n5\r\nhello\r\n0\r\nX-Sum: out\r\n\r\n")
    await scene.proxy()
    wire = await scene.connect()
    await wire.send(POST % port + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: in\r\n\r\n")
    await wire.head()
    assert (await wire.end_of_chunks()).endswith(b"X-Sum: out\r\n\r\n")
    await wire.close()


async def keep_alive(scene: Scene) -> None:
    port = await scene.origin()
    await scene.proxy()
    wire = await scene.connect()
    for _ in range(2):
        await wire.send(GET % port)
        assert await wire.answer() == b"hello"
    await wire.close()


async def pipelined(scene: Scene) -> None:
    port = await scene.origin()
    await scene.proxy()
    wire = await scene.connect()
    await wire.send(GET % port * 2)
    for _ in range(2):
        assert await wire.answer() == b"hello"
    await wire.close()


async def early_answer(scene: Scene) -> None:
    async def script(connection: OriginConnection) -> None:
        await connection.read_head()
        await connection.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
        await connection.read_exactly(10)
        await connection.read_to_end()

    port = await scene.origin(script)
    await scene.proxy()
    wire = await scene.connect()
    await wire.send(POST % port + b"Content-Length: 10\r\n\r\nhalf-")
    assert await wire.answer(413) == b""
    await scene.fired("response")
    await wire.send(b"half-")
    await scene.fired("request")
    await wire.close()


def _synthetic(hook: str) -> Scenario:
    def answer(flow: Any) -> None:
        if flow.request.port == 9:
            flow.response = Response.make(200, b"made here")

    async def run(scene: Scene) -> None:
        await scene.proxy(At(hook, answer))
        wire = await scene.connect()
        await wire.send(GET % 9)
        assert await wire.answer() == b"made here"
        await wire.close()

    return run


async def redirected_connect(scene: Scene) -> None:
    """Two requests for a name that leads elsewhere."""
    port = await scene.origin()

    def redirect(data: Any) -> None:
        if data.server.address[0] == "nowhere.test":
            data.server.address = ("127.0.0.1", port)

    await scene.proxy(At("server_connect", redirect))
    wire = await scene.connect()
    for _ in range(2):
        await wire.send(b"GET http://nowhere.test/ HTTP/1.1\r\nHost: nowhere.test\r\n\r\n")
        assert await wire.answer() == b"hello"
    await wire.close()


async def connect_failed(scene: Scene) -> None:
    port = await scene.origin()
    scene.server_goes(reset=False)
    await scene.proxy()
    wire = await scene.connect()
    await wire.send(GET % port)
    await wire.answer(502)
    await wire.close()


async def server_sent_events(scene: Scene) -> None:
    arrived = asyncio.Event()

    async def script(connection: OriginConnection) -> None:
        await connection.read_request()
        await connection.send(CHUNKED + b"Content-Type: text/event-stream\r\n\r\n9\r\ndata: 1\n\n\r\n")
        await arrived.wait()
        await connection.send(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")
        await connection.read_to_end()

    port = await scene.origin(script)
    await scene.proxy()
    wire = await scene.connect()
    await wire.send(GET % port)
    await wire.head()
    await wire.until(b"data: 1\n\n")  # at once, with the stream still open
    arrived.set()
    await wire.end_of_chunks()
    await wire.close()


async def flow_changed_by_command(scene: Scene) -> None:
    """While the server thinks, a command of a script marks the flow."""
    answered = asyncio.Event()

    async def script(connection: OriginConnection) -> None:
        await connection.read_request()
        await answered.wait()
        await connection.send(HELLO)
        await connection.read_to_end()

    class Marker:
        def load(self, loader: Any) -> None:
            loader.add_command("mark", self.mark)

        async def mark(self, flow: Any) -> None:
            flow.marked = ":red_circle:"
            assert scene.running is not None
            await scene.running.addons.fire(UpdateHook([flow]))

    port = await scene.origin(script)
    proxy = await scene.proxy(Marker())
    wire = await scene.connect()
    await wire.send(GET % port)
    await scene.fired("server_connected")
    await proxy.addons.commands["mark"](scene.recorder.arguments("request")[0])
    answered.set()
    assert await wire.answer() == b"hello"
    await wire.close()


# --- tunnels ------------------------------------------------------------------------------------------------------


async def tunnel_relayed(scene: Scene) -> None:
    port = await scene.tls_origin()
    await scene.proxy(Decide(TlsVerdict.RELAY))
    wire = await scene.secure(await scene.tunnel(port), ca=scene.origin_ca.pem)
    await wire.send(INSIDE % port)
    assert await wire.answer() == b"hello"
    await wire.close()


async def tunnel_intercepted(scene: Scene) -> None:
    port = await scene.tls_origin()
    await scene.proxy(Decide())
    wire = await scene.intercepted(port)
    await wire.send(INSIDE % port)
    assert await wire.answer() == b"hello"
    await wire.close()


async def tunnel_refused(scene: Scene) -> None:
    def refuse(flow: Any) -> None:
        flow.response = Response.make(403, b"no")

    await scene.proxy(At("http_connect", refuse))
    wire = await scene.connect()
    await wire.send(b"CONNECT example.test:443 HTTP/1.1\r\nHost: example.test:443\r\n\r\n")
    assert await wire.answer(403) == b"no"
    await wire.close()


async def tunnel_over_http2(scene: Scene) -> None:
    port = await scene.origin()
    await scene.proxy()
    peer = await scene.http2(await scene.connect())
    stream = peer.send_block([(":method", "CONNECT"), (":authority", f"127.0.0.1:{port}")], end=False)
    message = peer.streams[stream]
    await peer.wait(lambda: message.over or message.status == "200")
    await peer.send_body(stream, INSIDE.replace(b"localhost", b"127.0.0.1") % port, end=False)
    await peer.wait(lambda: message.over or message.body.endswith(b"hello") or b" 502 " in message.body)
    assert message.body.endswith(b"hello")
    await peer.send_body(stream, b"")
    await peer.over(stream)
    await peer.aclose()


async def server_tls_failed(scene: Scene) -> None:
    port = await scene.origin(tls=scene.origin_ca.server_context("localhost", self_signed=True))
    await scene.proxy(Decide())
    wire = await scene.intercepted(port)
    await wire.send(INSIDE % port)
    await wire.answer(502)
    await wire.close()


async def client_tls_failed(scene: Scene) -> None:
    """The client trusts another authority than ours."""
    port = await scene.tls_origin()
    await scene.proxy(Decide())
    try:
        await scene.secure(await scene.tunnel(port), ca=scene.origin_ca.pem)
    except ssl.SSLCertVerificationError:
        return
    raise AssertionError("the client took a certificate that it should not trust")


async def upstream_proxy(scene: Scene) -> None:
    behind = await scene.tls_origin()
    front = await scene.origin(connect_proxy(Asked()))
    await scene.proxy(Decide(), mode=f"upstream:http://127.0.0.1:{front}")
    wire = await scene.secure(await scene.tunnel(behind, "localhost", await scene.special()))
    await wire.send(INSIDE % behind)
    assert await wire.answer() == b"hello"
    await wire.close()


async def socks_with_auth(scene: Scene) -> None:
    port = await scene.origin()
    await scene.proxy(mode="socks5", proxy_auth="user:secret")
    wire = await scene.special()
    await wire.send(b"\x05\x01\x02")
    assert await wire.exactly(2) == b"\x05\x02"
    await wire.send(b"\x01\x04user\x06secret")
    assert await wire.exactly(2) == b"\x01\x00"
    await wire.send(b"\x05\x01\x00\x01\x7f\0\0\x01" + port.to_bytes(2, "big"))
    assert (await wire.exactly(10))[:2] == b"\x05\x00"
    await wire.send(INSIDE.replace(b"localhost", b"127.0.0.1") % port)
    assert await wire.answer() == b"hello"
    await wire.close()


# --- HTTP/2 -------------------------------------------------------------------------------------------------------


async def http2_streams(scene: Scene) -> None:
    """One request, then two at once: the server answers when it has both."""
    async def answer(peer: Http2Peer, stream: int, request: Message) -> None:
        if stream != 1:
            await until(lambda: scene.cut or [message.ended for message in peer.streams.values()].count(True) == 3)
        peer.respond(stream, "200", [("content-length", "5")], b"hello")

    port = await scene.http2_origin(answering(answer))
    await scene.proxy(Decide())
    peer = await scene.http2(await scene.intercepted(port, "h2"))
    authority = f"localhost:{port}"
    assert (await peer.get(authority=authority)).body == b"hello"
    for stream in [peer.send_request(authority=authority) for _ in range(2)]:
        assert (await peer.over(stream)).body == b"hello"
    await peer.aclose()


async def http2_to_http1(scene: Scene) -> None:
    port = await scene.tls_origin()
    await scene.proxy(Decide())
    peer = await scene.http2(await scene.intercepted(port, "h2"))
    assert (await peer.get(authority=f"localhost:{port}")).body == b"hello"
    await peer.aclose()


async def http1_to_http2(scene: Scene) -> None:
    port = await scene.http2_origin()
    await scene.proxy(Decide())
    wire = await scene.intercepted(port)
    await wire.send(INSIDE % port)
    assert await wire.answer() == b"hello"
    await wire.close()


async def grpc_streaming(scene: Scene) -> None:
    """The server answers the first message before the client ends the call."""
    async def script(peer: Http2Peer) -> None:
        await peer.wait(lambda: bool(peer.streams.get(1, Message()).body))
        peer.respond(1, "200", [("content-type", "application/grpc")], b"\0\0\0\0\1a", end=False)
        await peer.wait(lambda: peer.streams[1].ended)
        peer.send_trailers(1, [("grpc-status", "0")])

    port = await scene.http2_origin(script)
    await scene.proxy(Decide())
    peer = await scene.http2(await scene.intercepted(port, "h2"))
    stream = peer.send_request("/Service/Call", method="POST", authority=f"localhost:{port}", end=False,
                               fields=[("content-type", "application/grpc"), ("te", "trailers")])
    await peer.send_body(stream, b"\0\0\0\0\1q", end=False)
    await peer.wait(lambda: peer.streams[stream].over or bool(peer.streams[stream].body))
    await peer.send_body(stream, b"")
    assert (await peer.over(stream)).trailers == {"grpc-status": "0"}
    await peer.aclose()


HTTP: dict[str, Scenario] = {
    "get": get, "post_collected": post_collected, "upload_streamed": upload_streamed,
    "download_streamed": download_streamed, "head": head, "no_content": no_content,
    "expect_continue": expect_continue, "trailers": trailers, "keep_alive": keep_alive, "pipelined": pipelined,
    "early_answer": early_answer, "answered_at_head": _synthetic("requestheaders"),
    "answered_in_request": _synthetic("request"), "redirected_connect": redirected_connect,
    "connect_failed": connect_failed, "server_sent_events": server_sent_events,
    "tunnel_relayed": tunnel_relayed, "tunnel_intercepted": tunnel_intercepted, "tunnel_refused": tunnel_refused,
    "tunnel_over_http2": tunnel_over_http2, "server_tls_failed": server_tls_failed,
    "client_tls_failed": client_tls_failed, "upstream_proxy": upstream_proxy, "socks_with_auth": socks_with_auth,
    "http2_streams": http2_streams, "http2_to_http1": http2_to_http1, "http1_to_http2": http1_to_http2,
    "grpc_streaming": grpc_streaming, "flow_changed_by_command": flow_changed_by_command,
}
