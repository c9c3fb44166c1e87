"""h2spec's list for clients, played against the proxy's HTTP/2 client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tests.conformance.http2_client_cases import CLIENT_CASES
from tests.conformance.http2_peer import Peer
from tests.conformance.http2_steps import Http2Case, play
from tests.conformance.non_strict import HTTP2_CLIENT
from tests.conformance.raw_origin import raw_origin
from tests.conformance.reach import SECONDS, Intercept, Streams, open_tunnel, start_tls
from tests.conformance.verdicts import Unmet, Verdict, check, run_table
from tests.support.certificates import OriginCA
from tests.support.proxy import RunningProxy

REQUEST = "GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n"


async def test_the_client_passes_every_case_of_the_list(
        make_proxy: Callable[..., Awaitable[RunningProxy]], origin_ca: OriginCA) -> None:
    """The origin takes h2 by ALPN; whoever asks the proxy speaks HTTP/1 and always gets an end."""
    proxy = await make_proxy(Intercept())
    tls = origin_ca.server_context("localhost", alpn=("h2",))

    async def one(case: Http2Case) -> Verdict:
        async def script(streams: Streams) -> Verdict:
            peer = Peer(*streams)
            try:
                return await play(case, peer)
            finally:
                await peer.aclose()

        async with raw_origin(script, tls=tls) as origin:
            authority = f"localhost:{origin.port}"
            tunnel = await open_tunnel((proxy.host, proxy.port), authority)
            reader, writer = await start_tls(tunnel, "localhost", proxy.ca, "http/1.1")
            try:
                writer.write(REQUEST.format(authority).encode())
                verdict = await origin.result
                await _end_of_answer(reader)
            finally:
                writer.close()
        return verdict

    check(await run_table(CLIENT_CASES, one), HTTP2_CLIENT)


async def _end_of_answer(reader: asyncio.StreamReader) -> None:
    try:
        async with asyncio.timeout(SECONDS):
            while await reader.read(65536):
                pass
    except TimeoutError:
        raise Unmet("an end of the answer for the proxy's client", "silence") from None
    except OSError:
        pass  # a cut is an end, too
