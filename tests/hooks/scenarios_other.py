"""The scenarios of everything that is no plain HTTP, by name, and the table of all scenarios."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dns.message
import dns.rcode

from rulesproxy.model.dns_record import ResourceRecord
from tests.hooks.scenarios_http import HTTP
from tests.hooks.scenarios_tunnels import TUNNELS
from tests.hooks.scene import Scenario, Scene, Wire
from tests.support.dns_upstream import silent
from tests.support.hook_logs import At, Decide
from tests.support.http2 import Http2Peer
from tests.support.origin import OriginConnection
from tests.support.websocket import TEXT, RawClient, RawEnd, frame, handshake_request, raw_server

#: Nothing that HTTP or TLS begins with.
HELLO = b"\x00hello"


# --- WebSocket ----------------------------------------------------------------------------------------------------


async def _echo(end: RawEnd, connection: OriginConnection) -> None:
    opcode, payload = await end.receive()
    await end.send_frame(opcode, payload)
    await _until_close(end)


async def _until_close(end: RawEnd) -> None:
    code, _ = await end.receive_close()
    await end.send_close(code)


async def _websocket(scene: Scene, port: int) -> RawClient:
    wire = await scene.connect()
    await wire.send(handshake_request(port))
    head = await wire.until(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 "), head
    return RawClient(wire.reader, wire.writer, head)


async def _leave(client: RawClient) -> None:
    await client.send_close(1000)
    assert await client.receive_close() == (1000, "")
    assert await client.at_end()
    client.writer.close()


async def websocket(scene: Scene) -> None:
    port = await scene.origin(raw_server(_echo))
    await scene.proxy()
    client = await _websocket(scene, port)
    await client.send_frame(TEXT, b"hello")
    assert await client.receive() == (TEXT, b"hello")
    await _leave(client)


async def websocket_meddled(scene: Scene) -> None:
    """The first message is edited, the second dropped, and something else injected towards the client."""
    received = []

    def meddle(flow: Any) -> None:
        message = flow.websocket.messages[-1]
        if message.text == "one":
            message.text = "ONE"
        elif message.text == "two":
            message.drop()
            flow.websocket.inject(b"extra", to_client=True)

    async def listen(end: RawEnd, connection: OriginConnection) -> None:
        received.append(await end.receive())
        await _until_close(end)

    port = await scene.origin(raw_server(listen))
    await scene.proxy(At("websocket_message", meddle))
    client = await _websocket(scene, port)
    await client.send(frame(TEXT, b"one") + frame(TEXT, b"two"))
    assert await client.receive() == (TEXT, b"extra")
    await _leave(client)
    assert received == [(TEXT, b"ONE")]


async def websocket_over_http2(scene: Scene) -> None:
    port = await scene.origin(raw_server(_echo), tls=scene.origin_ca.server_context("localhost"))
    await scene.proxy(Decide())
    peer = await scene.http2(await scene.intercepted(port, "h2"))
    stream = peer.send_block([
        (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":path", "/ws"),
        (":authority", f"localhost:{port}"), ("sec-websocket-version", "13")], end=False)
    await _head(peer, stream)
    await peer.send_body(stream, frame(TEXT, b"hello"), end=False)
    await _body(peer, stream, frame(TEXT, b"hello", mask=False))
    await peer.send_body(stream, frame(8, b"\x03\xe8"), end=False)
    await _body(peer, stream, frame(8, b"\x03\xe8", mask=False))
    await peer.send_body(stream, b"")
    await peer.over(stream)
    await peer.aclose()


async def _head(peer: Http2Peer, stream: int) -> None:
    message = peer.streams[stream]
    await peer.wait(lambda: message.over or bool(message.status))
    assert message.status == "200", message


async def _body(peer: Http2Peer, stream: int, end: bytes) -> None:
    message = peer.streams[stream]
    await peer.wait(lambda: message.over or message.body.endswith(end))
    assert message.body.endswith(end), message


# --- raw ----------------------------------------------------------------------------------------------------------


async def _answer(connection: OriginConnection) -> None:
    await connection.send(await connection.read_some())
    await connection.read_to_end()


async def _finish(wire: Wire) -> None:
    wire.writer.write_eof()
    assert await wire.rest() == b""
    await wire.close()


async def tcp_client_first(scene: Scene) -> None:
    port = await scene.origin(_answer)
    await scene.proxy()
    wire = await scene.tunnel(port)
    await wire.send(HELLO)
    assert await wire.exactly(6) == HELLO
    await _finish(wire)


async def tcp_server_first(scene: Scene) -> None:
    async def greet(connection: OriginConnection) -> None:
        await connection.send(b"220 ready\r\n")
        await connection.read_to_end()

    port = await scene.origin(greet)
    await scene.proxy(head_timeout=1.0)  # how long a client may be silent whose server cannot be reached
    wire = await scene.tunnel(port)
    assert await wire.until(b"\n") == b"220 ready\r\n"
    await wire.send(b"QUIT\r\n")
    await _finish(wire)


async def tcp_reset(scene: Scene) -> None:
    async def reset(connection: OriginConnection) -> None:
        await connection.read_some()
        connection.reset()

    port = await scene.origin(reset)
    await scene.proxy()
    wire = await scene.tunnel(port)
    await wire.send(HELLO)
    try:
        await wire.rest()
    except ConnectionResetError:
        return
    raise AssertionError("a reset arrived as an orderly end")


async def tcp_injected_by_command(scene: Scene) -> None:
    port = await scene.origin(_answer_nothing)
    await scene.proxy()
    wire = await scene.tunnel(port)
    await wire.send(HELLO)
    await scene.fired("tcp_message")
    scene.recorder.arguments("tcp_start")[0].inject(b"extra", to_client=True)
    assert await wire.exactly(5) == b"extra"
    await _finish(wire)


async def _answer_nothing(connection: OriginConnection) -> None:
    await connection.read_to_end()


async def reverse_tcp(scene: Scene) -> None:
    port = await scene.origin(_answer)
    await scene.proxy(mode=f"reverse:tcp://127.0.0.1:{port}")
    wire = await scene.special()
    await wire.send(HELLO)
    assert await wire.exactly(6) == HELLO
    await _finish(wire)


async def reverse_udp(scene: Scene) -> None:
    await scene.proxy(udp_timeout=0.1)
    server, client = scene.udp_server(), scene.udp_client()
    listener = await scene.udp_proxy(server.port)
    client.send(b"ping", listener)
    data, source = await server.receive()
    assert data == b"ping"
    server.send(b"pong", source)
    assert await client.receive() == (b"pong", listener)
    await scene.fired("client_disconnected")


async def reverse_udp_failed(scene: Scene) -> None:
    """Nobody listens there."""
    await scene.proxy(udp_timeout=0.1)
    server, client = scene.udp_server(), scene.udp_client()
    server.sock.close()
    client.send(b"ping", await scene.udp_proxy(server.port))
    await scene.fired("client_disconnected")


# --- DNS ----------------------------------------------------------------------------------------------------------


async def _ask(scene: Scene, port: int, transport: str) -> dns.message.Message | None:
    """None: the flow is over, and nothing came."""
    query = dns.message.make_query("known.test", "A").to_wire()
    if transport == "udp":
        client = scene.udp_client()
        client.send(query, port)
        await scene.fired("dns_response", "dns_error")
        try:
            return dns.message.from_wire(client.sock.recv(65535))
        except BlockingIOError:
            return None
    wire = await scene.connect(port)
    await wire.send(len(query).to_bytes(2, "big") + query)
    await scene.fired("dns_response", "dns_error")
    wire.writer.write_eof()
    answer = await wire.rest()
    await wire.close()
    return dns.message.from_wire(answer[2:]) if answer else None


def _dns(transport: str, outcome: str) -> Scenario:
    """`outcome`: what `dns_request` or the resolver makes of a query."""
    def succeed(flow: Any) -> None:
        flow.response = flow.request.succeed([ResourceRecord.A("known.test", "192.0.2.9")])

    handlers: dict[str, Callable[[Any], None]] = {"answered": succeed, "killed": lambda flow: flow.kill()}
    texts = {"answered": "192.0.2.9", "forwarded": "192.0.2.1"}

    async def run(scene: Scene) -> None:
        resolver = await scene.resolver(**({"udp": silent, "tcp": silent} if outcome == "failed" else {}))
        handler = handlers.get(outcome)
        await scene.proxy(*([At("dns_request", handler)] if handler else []))
        answer = await _ask(scene, await scene.dns_server(resolver), transport)
        if outcome == "killed":
            assert answer is None
        elif outcome == "failed":
            assert answer is not None and answer.rcode() == dns.rcode.SERVFAIL
        else:
            assert answer is not None and answer.answer, answer
            assert texts[outcome] in answer.answer[0].to_text()

    return run


# --- the life of the proxy ----------------------------------------------------------------------------------------


async def started_and_stopped(scene: Scene) -> None:
    await scene.proxy()


async def option_changed(scene: Scene) -> None:
    proxy = await scene.proxy()
    proxy.addons.options.update(body_timeout=7.0)
    assert scene.recorder.events[-1] == ("configure", {"body_timeout"})


SCENARIOS: dict[str, Scenario] = {
    **HTTP, **TUNNELS,
    "websocket": websocket, "websocket_meddled": websocket_meddled, "websocket_over_http2": websocket_over_http2,
    "tcp_client_first": tcp_client_first, "tcp_server_first": tcp_server_first, "tcp_reset": tcp_reset,
    "tcp_injected_by_command": tcp_injected_by_command, "reverse_tcp": reverse_tcp, "reverse_udp": reverse_udp,
    "reverse_udp_failed": reverse_udp_failed,
    **{f"dns_{outcome}_{transport}": _dns(transport, outcome)
       for outcome in ("answered", "forwarded", "failed", "killed") for transport in ("udp", "tcp")},
    "started_and_stopped": started_and_stopped, "option_changed": option_changed,
}
