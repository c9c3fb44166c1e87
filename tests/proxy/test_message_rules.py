"""Message rules on real sockets: WebSocket, raw TCP and UDP through the whole proxy."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable

import pytest
from websockets.exceptions import ConnectionClosed

from tests.proxy.test_udp_flows import peer, udp_proxy
from tests.support.app import RunningApp
from tests.support.certificates import OriginCA
from tests.support.leaks import until
from tests.support.origin import OriginConnection, run_origin
from tests.support.tunnels import tunnel
from tests.support.websocket import run_echo, ws_connect

MakeApp = Callable[..., Awaitable[RunningApp]]
SECONDS = 10.0
#: Nothing that HTTP or TLS begins with.
HELLO = b"\x00hello"


async def echo(connection: OriginConnection) -> None:
    while True:
        await connection.send(await connection.read_some())


# --- WebSocket -----------------------------------------------------------------------------------------------------


async def test_messages_are_changed_answered_and_dropped(make_app: MakeApp) -> None:
    app = await make_app("""
  - name: masks
    match: {host: localhost, path: /ws, direction: to_server, text: {contains: secret}}
    action: {websocket: {replace: {regex: "s(e)cret", with: "***${match.1}"}}}
  - name: answers
    match: {host: localhost, json: {type: ping}}
    action: {websocket: {drop: true, send: {to: client, json: {type: pong}}}}
""")
    async with run_echo() as port, ws_connect(app, port) as client, asyncio.timeout(SECONDS):
        await client.send("a secret")
        assert await client.recv() == "a ***e"
        await client.send('{"type": "ping", "id": 1}')
        assert await client.recv() == '{"type": "pong"}'
        await client.send("hello")
        assert await client.recv() == "hello"
    assert app.recorder.of("websocket_message", "websocket_end")[-1:] == ["websocket_end"]


async def test_rules_decrypt_the_websockets_they_are_about(make_app: MakeApp, origin_ca: OriginCA) -> None:
    app = await make_app("""
  - name: shouts
    match: {host: localhost, direction: to_client, opcode: text}
    action: {websocket: {replace: {text: "!", with: "!!!"}}}
""")
    async with (run_echo(tls=origin_ca.server_context("localhost")) as port, ws_connect(app, port, tls=True) as client,
                asyncio.timeout(SECONDS)):
        await client.send("hello!")
        assert await client.recv() == "hello!!!"
        await client.send(b"hello!")
        assert await client.recv() == b"hello!"


@pytest.mark.parametrize(("action", "code", "reason"), [
    ("{block: {}}", 1008, "blocked by rule ends"),
    ("{websocket: {close: {code: 4003, reason: enough}}}", 4003, "enough"),
])  # fmt: skip
async def test_a_rule_ends_a_websocket(make_app: MakeApp, action: str, code: int, reason: str) -> None:
    app = await make_app(f"  - {{name: ends, match: {{host: localhost, text: bad}}, action: {action}}}")
    async with run_echo() as port, ws_connect(app, port) as client, asyncio.timeout(SECONDS):
        await client.send("good")
        assert await client.recv() == "good"
        await client.send("bad")
        with pytest.raises(ConnectionClosed) as caught:
            while True:
                await client.recv()
        assert caught.value.rcvd is not None
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (code, reason)


async def test_messages_meet_the_rules_of_the_moment(make_app: MakeApp) -> None:
    rule = "  - {{name: r, match: {{host: localhost, direction: to_server}}, action: {{websocket: {{replace: {}}}}}}}"
    app = await make_app(rule.format("one"))
    async with run_echo() as port, ws_connect(app, port) as client, asyncio.timeout(SECONDS):
        await client.send("hi")
        assert await client.recv() == "one"
        await app.edit(rule.format("two"))
        await client.send("hi")
        assert await client.recv() == "two"


async def test_rules_look_at_the_handshake_as_the_client_sent_it(make_app: MakeApp) -> None:
    app = await make_app("""
  - {name: q, match: {host: localhost}, action: {rewrite: {headers: {set: {x-a: changed}}}}}
  - {name: r, match: {host: localhost, headers: {x-a: mine}}, action: {websocket: {replace: seen}}}
