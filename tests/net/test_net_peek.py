"""`PeekableStream`: looking ahead."""

from __future__ import annotations

import asyncio

import pytest

from rulesproxy.net.memory import MemoryStream, memory_pair
from rulesproxy.net.peek import PeekableStream
from rulesproxy.net.stream import ConnectionClosed


@pytest.fixture
def ends() -> tuple[MemoryStream, PeekableStream]:
    one, other = memory_pair()
    return one, PeekableStream(other)


async def test_peeking_consumes_nothing(ends: tuple[MemoryStream, PeekableStream]) -> None:
    peer, stream = ends
    await peer.write(b"hello")
    assert await stream.peek() == b"hello"
    assert await stream.peek(3) == b"hello"
    assert stream.buffered == b"hello"
    assert await stream.read() == b"hello"
    assert stream.buffered == b""


async def test_peek_reads_on_until_the_minimum(ends: tuple[MemoryStream, PeekableStream]) -> None:
    peer, stream = ends
    peeking = asyncio.create_task(stream.peek(6))
    for piece in (b"ab", b"cd"):
        await peer.write(piece)
        await asyncio.sleep(0)
        assert not peeking.done()
    await peer.write(b"efg")
    assert await peeking == b"abcdefg"


async def test_peek_answers_less_at_the_end_and_again(ends: tuple[MemoryStream, PeekableStream]) -> None:
    peer, stream = ends
    await peer.write(b"ab")
    await peer.write_eof()
    assert await stream.peek(10) == b"ab"
    assert await stream.peek(10) == b"ab"
    assert await stream.read() == b"ab"
    assert await stream.peek() == b""
    assert await stream.read() == b""


async def test_a_cancelled_peek_keeps_what_came(ends: tuple[MemoryStream, PeekableStream]) -> None:
    peer, stream = ends
    peeking = asyncio.create_task(stream.peek(100))
    await asyncio.sleep(0)
    await peer.write(b"ab")
    await asyncio.sleep(0)
    peeking.cancel()
    await asyncio.wait([peeking])
    await peer.write(b"cd")
    assert await stream.peek(4) == b"abcd"


async def test_what_was_peeked_can_be_read_after_a_reset(ends: tuple[MemoryStream, PeekableStream]) -> None:
    peer, stream = ends
    await peer.write(b"ab")
    assert await stream.peek() == b"ab"
    peer.abort()
    with pytest.raises(ConnectionClosed):
        await stream.peek(3)
    assert await stream.read() == b"ab"


async def test_unread_puts_bytes_in_front(ends: tuple[MemoryStream, PeekableStream]) -> None:
    peer, stream = ends
    await peer.write(b"world")
    assert await stream.read(2) == b"wo"
    assert await stream.peek() == b"rld"
    stream.unread(b"wo")
    stream.unread(b"hello ")
    assert stream.buffered == b"hello world"
    assert await stream.read(3) == b"hel"
    assert await stream.peek(8) == b"lo world"
