"""Attacks on who gets which bytes: nobody gets another's answer, and no field, body or second request slips past."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable

import pytest

from tests.support.app import RunningApp
from tests.support.origin import OriginConnection, RawRequest, answering, run_origin

MakeApp = Callable[..., Awaitable[RunningApp]]

SECONDS = 10.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
NOTHING = "  - {name: nothing, match: {host: nobody.test}, action: {block: true}}\n"


def request(port: int, path: str = "/", fields: str = "", method: str = "GET") -> bytes:
    return f"{method} http://127.0.0.1:{port}{path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{fields}\r\n".encode()


def naive(raw: RawRequest) -> bytes:
    """What any server does: the body of GET, and none for HEAD, under the same fields."""
    body = b"path=" + raw.target
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    return head if raw.method == b"HEAD" else head + body


# --- rules that change the method ----------------------------------------------------------------------------------

@pytest.mark.parametrize(("sent", "becomes"), [("GET", "HEAD"), ("HEAD", "GET"), ("GET", "POST"),
                                               ("POST", "HEAD")])
async def test_a_changed_method_does_not_change_where_the_answer_ends(make_app: MakeApp, sent: str,
                                                                     becomes: str) -> None:
    app = await make_app(f"  - {{name: m, match: {{path: /changed}}, action: {{rewrite: {{method: {becomes}}}}}}}\n")
    async with run_origin(answering(naive)) as origin:
        fields = "Content-Length: 0\r\n" if sent == "POST" else ""
        both = request(origin.port, "/changed", fields, sent) + request(origin.port, "/next", "Connection: close\r\n")
        answers = await app.talk(both)
        first, _, rest = answers.partition(b"\r\n\r\n")
        if first.startswith(b"HTTP/1.1 200"):
            length = next((int(line.split(b":")[1]) for line in first.split(b"\r\n")
                           if line.lower().startswith(b"content-length:")), 0)
            assert (rest if sent == "HEAD" else rest[length:]).startswith(b"HTTP/1.1 200 ")
        assert answers.endswith(b"path=/next") or answers.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("status", [204, 304])
async def test_a_changed_status_does_not_leave_a_body_behind(make_app: MakeApp, status: int) -> None:
    app = await make_app(f"  - {{name: s, match: {{path: /changed}}, action: {{rewrite: {{status: {status}}}}}}}\n")
    async with run_origin(answering(naive)) as origin:
        answers = await app.talk(request(origin.port, "/changed") + request(origin.port, "/n", "Connection: close\r\n"))
        assert answers.startswith(b"HTTP/1.1 %d " % status)
        assert answers.partition(b"\r\n\r\n")[2].startswith(b"HTTP/1.1 200 ")
        assert b"path=/changed" not in answers


# --- fields ----------------------------------------------------------------------------------------------------

async def test_a_client_cannot_take_away_what_a_rule_sets(make_app: MakeApp) -> None:
    app = await make_app("  - name: mark\n    action: {rewrite: {headers: {set: {x-env: staging, x-two: b}}}}\n")
    async with run_origin(OK) as origin:
        await app.talk(request(origin.port, fields="Connection: close, X-Env, x-two\r\nx-env: staging\r\n"))
        assert origin.requests[0].values(b"x-env") == [b"staging"]
        assert origin.requests[0].values(b"x-two") == [b"b"]


async def test_an_origin_cannot_take_away_what_a_rule_sets(make_app: MakeApp) -> None:
    app = await make_app("  - name: mark\n    action: {rewrite: {response_headers: {set: {x-guard: 'on'}}}}\n")
    async with run_origin(OK.replace(b"\r\n\r\n", b"\r\nConnection: x-guard\r\nX-Guard: on\r\n\r\n")) as origin:
        answer = await app.talk(request(origin.port, fields="Connection: close\r\n"))
        assert b"x-guard: on\r\n" in answer.lower()


async def test_rules_do_not_see_a_field_that_the_origin_will_not_get(make_app: MakeApp) -> None:
    app = await make_app("  - {name: g, match: {headers: {x-pass: {absent: true}}}, action: {block: {status: 403}}}\n")
    async with run_origin(OK) as origin:
        answer = await app.talk(request(origin.port, fields="Connection: close, x-pass\r\nx-pass: 1\r\n"))
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert not origin.requests


# --- upgrades --------------------------------------------------------------------------------------------------

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


@pytest.mark.parametrize("fields", [
    "Upgrade: websocket\r\n",  # without Connection it is not passed on
    "Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
    "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n",
    "Connection: Upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n",
])
async def test_an_upgrade_that_was_not_passed_on_opens_no_tunnel(make_app: MakeApp, fields: str) -> None:
    async def switch(connection: OriginConnection) -> None:
        await connection.read_head()
        await connection.send(SWITCH)
        await connection.read_to_end()

    app = await make_app(NOTHING)
    async with run_origin(switch) as origin:
        data = request(origin.port, fields=fields) + request(origin.port, "/smuggled", "Host: x\r\n")
        answer = await app.talk(data)
        assert answer.startswith((b"HTTP/1.1 502 ", b"HTTP/1.1 400 "))
        assert b"smuggled" not in origin.received


async def test_a_websocket_to_a_blocked_path_is_blocked(make_app: MakeApp) -> None:
    app = await make_app("  - {name: b, match: {path: /ws/**}, action: {block: true}}\n")
    async with run_origin(OK) as origin:
        fields = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n"
        assert (await app.talk(request(origin.port, "/%77s/chat", fields))).startswith(b"HTTP/1.1 403 ")
        assert not origin.connections


# --- origins that misbehave ------------------------------------------------------------------------------------

FIRST = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst"
POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"


@pytest.mark.parametrize("answer", [
    FIRST + POISON,
    b"HTTP/1.1 204 No Content\r\nContent-Length: 50\r\n\r\n" + POISON,
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 50\r\n\r\n" + POISON,
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nfirst" + POISON,
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + POISON,
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 9\r\n\r\n" + POISON,
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + POISON,
    b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nfirst" + POISON,
    b"HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nfirst" + POISON,
    b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + POISON,
    b"HTTP/1.1 103 Early Hints\r\n\r\n" * 200 + POISON,
    b"HTTP/0.9 200 OK\r\n\r\n" + POISON,
    b"\r\n\r\n" + FIRST + POISON,
], ids=range(13))
async def test_what_follows_an_answer_reaches_nobody(make_app: MakeApp, answer: bytes) -> None:
    app = await make_app(NOTHING)
    async with run_origin(answering(answer)) as bad, run_origin(OK) as good:
        first = await app.talk(request(bad.port) + request(good.port, "/two", "Connection: close\r\n"))
        assert b"poison" not in first
        assert first.endswith(b"ok") or b"Connection: close" in first
        assert b"poison" not in await app.talk(request(bad.port, "/other"))
        assert all(len(connection.requests) == 1 for connection in bad.connections)


async def test_an_answer_to_head_with_a_body_reaches_nobody(make_app: MakeApp) -> None:
    app = await make_app(NOTHING)
    async with run_origin(answering(FIRST + POISON, OK)) as origin:
        reader, writer = await app.connect()
        async with asyncio.timeout(SECONDS):
            writer.write(request(origin.port, method="HEAD") + request(origin.port, "/2", "Connection: close\r\n"))
            answers = await reader.read()
        writer.close()
        assert b"poison" not in answers
        assert b"first" not in answers.partition(b"\r\n\r\n")[2][:5]


async def test_many_clients_get_their_own_answers(make_app: MakeApp) -> None:
    app = await make_app("  - {name: m, match: {path: /m/**}, action: {respond: {body: \"mock ${request.path}\"}}}\n"
                         "  - {name: h, match: {path: /h/**}, action: {rewrite: {method: HEAD}}}\n"
                         "  - name: b\n    match: {path: /b/**}\n    action:\n      rewrite:\n"
                         "        response_body: {replace: [{text: path, with: PATH}]}\n")
    async with run_origin(answering(naive)) as origin:
        async def client(number: int) -> None:
            reader, writer = await app.connect()
            paths = [f"/{'mhbx'[turn % 4]}/{number}-{turn}" for turn in range(40)]
            writer.write(b"".join(request(origin.port, path) for path in paths))
            for path in paths:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                body = (await reader.readexactly(length)).decode()
                expected = {"m": f"mock {path}", "h": "", "b": f"PATH={path}", "x": f"path={path}"}[path[1]]
                assert body == expected
            writer.close()

        async with asyncio.timeout(SECONDS):
            await asyncio.gather(*(client(number) for number in range(16)))


# --- bodies without end ----------------------------------------------------------------------------------------

READS = ("  - name: reads\n    match: {path: /read}\n    action:\n"
         "      rewrite: {body: {replace: [{text: secret, with: x}]}}\n"
         "  - name: edits\n    match: {path: /edit}\n    action:\n"
         "      rewrite: {response_body: {replace: [{text: secret, with: x}]}}\n")


async def test_a_bomb_is_not_unpacked(make_app: MakeApp) -> None:
    bomb = gzip.compress(bytes(50 * 1024 * 1024), 9)
    bomb = gzip.compress(b"secret") + bomb
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    app = await make_app(READS)
    async with run_origin(head + bomb) as origin:
        answer = await app.talk(request(origin.port, "/edit", "Accept-Encoding: gzip\r\nConnection: close\r\n"))
        assert answer.endswith(bomb) or answer.startswith(b"HTTP/1.1 502")


async def test_an_endless_body_is_not_collected(make_app: MakeApp) -> None:
    async def endless(connection: OriginConnection) -> None:
        await connection.read_head()
        await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(64):
            await connection.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        await connection.read_to_end()

    app = await make_app(READS, rule_body_limit=1 << 20)
    async with run_origin(endless) as origin:
        reader, writer = await app.connect()
        async with asyncio.timeout(SECONDS):
            writer.write(request(origin.port, "/edit"))
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            await reader.readexactly(2 << 20)
        writer.close()
