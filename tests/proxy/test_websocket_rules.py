"""Message rules on real WebSocket connections, and rules that come and go while they are open."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from websockets.exceptions import ConnectionClosed

from rulesproxy.proxy.websocket.relay import RawWebSocket, WebSocket
from tests.support.app import RunningApp
from tests.support.leaks import until
from tests.support.websocket import SECONDS, run_echo, ws_connect

MakeApp = Callable[..., Awaitable[RunningApp]]

OTHER_HOST = "  - {name: other, match: {host: other.test}, action: {websocket: {drop: true}}}\n"
REDACT = ("  - {name: redact, match: {host: localhost, direction: to_server},"
          " action: {websocket: {replace: {regex: '[0-9]{4}', with: '****'}}}}\n")
BLOCK = "  - {name: no, match: {host: localhost, text: {contains: secret}}, action: {block: true}}\n"


def open_kinds(app: RunningApp) -> list[type]:
    return [type(websocket) for websocket in app.core.conversations]


async def silent(make_app: MakeApp, rules: str) -> RunningApp:
    """An app in which only rules look at messages."""
    app = await make_app(rules)
    app.recorder.listens = False
    return app


async def test_rules_edit_and_block_messages(make_app: MakeApp) -> None:
    app = await make_app(REDACT + BLOCK)
    async with run_echo() as port, ws_connect(app, port) as client:
        await client.send("card 1234")
        assert await client.recv() == "card ****"
        await client.send("a secret")
        with pytest.raises(ConnectionClosed) as caught:
            await client.recv()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1008


async def test_only_hosts_that_message_rules_name_are_read(make_app: MakeApp) -> None:
    app = await silent(make_app, OTHER_HOST)
    async with run_echo() as port, ws_connect(app, port) as client:
        assert open_kinds(app) == [RawWebSocket]
        await client.send("hi")
        assert await client.recv() == "hi"
        await app.edit(OTHER_HOST.replace("drop: true", "close: true"))  # still about another host
        await client.send("still here")
        assert await client.recv() == "still here"
    assert "websocket_start" not in app.recorder.names


async def test_new_message_rules_end_what_cannot_be_read_and_hold_after_that(make_app: MakeApp) -> None:
    app = await silent(make_app, OTHER_HOST)
    async with run_echo() as port:
        async with ws_connect(app, port) as client:
            assert open_kinds(app) == [RawWebSocket]
            await app.edit(REDACT)
            async with asyncio.timeout(SECONDS):
                await client.wait_closed()
            assert client.close_code == 1006
        async with ws_connect(app, port) as client:
            assert open_kinds(app) == [WebSocket]
            await client.send("1234")
            assert await client.recv() == "****"


async def test_messages_meet_the_rules_that_are_current(make_app: MakeApp) -> None:
    app = await silent(make_app, REDACT)
    async with run_echo() as port, ws_connect(app, port) as client:
        await client.send("1234")
        assert await client.recv() == "****"
        await app.edit(REDACT.replace("****", "####"))
        await client.send("1234")
        assert await client.recv() == "####"
        await app.edit(OTHER_HOST)
        await client.send("1234")
        assert await client.recv() == "1234"
    assert await until(lambda: not app.core.conversations)
