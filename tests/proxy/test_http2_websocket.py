"""WebSocket over HTTP/2 (RFC 8441): an extended CONNECT reaches a server that knows HTTP/1 upgrades only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from h2.settings import SettingCodes
from websockets.asyncio.server import ServerConnection, serve
from wsproto import ConnectionType
from wsproto.connection import Connection
from wsproto.events import CloseConnection, TextMessage

from rulesproxy.model.policy import TlsDecision, TlsVerdict
from tests.support.certificates import OriginCA
from tests.support.http2 import Http2Peer, http2_client
from tests.support.leaks import until
from tests.support.origin import run_origin
from tests.support.proxy import RunningProxy

MakeProxy = Callable[..., Awaitable[RunningProxy]]


class Intercept:
    def tls_decision(self, tunnel: Any) -> TlsDecision:
        return TlsDecision(TlsVerdict.INTERCEPT)


def ask(client: Http2Peer, *fields: tuple[str, str]) -> int:
    return client.send_block([
        (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":path", "/chat"),
        (":authority", "localhost"), ("sec-websocket-version", "13"), *fields], end=False)


async def test_messages_pass_both_ways(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(f"re: {message}")

    proxy = await make_proxy(Intercept())
    server = await serve(echo, "127.0.0.1", 0, ssl=origin_ca.server_context("localhost"), subprotocols=["chat"],
                         compression=None)
    try:
        port = next(iter(server.sockets)).getsockname()[1]
        async with http2_client(proxy, port) as client:
            await client.wait(lambda: client.h2.remote_settings.get(SettingCodes.ENABLE_CONNECT_PROTOCOL) == 1)
            stream = ask(client, ("sec-websocket-protocol", "chat"))
            await client.wait(lambda: bool(client.streams[stream].head))
            reply = client.streams[stream]
            assert reply.status == "200" and reply.head["sec-websocket-protocol"] == "chat"
            assert not {"upgrade", "connection", "sec-websocket-accept"} & set(reply.head)
            websocket = Connection(ConnectionType.CLIENT)
            for word in ("one", "two"):
                await client.send_body(stream, websocket.send(TextMessage(word)), end=False)
                websocket.receive_data(await taken(client, stream))
                assert [event.data for event in websocket.events()] == [f"re: {word}"]
            await client.send_body(stream, websocket.send(CloseConnection(1000)), end=False)
            websocket.receive_data(await taken(client, stream))
            (closed,) = websocket.events()
            assert isinstance(closed, CloseConnection) and closed.code == 1000
            assert (await client.over(stream)).ended
            assert await until(lambda: bool(proxy.recorder.arguments("websocket_end")))
        (flow,) = proxy.recorder.arguments("websocket_end")
        assert [message.content for message in flow.websocket.messages] == [b"one", b"re: one", b"two", b"re: two"]
        assert flow.request.method == "GET" and flow.request.headers["upgrade"] == "websocket"
    finally:
        server.close()
        await server.wait_closed()


async def taken(client: Http2Peer, stream: int) -> bytes:
    """What came since the last call, at least a byte."""
    message = client.streams[stream]
    await client.wait(lambda: bool(message.body))
    data, message.body = message.body, b""
    return data


@pytest.mark.parametrize(("answered", "status"), [
    (b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno", "403"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "502"),  # 200 would mean that the tunnel is open
])
async def test_a_server_that_does_not_agree(make_proxy: MakeProxy, origin_ca: OriginCA, answered: bytes,
                                            status: str) -> None:
    proxy = await make_proxy(Intercept())
    async with (run_origin(answered, tls=origin_ca.server_context("localhost")) as origin,
                http2_client(proxy, origin.port) as client):
        stream = ask(client)
        await client.wait(lambda: client.streams[stream].ended)
        assert client.streams[stream].status == status
        (request,) = origin.requests
        assert request.line == b"GET /chat HTTP/1.1" and request.values(b"upgrade") == [b"websocket"]
        assert len(request.values(b"sec-websocket-key")) == 1 and request.values(b"sec-websocket-version") == [b"13"]