""")
    async with (run_echo() as port, ws_connect(app, port, additional_headers={"x-a": "mine"}) as client,
                asyncio.timeout(SECONDS)):
        await client.send("hi")
        assert await client.recv() == "seen"


# --- TCP -----------------------------------------------------------------------------------------------------------


async def test_tcp_messages_are_changed(make_app: MakeApp) -> None:
    app = await make_app("""
  - name: r
    match: {host: 127.0.0.1, direction: to_server, bytes: {prefix: "00"}}
    action: {tcp: {replace: {text: hello, with: hallo}}}
""")
    async with run_origin(echo) as origin, tunnel(app, origin.port, HELLO) as (reader, writer):
        async with asyncio.timeout(SECONDS):
            assert await reader.readexactly(6) == b"\x00hallo"
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"


@pytest.mark.parametrize("drop", ["drop: true, ", ""])
async def test_a_rule_answers_and_hangs_up(make_app: MakeApp, drop: str) -> None:
    app = await make_app(f"""
  - name: r
    match: {{host: 127.0.0.1, text: {{contains: QUIT}}}}
    action: {{tcp: {{{drop}send: {{to: client, text: "221 bye"}}, close: true}}}}
""")
    got = bytearray()

    async def listen(connection: OriginConnection) -> None:
        got.extend(await connection.read_to_end())

    async with run_origin(listen) as origin, tunnel(app, origin.port, HELLO) as (reader, writer):
        async with asyncio.timeout(SECONDS):
            writer.write(b"QUIT")
            assert await reader.read() == b"221 bye"  # and an orderly end
        assert await until(lambda: app.recorder.of("tcp_end", "tcp_error") == ["tcp_end"])
    # What one read brings is one message: the greeting may have come with the QUIT, and share its fate.
    assert bytes(got) in ((HELLO, b"") if drop else (HELLO + b"QUIT",))


@pytest.mark.parametrize("action", ["{block: {}}", "{tcp: {close: reset}}"])
async def test_a_rule_resets_both_sides(make_app: MakeApp, action: str) -> None:
    app = await make_app(f"  - {{name: r, match: {{host: 127.0.0.1, text: {{contains: bad}}}}, action: {action}}}")
    lost = asyncio.Event()

    async def listen(connection: OriginConnection) -> None:
        try:
            await connection.read_to_end()
        except ConnectionError:
            lost.set()
            raise

    async with run_origin(listen) as origin, tunnel(app, origin.port, b"\x00bad") as (reader, _):
        async with asyncio.timeout(SECONDS):
            with pytest.raises(ConnectionResetError):
                await reader.read()
            await lost.wait()


async def test_tcp_rules_decrypt_what_they_are_about(make_app: MakeApp, origin_ca: OriginCA) -> None:
    app = await make_app("  - {name: r, match: {host: localhost, text: {prefix: x}}, action: {tcp: {replace: y}}}")
    context = ssl.create_default_context(cafile=str(app.ca))
    async with (run_origin(echo, tls=origin_ca.server_context("localhost")) as origin,
                tunnel(app, origin.port, host="localhost") as (reader, writer), asyncio.timeout(SECONDS)):
        await writer.start_tls(context, server_hostname="localhost")
        writer.write(b"xyz\n")
        assert await reader.readexactly(1) == b"y"


# --- UDP -----------------------------------------------------------------------------------------------------------


async def test_datagrams_are_changed_answered_and_dropped(make_app: MakeApp) -> None:
    app = await make_app("""
  - {name: changes, match: {host: 127.0.0.1, direction: to_server}, action: {udp: {replace: {text: a, with: b}}}}
  - {name: answers, match: {text: ping}, action: {udp: {drop: true, send: {to: client, text: pong}}}}
  - {name: ends, match: {text: end}, action: {udp: {close: true, send: {to: client, text: bye}}}}
""")
    with peer() as server, peer() as client:
        async with udp_proxy(app, server.port) as udp:
            client.send(b"banana", udp.address[1])
            data, port = await server.receive()
            assert data == b"bbnbnb"
            server.send(b"banana", port)
            assert (await client.receive())[0] == b"banana"
            client.send(b"ping", udp.address[1])
            assert (await client.receive())[0] == b"pong"
            client.send(b"end", udp.address[1])
            assert (await client.receive())[0] == b"bye"
            assert (await server.receive())[0] == b"end"
            client.send(b"more", udp.address[1])
            assert await server.hears_nothing()
    assert app.recorder.of("udp_end", "udp_error") == ["udp_end"]
