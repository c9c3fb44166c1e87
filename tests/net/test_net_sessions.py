"""The cache of TLS sessions: bounded, single use where that is asked for, never beyond what was verified."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import ssl
import time
from pathlib import Path

import pytest
from cryptography import x509

from rulesproxy.net import sessions
from rulesproxy.net.memory import memory_pair
from rulesproxy.net.sessions import LEAKS, LIFETIME_SECONDS, SessionCache
from rulesproxy.net.tls import TLSStream
from tests.support.certificates import OriginCA

MIB = 1 << 20


def _resident() -> int:
    """Bytes, once what is free was given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Place:
    """A server in memory that can be connected to again and again."""

    def __init__(self, ca: OriginCA, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> None:
        self.server = ca.server_context("host.example")
        self.server.maximum_version = version
        self.client = ca.client_context()

    async def connect(self, cache: SessionCache, name: str = "there") -> TLSStream:
        session, _ = cache.take(name)
        one, other = memory_pair()
        async with asyncio.timeout(10):
            stream, peer = await asyncio.gather(
                TLSStream.client(one, self.client, "host.example", session=session),
                TLSStream.server(other, self.server))
            await peer.write(b"!")  # the tickets come along
            assert await stream.read() == b"!"
        cache.watch(name, stream, stream.peer_certificates)
        return stream


@pytest.fixture
def ca(tmp_path: Path) -> OriginCA:
    return OriginCA(tmp_path)


@pytest.mark.parametrize("end", ["open", "closed", "aborted"])
async def test_the_next_connection_resumes(ca: OriginCA, end: str) -> None:
    place, cache = Place(ca), SessionCache()
    first = await place.connect(cache)
    if end == "closed":
        await first.aclose()
    elif end == "aborted":
        first.abort()
    second = await place.connect(cache)
    assert (first.session_reused, second.session_reused) == (False, True)


async def test_a_ticket_of_tls_1_3_is_used_once(ca: OriginCA) -> None:
    """RFC 8446 §C.4. The server gives two of them, but the ssl module shows the last one only."""
    place, cache = Place(ca), SessionCache()
    stream = await place.connect(cache)
    session, _ = cache.take("there")
    assert session is not None
    assert cache.take("there")[0] is None
    assert stream.session is not None


async def test_a_session_of_tls_1_2_is_for_many(ca: OriginCA) -> None:
    place, cache = Place(ca, ssl.TLSVersion.TLSv1_2), SessionCache()
    await place.connect(cache)
    assert [(await place.connect(cache)).session_reused for _ in range(3)] == [True, True, True]


async def test_a_session_the_server_forgot_is_replaced(ca: OriginCA) -> None:
    place, cache = Place(ca, ssl.TLSVersion.TLSv1_2), SessionCache()
    await place.connect(cache)
    place.server = ca.server_context("host.example")  # with other keys for its tickets
    place.server.maximum_version = ssl.TLSVersion.TLSv1_2
    assert [(await place.connect(cache)).session_reused for _ in range(3)] == [False, True, True]


async def test_where_asking_for_sessions_leaks_it_is_done_seldom(ca: OriginCA, monkeypatch: pytest.MonkeyPatch
                                                                ) -> None:
    monkeypatch.setattr(sessions, "LEAKS", True)
    monkeypatch.setattr(sessions, "LEAKS_ALLOWED", 2)
    place, cache = Place(ca), SessionCache()
    streams = [await place.connect(cache) for _ in range(6)]
    assert [stream.session_reused for stream in streams] == [False, True, True, False, False, False]
    monkeypatch.setattr(sessions, "LEAK_SECONDS", 1e-9)  # as if time had passed
    assert (await place.connect(cache)).session_reused


@pytest.mark.skipif(not LEAKS, reason="this Python does not leak sessions")
async def test_memory_stays_while_connections_come_and_go(ca: OriginCA) -> None:
    place, cache = Place(ca), SessionCache()
    for number in range(600):
        (await place.connect(cache)).abort()
        if number == 200:
            before = _resident()
    assert _resident() - before < MIB


async def test_the_certificates_are_kept_with_it(ca: OriginCA) -> None:
    place, cache = Place(ca), SessionCache()
    first = await place.connect(cache)
    assert cache.take("there")[1] == first.peer_certificates != []


async def test_sessions_end_with_their_time(ca: OriginCA, monkeypatch: pytest.MonkeyPatch) -> None:
    place, cache = Place(ca), SessionCache()
    (await place.connect(cache)).abort()
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + LIFETIME_SECONDS + 5)
    assert cache.take("there") == (None, [])


async def test_sessions_end_with_their_certificates(ca: OriginCA) -> None:
    """What would not be accepted now must not live on in a session."""
    place, cache = Place(ca), SessionCache()
    stream = await place.connect(cache)
    expired = x509.load_pem_x509_certificate(ca.leaf("a.test", from_days=-9, until_days=-1).read_bytes())
    cache.watch("there", stream, [*stream.peer_certificates, expired])
    assert cache.take("there") == (None, [])
    assert len(cache) == 0


async def test_a_failure_forgets(ca: OriginCA) -> None:
    place, cache = Place(ca), SessionCache()
    await place.connect(cache)
    cache.forget("there")
    assert cache.take("there") == (None, []) and len(cache) == 0


async def test_the_cache_is_bounded_and_keeps_no_streams_alive(ca: OriginCA) -> None:
    place, cache = Place(ca), SessionCache(limit=4)
    stream = await place.connect(cache)
    certificates = stream.peer_certificates
    for number in range(10_000):
        cache.watch(number, stream, certificates)
    assert len(cache) == 4
    assert cache.take(0) == (None, []) and cache.take(9_999)[0] is not None
