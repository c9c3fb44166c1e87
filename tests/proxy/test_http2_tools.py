"""HTTP/2 with the tools people use: curl, nginx, h2load, and a proxy that asks who they are."""

from __future__ import annotations

import base64
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from rulesproxy.model.policy import TlsDecision, TlsVerdict
from tests.support.certificates import OriginCA
from tests.support.http2 import http2_to_proxy, run_http2_origin
from tests.support.origin import run_origin
from tests.support.proxy import RunningProxy
from tests.support.tools import run_tool

MakeProxy = Callable[..., Awaitable[RunningProxy]]


class Intercept:
    def tls_decision(self, tunnel: Any) -> TlsDecision:
        return TlsDecision(TlsVerdict.INTERCEPT)


@pytest.mark.parametrize("version", ["--http1.1", "--http2", "--http2-prior-knowledge"])
async def test_curl_in_every_version(make_proxy: MakeProxy, origin_ca: OriginCA, version: str) -> None:
    proxy = await make_proxy(Intercept())
    context = origin_ca.server_context("localhost", alpn=("h2", "http/1.1"))
    async with run_http2_origin(tls=context) as origin:
        done = await proxy.curl(version, "-w", " %{http_version}", f"https://localhost:{origin.port}/")
        assert done.text == f"hello {'1.1' if version == '--http1.1' else '2'}"


async def test_h2load_through_a_reverse_listener(make_proxy: MakeProxy) -> None:
    async with run_http2_origin() as origin:
        proxy = await make_proxy(modes=(f"reverse:http://127.0.0.1:{origin.port}@127.0.0.1:0",), record=False)
        done = await run_tool("h2load", "-n", "400", "-c", "4", "-m", "20", f"http://{proxy.address}/")
        assert re.search(r"400 succeeded, 0 failed, 0 errored", done.text), done.text
        assert len(origin.connections) <= 4


async def test_credentials_are_asked_for_stream_by_stream(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(proxy_auth="ann:secret")
    token = base64.b64encode(b"ann:secret").decode()
    async with run_origin() as origin, http2_to_proxy(proxy) as client:
        place = f"127.0.0.1:{origin.port}"
        refused = await client.get(scheme="http", authority=place)
        assert refused.status == "407" and refused.head["proxy-authenticate"].startswith("Basic ")
        allowed = await client.get(scheme="http", authority=place, fields=[("proxy-authorization", f"Basic {token}")])
        assert (allowed.status, allowed.body) == ("200", b"hello")
        assert not origin.requests[0].values(b"proxy-authorization")
    (flow,) = proxy.recorder.arguments("request")
    assert flow.client_conn.user == "ann"
