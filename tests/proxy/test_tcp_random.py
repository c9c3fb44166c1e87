"""A raw conversation under random traffic: what comes out is what went in, after what handlers did with it."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from rulesproxy.addons.core_options import ProxyOptions
from rulesproxy.addons.manager import AddonManager
from rulesproxy.model.connection import Client, Server
from rulesproxy.model.tcp import TCPFlow
from rulesproxy.net.memory import MemoryStream, memory_pair
from rulesproxy.proxy.raw.tcp import TcpRelay

SECONDS = 10.0


@dataclass
class Meddler:
    """Does something with each message at random and keeps what each side has to receive."""

    chance: random.Random
    expected: dict[bool, bytearray] = field(default_factory=lambda: {True: bytearray(), False: bytearray()})
    inside: int = 0

    async def tcp_message(self, flow: TCPFlow) -> None:
        assert not self.inside
        self.inside += 1
        message = flow.messages[-1]
        match self.chance.randrange(8):
            case 0:
                message.drop()
            case 1:
                message.content = b""
            case 2:
                message.content = b"<" + message.content + b">"
            case 3:
                await asyncio.sleep(0)
            case 4 if not message.injected:
                flow.inject(b"+%d" % self.chance.randrange(100), to_client=self.chance.random() < 0.5)
        if not message.dropped:
            self.expected[message.from_client] += message.content
        self.inside -= 1


async def talk(stream: MemoryStream, chance: random.Random) -> bytes:
    """Send random pieces, finish, and read to the end."""
    received = bytearray()

    async def send() -> None:
        for _ in range(chance.randrange(20)):
            await stream.write(chance.randbytes(chance.choice((1, 2, 1000, 70_000))))
            if chance.random() < 0.5:
                await asyncio.sleep(0)
        await stream.write_eof()

    async def receive() -> None:
        while data := await stream.read(chance.choice((1000, 65536))):
            received.extend(data)
            if chance.random() < 0.2:
                await asyncio.sleep(0)

    await asyncio.gather(send(), receive())
    return bytes(received)


@pytest.mark.parametrize("seed", range(60))
async def test_both_sides_receive_what_handlers_let_through(seed: int) -> None:
    chance = random.Random(seed)
    meddler = Meddler(chance)
    addons = AddonManager(ProxyOptions())
    addons.add(meddler)
    client, left = memory_pair()
    server, right = memory_pair()
    flow: Any = TCPFlow(Client(), Server(("server.test", 1)))
    async with asyncio.timeout(SECONDS):
        relay = asyncio.create_task(TcpRelay(addons, flow, left, right, SECONDS).run())
        to_client, to_server = await asyncio.gather(talk(client, chance), talk(server, chance))
        await relay
    assert flow.error is None and not flow.outbox
    # What is injected into a direction that has finished comes too late; everything else must arrive, in order.
    assert bytes(meddler.expected[True]) == to_server
    assert bytes(meddler.expected[False]) == to_client
