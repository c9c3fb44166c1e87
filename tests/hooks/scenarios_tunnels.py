"""The scenarios of tunnels, TLS and HTTP/2, by name."""

from __future__ import annotations

import ssl
from typing import Any

from rulesproxy.model.http import Response
from rulesproxy.model.policy import TlsVerdict
from tests.hooks.scene import Scenario, Scene
from tests.support.hook_logs import At, Decide
from tests.support.http2 import Http2Peer, Message, answering
from tests.support.leaks import until
from tests.support.upstream_proxies import Asked, connect_proxy

INSIDE = b"GET / HTTP/1.1\r\nHost: localhost:%d\r\n\r\n"


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


TUNNELS: dict[str, Scenario] = {
    "tunnel_relayed": tunnel_relayed, "tunnel_intercepted": tunnel_intercepted, "tunnel_refused": tunnel_refused,
    "tunnel_over_http2": tunnel_over_http2, "server_tls_failed": server_tls_failed,
    "client_tls_failed": client_tls_failed, "upstream_proxy": upstream_proxy, "socks_with_auth": socks_with_auth,
    "http2_streams": http2_streams, "http2_to_http1": http2_to_http1, "http1_to_http2": http1_to_http2,
    "grpc_streaming": grpc_streaming,
}
