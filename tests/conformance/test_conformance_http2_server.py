"""h2spec's list for servers, played against the proxy's HTTP/2 server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from tests.conformance.http2_peer import Peer
from tests.conformance.http2_server_cases import SERVER_CASES
from tests.conformance.http2_steps import Http2Case, play
from tests.conformance.non_strict import HTTP2_SERVER
from tests.conformance.reach import open_tunnel, start_tls
from tests.conformance.verdicts import Verdict, check, run_table
from tests.support.certificates import OriginCA
from tests.support.origin import RawRequest, answering, run_origin
from tests.support.proxy import RunningProxy

BODY = b"hello world"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(BODY)


def hello(request: RawRequest) -> bytes:
    return HEAD if request.method == b"HEAD" else HEAD + BODY


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_the_server_passes_every_case_of_the_list(
        make_proxy: Callable[..., Awaitable[RunningProxy]], origin_ca: OriginCA, scheme: str) -> None:
    """`http`: prior knowledge in a tunnel; `https`: ALPN inside TLS inside a tunnel. The origin speaks HTTP/1."""
    proxy = await make_proxy()
    tls = origin_ca.server_context("localhost") if scheme == "https" else None
    async with run_origin(answering(hello), tls=tls) as origin:
        authority = f"localhost:{origin.port}"

        async def one(case: Http2Case) -> Verdict:
            streams = await open_tunnel((proxy.host, proxy.port), authority)
            if scheme == "https":
                streams = await start_tls(streams, "localhost", proxy.ca, "h2")
            peer = Peer(*streams, authority=authority, scheme=scheme)
            try:
                return await play(case, peer)
            finally:
                await peer.aclose()

        check(await run_table(SERVER_CASES, one), HTTP2_SERVER)
