"""Attacks over WebSocket and raw TCP: requests smuggled behind an upgrade, messages that dodge rules, floods."""

from __future__ import annotations

import asyncio
import struct
import time
import zlib
from collections.abc import Awaitable, Callable

import pytest

from tests.support.app import RunningApp
from tests.support.leaks import until
from tests.support.origin import OriginConnection, RawRequest, answering, run_origin
from tests.support.proxy import RunningProxy
from tests.support.tunnels import tunnel
from tests.support.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    RawEnd,
    frame,
    handshake_answer,
    handshake_request,
    raw_client,
    raw_server,
    xor,
)

MakeApp = Callable[..., Awaitable[RunningApp]]
MakeProxy = Callable[..., Awaitable[RunningProxy]]
SECONDS = 10.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

BLOCK = "  - {name: guard, match: {path: /admin/**}, action: {block: {status: 403}}}\n"
SECRET = ("  - name: censor\n    match: {direction: to_server, text: {contains: secret}}\n"
          "    action: {websocket: {drop: true}}\n")
HEX = "73 65 63 72 65 74"
NOTHING = "  - {name: nothing, match: {host: nobody.test}, action: {block: true}}\n"


def hidden(port: int) -> bytes:
    return f"GET http://127.0.0.1:{port}/admin HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()


# --- upgrades that are none --------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [
    handshake_answer(accept="wrong"), handshake_answer(accept=""),
    handshake_answer().replace(b"Upgrade: websocket", b"Upgrade: h2c"),
    handshake_answer().replace(b"Connection: Upgrade", b"Connection: close"),
    handshake_answer().replace(b"Connection: Upgrade\r\n", b""),
    handshake_answer(fields="Sec-WebSocket-Protocol: unasked\r\n"),
    handshake_answer(fields="Sec-WebSocket-Extensions: permessage-deflate\r\n"),
    handshake_answer(fields="Sec-WebSocket-Accept: again\r\n"),
    b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n" + OK,
], ids=range(12))
async def test_what_follows_a_refused_upgrade_is_judged(make_app: MakeApp, answer: bytes) -> None:
    """The client believes in a tunnel, or pretends to; what it sends is a request, to us and to the origin."""
    app = await make_app(BLOCK)
    async with run_origin(answer) as origin:
        answers = await app.talk(handshake_request(origin.port) + hidden(origin.port))
        assert b"HTTP/1.1 101 " not in answers
        assert answers.count(b"HTTP/1.1 403 ") == (0 if answers.startswith(b"HTTP/1.1 502 ") and
                                                   answers.count(b"HTTP/1.1 ") == 1 else 1)
        assert b"/admin" not in origin.received


@pytest.mark.parametrize("fields", [
    "Content-Length: 10\r\n", "Transfer-Encoding: chunked\r\n", "Expect: 100-continue\r\nContent-Length: 3\r\n"])
async def test_an_upgrade_with_a_body_is_none(make_app: MakeApp, fields: str) -> None:
    app = await make_app(BLOCK)

    async def agree(connection: OriginConnection) -> None:
        await connection.read_head()
        await connection.send(handshake_answer())
        await connection.read_to_end()

    async with run_origin(agree) as origin:
        answers = await app.talk(handshake_request(origin.port, fields) + b"0\r\n\r\n" + hidden(origin.port))
        assert b"HTTP/1.1 101 " not in answers
        assert b"GET /admin" not in origin.received and b"/admin HTTP" not in origin.received


async def test_frames_before_the_answer_wait_for_it(make_app: MakeApp) -> None:
    """Until the server has agreed they are no frames, and it gets none of them."""
    app = await make_app(SECRET)
    early: list[bytes] = []

    async def slow(connection: OriginConnection) -> None:
        head = await connection.read_head()
        await asyncio.sleep(0.2)
        early.append(connection.received.partition(b"\r\n\r\n")[2])
        await connection.send(handshake_answer(head.values(b"sec-websocket-key")[0]))
        end = RawEnd(connection.read_exactly, connection.send, masks=False)
        while (got := await end.receive())[0] != CLOSE:
            await end.send_frame(*got)

    async with run_origin(slow) as origin, raw_client(
            app, origin.port, then=frame(TEXT, b"a secret") + frame(TEXT, b"fine")) as client:
        assert await client.receive() == (TEXT, b"fine")
        assert early == [b""]


