"""Autobahn's list for WebSocket, played against the proxy: by a client before it and by a server behind it.

With a handler for messages the proxy reads every frame and both of its codecs meet the violations; without one it
relays bytes, and what is judged is that nothing is lost or added.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import pytest

from rulesproxy.model.flow import HTTPFlow
from tests.conformance.autobahn_cases import PROTOCOL_CASES
from tests.conformance.autobahn_volume_cases import COMPRESSION_CASES, LARGE_CASES
from tests.conformance.echo_ends import echo_server, running_client
from tests.conformance.non_strict import FAR_END, WEBSOCKET
from tests.conformance.raw_origin import raw_origin
from tests.conformance.reach import Streams, open_tunnel
from tests.conformance.verdicts import Verdict, check, run_table
from tests.conformance.websocket_peer import Peer
from tests.conformance.websocket_steps import WebSocketCase, play
from tests.support.proxy import RunningProxy

MakeProxy = Callable[..., Awaitable[RunningProxy]]
#: A case of the volume chapters may take its time on a busy machine.
CASE_SECONDS = 60.0
TABLES = pytest.mark.parametrize("cases", [
    pytest.param(PROTOCOL_CASES, id="protocol"), pytest.param(LARGE_CASES, id="large", marks=pytest.mark.slow),
    pytest.param(COMPRESSION_CASES, id="compression", marks=pytest.mark.slow)])


class Reader:
    """A handler that looks at every message: it makes the proxy read them."""

    def __init__(self) -> None:
        self.seen = 0

    def websocket_message(self, flow: HTTPFlow) -> None:
        self.seen += 1


async def play_as_client(proxy: RunningProxy, cases: Sequence[WebSocketCase], non_strict: dict[str, str]) -> None:
    """The case is a client of the proxy, an echo server is behind it."""
    async with echo_server() as port:
        authority = f"127.0.0.1:{port}"

        async def one(case: WebSocketCase) -> Verdict:
            peer = Peer(await open_tunnel((proxy.host, proxy.port), authority), client=True)
            try:
                await peer.open(authority, case.offers)
                return await play(case, peer)
            finally:
                await peer.aclose()

        check(await run_table(cases, one, seconds=CASE_SECONDS), non_strict)


async def play_as_server(proxy: RunningProxy, cases: Sequence[WebSocketCase], non_strict: dict[str, str]) -> None:
    """The case is a server behind the proxy, an echo client is in front."""

    async def one(case: WebSocketCase) -> Verdict:
        async def script(streams: Streams) -> Verdict:
            peer = Peer(streams, client=False)
            try:
                await peer.answer(case.accepts)
                return await play(case, peer)
            finally:
                await peer.aclose()

        async with (raw_origin(script) as origin,
                    running_client(f"ws://127.0.0.1:{origin.port}/", f"http://{proxy.address}",
                                   compress=bool(case.accepts))):
            return await origin.result

    check(await run_table(cases, one, seconds=CASE_SECONDS), non_strict)


@TABLES
async def test_the_proxy_reads_what_a_client_sends(make_proxy: MakeProxy, cases: Sequence[WebSocketCase]) -> None:
    reader = Reader()
    await play_as_client(await make_proxy(reader), cases, WEBSOCKET)
    assert reader.seen > 0


@TABLES
async def test_the_proxy_reads_what_a_server_sends(make_proxy: MakeProxy, cases: Sequence[WebSocketCase]) -> None:
    reader = Reader()
    await play_as_server(await make_proxy(reader), cases, WEBSOCKET)
    assert reader.seen > 0


@pytest.mark.parametrize("play_as", [play_as_client, play_as_server])
async def test_the_proxy_relays_what_nobody_reads(make_proxy: MakeProxy,
                                                  play_as: Callable[..., Awaitable[None]]) -> None:
    """The far end is judged, too, so the cases it is known to answer in its own way are left out."""
    relayed = [case for case in PROTOCOL_CASES if case.id not in FAR_END]
    await play_as(await make_proxy(record=False), relayed, WEBSOCKET)
