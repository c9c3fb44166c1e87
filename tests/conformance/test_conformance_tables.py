"""The tables are whole, can fail, and are what the page says."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.conformance import conformance_table, non_strict
from tests.conformance.autobahn_cases import PROTOCOL_CASES
from tests.conformance.autobahn_volume_cases import COMPRESSION_CASES, LARGE_CASES
from tests.conformance.http2_client_cases import CLIENT_CASES
from tests.conformance.http2_peer import PREFACE, Peer, Type, frame
from tests.conformance.http2_server_cases import SERVER_CASES
from tests.conformance.http2_steps import Http2Case, play
from tests.conformance.verdicts import Outcome, Verdict, check, run_table

#: Cases whose expectation a server meets that accepts everything and answers nothing but settings and pings.
HARMLESS = {"generic/1/1", "generic/2/1", "generic/2/4", "generic/3.4/1", "generic/3.5/1", "generic/3.7/1",
            "generic/3.8/1", "generic/3.9/1", "http2/3.5/1", "http2/4.1/1", "http2/4.1/2", "http2/4.1/3",
            "http2/5.5/1", "http2/6.5.2/5", "http2/6.5.3/2", "http2/6.7/1", "http2/6.7/2", "http2/7/1", "http2/7/2"}


def test_every_case_of_the_public_lists_is_there_once() -> None:
    websocket = [case.id for case in (*PROTOCOL_CASES, *LARGE_CASES, *COMPRESSION_CASES)]
    server, client = [case.id for case in SERVER_CASES], [case.id for case in CLIENT_CASES]
    assert [len(set(ids)) for ids in (server, client, websocket)] == [146, 57, 517]
    assert [len(ids) for ids in (server, client, websocket)] == [146, 57, 517]
    assert Counter(id.partition("/")[0] for id in server) == {"generic": 44, "http2": 95, "hpack": 7}
    assert Counter(int(id.partition(".")[0]) for id in websocket) == {
        1: 16, 2: 11, 3: 7, 4: 10, 5: 20, 6: 145, 7: 37, 9: 54, 10: 1, 12: 90, 13: 126}


def test_at_most_ten_cases_may_be_non_strict() -> None:
    listed = {**non_strict.HTTP2_SERVER, **non_strict.HTTP2_CLIENT, **non_strict.WEBSOCKET, **non_strict.H2SPEC}
    assert len(listed) <= non_strict.MOST
    known = {case.id for case in (*SERVER_CASES, *CLIENT_CASES, *PROTOCOL_CASES)}
    assert set(listed) <= known
    assert set(non_strict.FAR_END) <= known


def test_the_page_shows_the_tables() -> None:
    text = conformance_table.PAGE.read_text()
    assert text == conformance_table.page(text), "run python -m tests.conformance.conformance_table"


def test_a_failure_names_the_case() -> None:
    outcomes = [Outcome("a/1", "good", Verdict.STRICT), Outcome("a/2", "bad", Verdict.FAILED, "closed"),
                Outcome("a/3", "listed", Verdict.NON_STRICT), Outcome("a/4", "not listed", Verdict.NON_STRICT)]
    with pytest.raises(AssertionError) as caught:
        check(outcomes, {"a/3": "because"})
    lines = str(caught.value).splitlines()
    assert lines[1:] == ["a/2 (bad): failed closed", "a/4 (not listed): non-strict"]


@asynccontextmanager
async def careless_server() -> AsyncIterator[int]:
    """The port of an HTTP/2 server that takes everything for right, and never answers a request."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readexactly(len(PREFACE))
            writer.write(frame(Type.SETTINGS, b"\x00\x03\x00\x00\x00\x05"))
            while True:
                head = await reader.readexactly(9)
                payload = await reader.readexactly(int.from_bytes(head[:3]))
                if head[3] == Type.SETTINGS and not head[4] & 1:
                    writer.write(frame(Type.SETTINGS, flags=1))
                elif head[3] == Type.PING and not head[4] & 1:
                    writer.write(frame(Type.PING, payload, flags=1))
        except (asyncio.IncompleteReadError, OSError):
            pass  # the case is over
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


async def test_a_careless_server_passes_nothing_but_the_harmless_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every other case can fail."""
    monkeypatch.setattr("tests.conformance.http2_peer.PATIENCE", 0.2)
    async with careless_server() as port:
        async def one(case: Http2Case) -> Verdict:
            peer = Peer(*await asyncio.open_connection("127.0.0.1", port))
            try:
                return await play(case, peer)
            finally:
                await peer.aclose()

        outcomes = await run_table(SERVER_CASES, one, at_once=40)
    assert {outcome.id for outcome in outcomes if outcome.verdict is not Verdict.FAILED} == HARMLESS
