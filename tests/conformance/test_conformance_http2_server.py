"""h2spec's list for servers, played against the proxy's HTTP/2 server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from tests.conformance.http2_peer import Peer
from tests.conformance.http2_server_cases import SERVER_CASES
from tests.conformance.http2_steps import Http2Case, play
from tests.conformance.non_strict import HTTP2_SERVER
from tests.conformance.reach import Intercept, open_tunnel, start_tls
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
    """`http`: prior knowledge in reverse mode; `https`: ALPN in TLS in a tunnel. The origin speaks HTTP/1."""
    tls = origin_ca.server_context("localhost") if scheme == "https" else None
    async with run_origin(answering(hello), tls=tls) as origin:
        authority = f"localhost:{origin.port}"
        modes = ("regular@127.0.0.1:0",) if tls else (f"reverse:http://{authority}@127.0.0.1:0",)
        proxy = await make_proxy(Intercept(), modes=modes)

        async def one(case: Http2Case) -> Verdict:
            if tls:
                tunnel = await open_tunnel((proxy.host, proxy.port), authority)
                streams = await start_tls(tunnel, "localhost", proxy.ca, "h2")
            else:
                streams = await proxy.connect()
            peer = Peer(*streams, authority=authority, scheme=scheme)
            try:
                return await play(case, peer)
            finally:
                await peer.aclose()

        check(await run_table(SERVER_CASES, one), HTTP2_SERVER)
