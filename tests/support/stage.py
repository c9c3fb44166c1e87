"""A core with an upstream pool, and the few steps of an exchange that the pool sees."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from rulesproxy.addons.manager import AddonManager
from rulesproxy.addons.options import Options
from rulesproxy.certs.authority import Authority
from rulesproxy.model.connection import Client
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.http import Request, Response
from rulesproxy.net.resolve import SystemResolver
from rulesproxy.proxy.core import Core
from rulesproxy.proxy.upstream.connection import UpstreamConnection
from rulesproxy.proxy.upstream.pool import UpstreamPool
from rulesproxy.proxy.upstream.target import Target, UpstreamError

SECONDS = 10.0


def here(port: int, **changes: Any) -> Target:
    return Target("127.0.0.1", port, **changes)


class Stage:
    """Give it addons and limits; every acquire and exchange is bounded in time."""

    def __init__(self, authority: Authority, **limits: Any) -> None:
        self.addons = AddonManager(Options())
        self.core = Core(self.addons, authority, SystemResolver())
        self.core.settings.connect_timeout = self.core.settings.tls_timeout = 3.0
        self.pool = self.core.upstream = UpstreamPool(self.core, **limits)
        self.clients = 0

    def client(self) -> Client:
        self.clients += 1
        return Client(peername=("127.0.0.1", self.clients))

    def flow(self, client: Client | None = None, **headers: str) -> HTTPFlow:
        client = client or self.client()
        flow = HTTPFlow(client, None)  # type: ignore[arg-type]
        flow.request = Request.make("GET", "http://origin.test/", headers=headers)
        flow.response = Response.make(200)
        return flow

    async def acquire(self, target: Target, flow: HTTPFlow | None = None, **options: Any) -> UpstreamConnection:
        async with asyncio.timeout(SECONDS):
            return await self.pool.acquire(flow or self.flow(), target, **options)

    async def exchange(self, target: Target, flow: HTTPFlow | None = None) -> UpstreamConnection:
        """One request, its answer read to the end, the connection given back."""
        flow = flow or self.flow()
        connection = await self.acquire(target, flow)
        await self.converse(connection)
        self.pool.release(connection, True, flow)
        return connection

    async def converse(self, connection: UpstreamConnection) -> None:
        async with asyncio.timeout(SECONDS):
            await connection.stream.write(b"GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n")
            receiver = connection.receiver
            while (head := receiver.next_response("GET")) is None:
                receiver.feed(await connection.stream.read())
            left = head.framing.length
            while left:
                piece = receiver.next_body()
                if isinstance(piece, bytes):
                    left -= len(piece)
                elif piece is None:
                    receiver.feed(await connection.stream.read())
            receiver.next_body()

    async def failure(self, target: Target, flow: HTTPFlow | None = None) -> UpstreamError:
        with pytest.raises(UpstreamError) as caught:
            await self.acquire(target, flow)
        return caught.value
