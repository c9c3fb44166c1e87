"""The conformance kit: what every `Stream` must do, run on each kind of stream."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pairs import KINDS, Pair

from rulesproxy.net.stream import ConnectionClosed, Stream


@pytest.fixture(params=list(KINDS))
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    async with KINDS[request.param]() as (one, other):
        yield one, other
        one.abort()
        other.abort()
        await asyncio.gather(one.aclose(), other.aclose())


async def read_exactly(stream: Stream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = await stream.read(size - len(data))
        assert chunk, f"ended after {len(data)} of {size} bytes"
        data += chunk
    return data


async def read_all(stream: Stream) -> bytes:
    chunks = []
    while chunk := await stream.read():
        chunks.append(chunk)
    return b"".join(chunks)


async def settle(task: asyncio.Task[Any]) -> None:
    """Let the event loop turn until nothing more can happen to `task` by itself."""
    for _ in range(50):
        await asyncio.sleep(0)
    assert not task.done()


async def write_until_blocked(stream: Stream, chunk: bytes) -> tuple[int, asyncio.Task[None]]:
    """Write until a write waits for the reader; how much was written before, and the write that waits."""
    written = 0
    while True:
        task = asyncio.create_task(stream.write(chunk))
        done, _ = await asyncio.wait([task], timeout=0.1)
        if not done:
            return written, task
        await task
        written += len(chunk)
        assert written < 64 * 2**20, "the writer never blocks"


class TestReading:
    async def test_bytes_written_at_one_end_are_read_at_the_other(self, pair: Pair) -> None:
        one, other = pair
        await one.write(b"ping")
        assert await read_exactly(other, 4) == b"ping"
        await other.write(b"pong")
        assert await read_exactly(one, 4) == b"pong"

    async def test_pending_tells_what_a_read_would_find(self, pair: Pair) -> None:
        one, other = pair
        await other.write(b"ping")
        assert await read_exactly(one, 1) == b"p"
        assert one.pending
        assert await read_exactly(one, 3) == b"ing"
        assert not one.pending

    async def test_read_never_answers_more_than_the_limit(self, pair: Pair) -> None:
        one, other = pair
        await one.write(b"0123456789" * 10)
        await one.write_eof()
        pieces = []
        while piece := await other.read(7):
            pieces.append(piece)
        assert b"".join(pieces) == b"0123456789" * 10
        assert max(map(len, pieces)) <= 7

    async def test_a_blocked_read_wakes_when_bytes_arrive(self, pair: Pair) -> None:
        one, other = pair
        reading = asyncio.create_task(other.read())
        await settle(reading)
        await one.write(b"x")
        assert await reading == b"x"

    async def test_a_cancelled_read_loses_nothing(self, pair: Pair) -> None:
        one, other = pair
        for message in (b"one", b"two"):
            reading = asyncio.create_task(other.read())
            await settle(reading)
            reading.cancel()
            await asyncio.wait([reading])
            await one.write(message)
            assert await read_exactly(other, 3) == message

    async def test_a_read_cancelled_as_bytes_arrive_loses_nothing(self, pair: Pair) -> None:
        one, other = pair
        sent, got = b"", b""
        for number in range(200):
            reading = asyncio.create_task(other.read())
            await asyncio.sleep(0)
            message = b"%d," % number
            sent += message
            await one.write(message)
            for _ in range(number % 4):
                await asyncio.sleep(0)
            reading.cancel()
            await asyncio.wait([reading])
            if not reading.cancelled():
                got += reading.result()
        await one.write_eof()
        assert got + await read_all(other) == sent

    async def test_writing_nothing_is_not_an_end(self, pair: Pair) -> None:
        one, other = pair
        await one.write(b"")
        await one.write(b"x")
        assert await other.read() == b"x"


class TestEnding:
    async def test_the_end_comes_after_the_bytes_and_stays(self, pair: Pair) -> None:
        one, other = pair
        await one.write(b"last words")
        await one.aclose()
        assert await read_all(other) == b"last words"
        assert await other.read() == b""
        assert await other.read() == b""

    async def test_half_close_leaves_the_other_direction_open(self, pair: Pair) -> None:
        one, other = pair
        await one.write(b"question")
        await one.write_eof()
        assert await read_all(other) == b"question"
        await other.write(b"a long answer " * 3000)
        await other.write_eof()
        assert await read_all(one) == b"a long answer " * 3000

    async def test_half_close_keeps_what_is_unread(self, pair: Pair) -> None:
        one, other = pair
        await other.write(b"x" * 30_000)
        assert len(await one.read(10)) == 10
        await one.write_eof()
        await other.write(b"y" * 30_000)
        await other.write_eof()
        assert await read_all(one) == b"x" * 29_990 + b"y" * 30_000

    async def test_write_eof_twice_is_once(self, pair: Pair) -> None:
        one, other = pair
        await one.write_eof()
        await one.write_eof()
        assert await other.read() == b""

    async def test_writing_after_write_eof_is_refused(self, pair: Pair) -> None:
        one, _ = pair
        await one.write_eof()
        with pytest.raises(ConnectionClosed):
            await one.write(b"late")

    async def test_closing_is_true_once_the_peer_has_finished(self, pair: Pair) -> None:
        one, other = pair
        assert not one.closing
        assert not other.closing
        await one.write_eof()
        assert await other.read() == b""
        assert other.closing
        assert not one.closing


class TestClosing:
    async def test_aclose_may_be_repeated(self, pair: Pair) -> None:
        one, _ = pair
        await one.aclose()
        await one.aclose()
        await asyncio.gather(one.aclose(), one.aclose())
        assert one.closing

    async def test_a_closed_stream_reads_nothing_and_refuses_writes(self, pair: Pair) -> None:
        one, other = pair
        await other.write(b"unread")
        await one.aclose()
        assert await one.read() == b""
        with pytest.raises(ConnectionClosed):
            await one.write(b"x")
        await one.write_eof()  # nothing to say and nobody to say it to: no error

    async def test_a_blocked_read_ends_when_its_stream_is_closed(self, pair: Pair) -> None:
        one, _ = pair
        reading = asyncio.create_task(one.read())
        await settle(reading)
        await one.aclose()
        assert await reading == b""

    async def test_a_blocked_read_ends_when_its_stream_is_aborted(self, pair: Pair) -> None:
        one, _ = pair
        reading = asyncio.create_task(one.read())
        await settle(reading)
        one.abort()
        assert await reading == b""

    async def test_a_blocked_write_fails_when_its_stream_is_aborted(self, pair: Pair) -> None:
        one, _ = pair
        _, writing = await write_until_blocked(one, bytes(65536))
        one.abort()
        with pytest.raises(ConnectionClosed):
            await writing

    async def test_a_blocked_write_fails_when_the_peer_aborts(self, pair: Pair) -> None:
        one, other = pair
        _, writing = await write_until_blocked(one, bytes(65536))
        other.abort()
        with pytest.raises(ConnectionClosed):
            await writing

    async def test_abort_is_an_error_for_the_peer_not_an_end(self, pair: Pair) -> None:
        one, other = pair
        one.abort()
        with pytest.raises(ConnectionClosed):
            await other.read()
        with pytest.raises(ConnectionClosed):
            await other.write(b"x")
        assert other.closing
        assert one.closing

    async def test_abort_may_follow_anything(self, pair: Pair) -> None:
        one, _ = pair
        await one.aclose()
        one.abort()
        one.abort()
        await one.aclose()

    async def test_writing_to_a_peer_that_closed_fails_in_the_end(self, pair: Pair) -> None:
        one, other = pair
        await other.aclose()
        with pytest.raises(ConnectionClosed):
            while True:  # TCP needs a round trip to find out
                await one.write(b"x")
                await asyncio.sleep(0)


class TestBackPressure:
    async def test_a_writer_blocks_while_the_reader_stops_and_goes_on_when_it_reads(self, pair: Pair) -> None:
        one, other = pair
        written, writing = await write_until_blocked(one, bytes(65536))
        total = written + 65536
        await read_exactly(other, total)
        await writing
        await one.write_eof()
        assert await other.read() == b""

    async def test_a_cancelled_write_is_sent_whole(self, pair: Pair) -> None:
        one, other = pair
        written, writing = await write_until_blocked(one, b"x" * 65536)
        writing.cancel()
        await asyncio.wait([writing])
        reading = asyncio.create_task(read_all(other))
        await one.write(b"after")
        await one.write_eof()
        assert await reading == b"x" * (written + 65536) + b"after"

    async def test_writes_of_two_tasks_do_not_mix(self, pair: Pair) -> None:
        one, other = pair
        messages = [bytes([65 + number]) * 100_000 for number in range(8)]
        reading = asyncio.create_task(read_all(other))
        await asyncio.gather(*(one.write(message) for message in messages))
        await one.write_eof()
        assert await reading == b"".join(messages)


class TestIntegrity:
    async def test_large_transfers_in_both_directions_at_once(self, pair: Pair) -> None:
        one, other = pair
        random_source = random.Random(7)
        block = random_source.randbytes(2**20)

        async def send(stream: Stream) -> str:
            digest = hashlib.sha256()
            for _ in range(64):
                start = random_source.randrange(len(block) - 1)
                piece = block[start:start + random_source.randrange(1, 200_000)]
                digest.update(piece)
                await stream.write(piece)
            await stream.write_eof()
            return digest.hexdigest()

        async def receive(stream: Stream) -> str:
            digest = hashlib.sha256()
            while chunk := await stream.read(random_source.choice((1, 100, 16384, 65536, 10**6))):
                digest.update(chunk)
            return digest.hexdigest()

        sent_up, sent_down, got_up, got_down = await asyncio.gather(
            send(one), send(other), receive(other), receive(one))
        assert got_up == sent_up
        assert got_down == sent_down
