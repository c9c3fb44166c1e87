"""`dial`: families race, failures name address and reason."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator

import pytest

from rulesproxy.net.dial import DialError, _Attempts, _interleaved, dial
from rulesproxy.net.tcp import Listener, TCPStream, listen


async def hold(stream: TCPStream) -> None:
    await stream.read()


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    listener = await listen("127.0.0.1", 0, hold)
    yield listener
    await listener.wait_closed(0)


@pytest.fixture
def full_port() -> Iterator[int]:
    """A port of 127.0.0.1 whose accept queue is full: the kernel drops further SYNs, so connecting hangs."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
            fillers.append(filler)
        yield server.getsockname()[1]
        for filler in fillers:
            filler.close()


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_it_connects(listener: Listener) -> None:
    stream = await dial(["127.0.0.1"], listener.address[1])
    assert stream.peername == listener.address
    await stream.aclose()


async def test_refused() -> None:
    port = closed_port()
    with pytest.raises(DialError) as caught:
        await dial(["127.0.0.1"], port)
    assert str(caught.value) == f"127.0.0.1:{port}: connection refused"


async def test_every_address_is_named() -> None:
    port = closed_port()
    with pytest.raises(DialError) as caught:
        await dial(["127.0.0.1", "127.0.0.2", "127.0.0.1"], port)
    assert str(caught.value) == f"127.0.0.1:{port}: connection refused; 127.0.0.2:{port}: connection refused"


async def test_timeout(full_port: int) -> None:
    with pytest.raises(DialError) as caught:
        await dial(["127.0.0.1"], full_port, timeout=0.2)
    assert str(caught.value) == f"127.0.0.1:{full_port}: timed out after 0.2 s"


async def test_after_a_refusal_the_next_address_is_tried_at_once(listener: Listener) -> None:
    started = asyncio.get_running_loop().time()
    stream = await dial(["127.0.0.2", "127.0.0.3", "127.0.0.1"], listener.address[1])
    assert stream.peername == listener.address
    assert asyncio.get_running_loop().time() - started < 0.25  # no stagger was waited for
    await stream.aclose()


async def test_a_silent_address_delays_by_the_stagger_only(full_port: int) -> None:
    answering = await listen("127.0.0.2", full_port, hold)
    started = asyncio.get_running_loop().time()
    stream = await dial(["127.0.0.1", "127.0.0.2"], full_port, timeout=5)
    elapsed = asyncio.get_running_loop().time() - started
    assert stream.peername == ("127.0.0.2", full_port)
    assert 0.2 < elapsed < 2
    await stream.aclose()
    await answering.wait_closed(0)


async def test_a_loser_that_connected_as_well_is_closed() -> None:
    ended = asyncio.Event()

    async def serve(stream: TCPStream) -> None:
        try:
            await stream.read()
        finally:
            ended.set()

    listener = await listen("127.0.0.1", 0, serve)
    attempts = _Attempts(["127.0.0.1"], listener.address[1])
    attempts._start("127.0.0.1")
    await asyncio.wait(attempts._tasks)  # connected, and nobody has asked for it
    attempts.end()
    await ended.wait()
    await listener.wait_closed(1)


async def test_cancelling_leaves_nothing_behind(full_port: int) -> None:
    dialling = asyncio.create_task(dial(["127.0.0.1", "127.0.0.2"], full_port))
    await asyncio.sleep(0.05)
    dialling.cancel()
    await asyncio.wait([dialling])
    await asyncio.sleep(0)
    assert dialling.cancelled()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_no_address_is_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="no address"):
        await dial([], 80)


@pytest.mark.parametrize(("given", "order"), [
    (["10.0.0.1"], ["10.0.0.1"]),
    (["::1", "::2", "10.0.0.1", "10.0.0.2"], ["::1", "10.0.0.1", "::2", "10.0.0.2"]),
    (["10.0.0.1", "10.0.0.2", "10.0.0.3", "::1"], ["10.0.0.1", "::1", "10.0.0.2", "10.0.0.3"]),
    (["::1", "::1", "10.0.0.1"], ["::1", "10.0.0.1"]),
])
def test_families_alternate_and_the_first_one_leads(given: list[str], order: list[str]) -> None:
    assert _interleaved(given) == order
