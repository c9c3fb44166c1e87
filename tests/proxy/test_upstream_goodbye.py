"""Idle connections that their server ends: the proxy answers its goodbye soon, although nobody reads them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from rulesproxy.model.policy import TlsDecision, TlsVerdict
from tests.support.certificates import OriginCA
from tests.support.leaks import until
from tests.support.origin import HELLO, OriginConnection, run_origin
from tests.support.proxy import RunningProxy

MakeProxy = Callable[..., Awaitable[RunningProxy]]


class Intercept:
    """Decrypts everything."""

    def tls_decision(self, tunnel: Any) -> TlsDecision:
        return TlsDecision(TlsVerdict.INTERCEPT)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "in TLS"])
async def test_a_server_that_says_goodbye_is_answered(make_proxy: MakeProxy, origin_ca: OriginCA, tls: bool) -> None:
    """In TLS the server says it with close_notify alone, and waits for ours."""
    idle, ended = asyncio.Event(), asyncio.Event()

    async def script(connection: OriginConnection) -> None:
        await connection.read_request()
        await connection.send(HELLO)
        await idle.wait()
        connection.close()
        try:
            await connection.read_to_end()
        finally:
            ended.set()

    proxy = await make_proxy(Intercept(), record=False)
    context = origin_ca.server_context("localhost") if tls else None
    async with run_origin(script, tls=context) as origin, asyncio.timeout(10):
        result = await proxy.curl(f"{'https' if tls else 'http'}://localhost:{origin.port}/")
        assert result.text == "hello"
        assert await until(lambda: proxy.core.upstream.idle_count == 1)
        idle.set()
        assert await until(lambda: proxy.core.upstream.idle_count == 0)
        await ended.wait()