async def test_a_connection_that_was_upgraded_is_not_used_again(make_app: MakeApp) -> None:
    app = await make_app(NOTHING)

    async def agree(connection: OriginConnection) -> None:
        head = await connection.read_request()
        if head.values(b"upgrade"):
            await connection.send(handshake_answer() + frame(TEXT, OK, mask=False))
            await connection.read_to_end()
        await connection.send(OK)
        await connection.read_to_end()

    async with run_origin(agree) as origin:
        async with raw_client(app, origin.port) as client:
            assert await client.receive() == (TEXT, OK)
        plain = f"GET http://127.0.0.1:{origin.port}/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        assert (await app.talk(plain)).endswith(b"ok")
        assert len(origin.connections) == 2


async def test_a_path_is_blocked_before_it_is_upgraded(make_app: MakeApp) -> None:
    app = await make_app(BLOCK)
    async with run_origin(OK) as origin:
        for path in ("/admin/ws", "//admin", "/%61dmin/x", "/x/../admin"):
            assert (await app.talk(handshake_request(origin.port, path=path))).startswith(b"HTTP/1.1 403 ")
        assert not origin.connections


# --- messages that dodge rules -----------------------------------------------------------------------------------


def deflated(payload: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return (stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


TEXT_SECRET = b"a secret"
DISGUISES: dict[str, bytes] = {
    "whole": frame(TEXT, TEXT_SECRET),
    "binary": frame(BINARY, TEXT_SECRET),
    "in two": frame(TEXT, b"a sec", fin=False) + frame(CONTINUATION, b"ret"),
    "byte by byte": frame(TEXT, b"a", fin=False) + b"".join(
        frame(CONTINUATION, bytes([byte]), fin=False) for byte in TEXT_SECRET[1:]) + frame(CONTINUATION),
    "with pings between": frame(TEXT, b"a sec", fin=False) + frame(PING, b"x") + frame(CONTINUATION, b"ret"),
    "with empty pieces": frame(TEXT, fin=False) + frame(CONTINUATION, fin=False) * 50
                         + frame(CONTINUATION, TEXT_SECRET),
    "a long length": bytes([0x81, 0xFE, 0, 8]) + b"\1\2\3\4" + xor(TEXT_SECRET, b"\1\2\3\4"),
    "deflated": frame(TEXT, deflated(TEXT_SECRET), rsv=4),
    "deflated in two": frame(TEXT, deflated(TEXT_SECRET)[:4], rsv=4, fin=False)
                       + frame(CONTINUATION, deflated(TEXT_SECRET)[4:]),
    "deflated and ended": frame(TEXT, zlib.compress(TEXT_SECRET, wbits=-15), rsv=4),
    "deflated twice": frame(TEXT, zlib.compress(b"a sec", wbits=-15) + zlib.compress(b"ret", wbits=-15), rsv=4),
    "not UTF-8": frame(TEXT, b"a secret\xff"),
    "half a character": frame(TEXT, b"a secret\xe2\x82", fin=False) + frame(CONTINUATION, b"x"),
    "a bit of nobody's": frame(TEXT, TEXT_SECRET, rsv=2),
    "a bit in the second piece": frame(TEXT, b"a sec", fin=False) + frame(CONTINUATION, b"ret", rsv=4),
    "a reserved kind": frame(3, TEXT_SECRET),
    "a reserved control": frame(11, TEXT_SECRET),
    "a message within a message": frame(TEXT, b"x", fin=False) + frame(TEXT, TEXT_SECRET),
    "a continuation of nothing": frame(CONTINUATION, TEXT_SECRET),
    "without a mask": frame(TEXT, TEXT_SECRET, mask=False),
    "a ping in pieces": frame(PING, TEXT_SECRET, fin=False),
    "a ping too long": frame(PING, TEXT_SECRET * 20),
    "a length too long": bytes([0x81, 0xFF]) + struct.pack("!Q", 1 << 63) + b"\1\2\3\4" + TEXT_SECRET,
}


@pytest.mark.parametrize("slow", [False, True], ids=["at once", "byte by byte"])
@pytest.mark.parametrize("disguise", list(DISGUISES))
async def test_no_message_dodges_a_rule(make_app: MakeApp, disguise: str, slow: bool) -> None:
    app = await make_app(SECRET + SECRET.replace("censor", "bytes").replace("text", "bytes").replace("secret", HEX))
    messages: list[bytes] = []

    async def server(end: RawEnd, connection: OriginConnection) -> None:
        while True:
            opcode, payload, first = await end.receive_frame()
            messages.append(zlib.decompress(payload + b"\0\0\xff\xff", wbits=-15) if first & 0x40 else payload)
            if opcode == CLOSE:
                await end.send_close()
                return

    fields = "Sec-WebSocket-Extensions: permessage-deflate\r\n"
    agreed = "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover\r\n"
    async with run_origin(raw_server(server, agreed)) as origin, raw_client(app, origin.port, fields) as client:
        data = DISGUISES[disguise] + frame(TEXT, b"fine")
        for piece in (data[at:at + 1] for at in range(len(data))) if slow else [data]:
            client.writer.write(piece)
            await asyncio.sleep(0)
        await client.send_close()
        async with asyncio.timeout(SECONDS):
            await client.reader.read()
        assert await until(lambda: bool(messages))
    assert not any(b"secret" in message for message in messages), messages


async def test_an_extension_agreed_on_before_the_rule_does_not_hide_what_comes_after(make_app: MakeApp) -> None:
    """The rule comes while the handshake is under way: its messages could not be read."""
    app = await make_app(NOTHING, record=False)
    asked, edited = asyncio.Event(), asyncio.Event()

    async def server(connection: OriginConnection) -> None:
        head = await connection.read_head()
        asked.set()
        await edited.wait()
        await connection.send(handshake_answer(head.values(b"sec-websocket-key")[0],
                                               "Sec-WebSocket-Extensions: x-secret\r\n"))
        await connection.read_to_end()

    async with run_origin(server) as origin:
        reader, writer = await app.connect()
        async with asyncio.timeout(SECONDS):
            writer.write(handshake_request(origin.port, "Sec-WebSocket-Extensions: x-secret\r\n"))
            await asked.wait()
            await app.edit(SECRET)
            edited.set()
            try:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(frame(TEXT, TEXT_SECRET))
                await reader.read()
            except (ConnectionError, EOFError):
                pass  # as it should be
        writer.close()
        assert origin.received.endswith(b"\r\n\r\n")


# --- floods ------------------------------------------------------------------------------------------------------


async def read_nothing(end: RawEnd, connection: OriginConnection) -> None:
    await asyncio.sleep(SECONDS)


@pytest.mark.parametrize("flood", ["pings", "pongs", "empty messages", "empty pieces", "messages"])
async def test_who_floods_a_slow_reader_is_held_up(make_app: MakeApp, flood: str) -> None:
    app = await make_app(SECRET)
    piece = {"pings": frame(PING, bytes(125)), "pongs": frame(PONG, bytes(125)),
             "empty messages": frame(BINARY), "empty pieces": frame(CONTINUATION, fin=False),
             "messages": frame(BINARY, bytes(60000))}[flood]
    limit = 2000 if flood.startswith("empty") else (40 << 20) // len(piece)
    sent = 0

    async with run_origin(raw_server(read_nothing)) as origin, raw_client(app, origin.port) as client:
        before = resident()
        if flood == "empty pieces":
            client.writer.write(frame(BINARY, fin=False))
        try:
            async with asyncio.timeout(2.0):
                for _ in range(limit // 100):
                    client.writer.write(piece * 100 if len(piece) < 1000 else piece)
                    await client.writer.drain()
                    sent += len(piece)
        except TimeoutError:
            pass
        assert resident() - before < 32 << 20
        client.writer.transport.abort()
    assert sent


def resident() -> int:
    """Bytes of memory of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


@pytest.mark.parametrize("bomb", ["large", "endless", "streams", "many"])
async def test_bombs_do_not_go_off(make_app: MakeApp, bomb: str) -> None:
    app = await make_app(SECRET, websocket_message_limit=1 << 20)
    stream = zlib.compressobj(9, wbits=-15)
    large = stream.compress(bytes(64 << 20)) + stream.flush(zlib.Z_SYNC_FLUSH)
    data = {"large": frame(BINARY, large[:-4], rsv=4),
            "endless": frame(BINARY, large, rsv=4, fin=False) + frame(CONTINUATION, large, fin=False) * 20,
            "streams": frame(BINARY, b"\x03\x00" * 100_000, rsv=4),
            "many": frame(BINARY, fin=False) + frame(CONTINUATION, bytes(65536), fin=False) * 100}[bomb]
    fields = "Sec-WebSocket-Extensions: permessage-deflate\r\n"
    async with run_origin(raw_server(read_nothing, fields)) as origin, raw_client(app, origin.port, fields) as client:
        before, began = resident(), time.process_time()
        client.writer.write(data)
        code, _ = await client.receive_close()
        assert code == (1007 if bomb == "streams" else 1009)
        assert resident() - before < 32 << 20
        assert time.process_time() - began < 1.0
        client.writer.transport.abort()


@pytest.mark.parametrize("size", [1 << 20, 1 << 40, (1 << 63) - 1])
async def test_a_length_is_believed_only_as_far_as_it_may_be(make_app: MakeApp, size: int) -> None:
    app = await make_app(SECRET, websocket_message_limit=65536)
    async with run_origin(raw_server(read_nothing)) as origin, raw_client(app, origin.port) as client:
        client.writer.write(bytes([0x82, 0xFF]) + struct.pack("!Q", size) + b"\1\2\3\4")
        assert (await client.receive_close())[0] == 1009


# --- answers to somebody else ------------------------------------------------------------------------------------


async def test_a_pool_stays_in_step_after_upgrades_and_aborts(make_app: MakeApp) -> None:
    def answer(raw: RawRequest) -> bytes:
        if raw.values(b"upgrade"):
            return handshake_answer(raw.values(b"sec-websocket-key")[0]) + frame(TEXT, OK, mask=False)
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(raw.target), raw.target)

    app = await make_app(NOTHING)
    async with run_origin(answering(answer)) as origin:
        async def client(number: int) -> None:
            for turn in range(20):
                reader, writer = await app.connect()
                path = f"/{number}-{turn}"
                match turn % 4:
                    case 0:
                        writer.write(handshake_request(origin.port, path=path) + frame(TEXT, hidden(origin.port)))
                        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
                    case 1:
                        writer.write(f"GET http://127.0.0.1:{origin.port}/left HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                        await asyncio.sleep(0.001)
                        writer.transport.abort()
                        continue
                    case _:
                        for again in range(3):
                            target = f"{path}-{again}"
                            writer.write(f"GET http://127.0.0.1:{origin.port}{target} HTTP/1.1\r\n"
                                         f"Host: x\r\n\r\n".encode())
                            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
                            assert await reader.readexactly(len(target)) == target.encode()
                writer.close()

        async with asyncio.timeout(3 * SECONDS):
            await asyncio.gather(*(client(number) for number in range(8)))


# --- tunnels -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [20, 400])
async def test_tunnels_in_tunnels_come_to_an_end(make_app: MakeApp, count: int,
                                                 caplog: pytest.LogCaptureFixture) -> None:
    app = await make_app(NOTHING)
    answers = await app.talk(b"CONNECT a.test:80 HTTP/1.1\r\nHost: a.test\r\n\r\n" * count)
    assert answers.count(b"HTTP/1.1 200 ") == 8
    assert b"HTTP/1.1 403 " in answers
    assert not [record for record in caplog.records if record.exc_info]


async def test_rules_for_raw_messages_see_what_one_read_brings(make_app: MakeApp) -> None:
    """Documented: who sends byte by byte dodges them. What arrives together is seen together."""
    app = await make_app("  - name: censor\n    match: {direction: to_server, bytes: {contains: " + HEX + "}}\n"
                         "    action: {tcp: {drop: true}}\n")

    async def script(connection: OriginConnection) -> None:
        await connection.read_to_end()

    async with run_origin(script) as origin:
        async with tunnel(app, origin.port) as (_, writer):
            writer.write(b"\0one secret")
            await writer.drain()
            await asyncio.sleep(0.1)
            writer.write(b"\0two")
            writer.write_eof()
            await origin.wait_for_connections(1)
            await origin.connections[0].ended.wait()
        assert origin.received == b"\0two"
