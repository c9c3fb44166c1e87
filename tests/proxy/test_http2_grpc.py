"""A real gRPC client and a real gRPC server talk through the proxy: unary, streaming both ways, errors."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.policy import TlsDecision, TlsVerdict
from tests.support.certificates import OriginCA
from tests.support.proxy import RunningProxy

pytest.importorskip("grpc", reason="needs grpcio")

MakeProxy = Callable[..., Awaitable[RunningProxy]]
PEERS = Path(__file__).parents[1] / "support" / "grpc_peers.py"
SECONDS = 30.0
EXPECTED = {
    "unary": "olleh", "trailers": {"x-trailer": "yes"}, "fail": ["FAILED_PRECONDITION", "not today: ünicode"],
    "missing": "UNIMPLEMENTED", "many": list(range(50)), "collect": "a,b,c",
    "talk": ["re: one", "re: two", "re: three"], "large": 3_000_000, "together": 100, "chat": 1500,
}


class Intercept:
    def tls_decision(self, tunnel: Any) -> TlsDecision:
        return TlsDecision(TlsVerdict.INTERCEPT)


class Looking(Intercept):
    """Wants every body whole, which never happens to gRPC: it would never end."""

    def request(self, flow: HTTPFlow) -> None:
        flow.metadata["seen"] = True

    def response(self, flow: HTTPFlow) -> None:
        flow.response.headers["x-seen"] = "1"  # type: ignore[union-attr]


@asynccontextmanager
async def grpc_server(certificate: str) -> AsyncIterator[int]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(PEERS), "server", "-", certificate, stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL)
    assert process.stdin is not None and process.stdout is not None
    try:
        async with asyncio.timeout(SECONDS):
            port = int(await process.stdout.readline())
        yield port
    finally:
        process.stdin.close()
        async with asyncio.timeout(SECONDS):
            await process.wait()


async def converse(proxy: RunningProxy, port: int, authority: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(PEERS), "client", f"localhost:{port}", proxy.address, authority,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
    async with asyncio.timeout(SECONDS):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    result: dict[str, Any] = json.loads(out)
    return result


@pytest.mark.parametrize("addon", [Intercept, Looking])
async def test_every_kind_of_call_over_tls(make_proxy: MakeProxy, origin_ca: OriginCA, addon: type) -> None:
    proxy = await make_proxy(addon())
    async with grpc_server(str(origin_ca.leaf("localhost"))) as port:
        assert await converse(proxy, port, str(proxy.ca)) == EXPECTED


async def test_every_kind_of_call_without_tls(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(Intercept())
    async with grpc_server("-") as port:
        assert await converse(proxy, port, "-") == EXPECTED
    assert {flow.request.scheme for flow in proxy.recorder.arguments("requestheaders")} == {"http"}
