"""`TCPStream` and `listen`: what only sockets have."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

import pytest
from pairs import tcp

from rulesproxy.net import tcp as tcp_module
from rulesproxy.net.dial import dial
from rulesproxy.net.stream import ConnectionClosed
from rulesproxy.net.tcp import READ_HIGH_WATER, Listener, TCPStream, listen


async def echo(stream: TCPStream) -> None:
    while data := await stream.read():
        await stream.write(data)


async def connect(listener: Listener) -> TCPStream:
    host, port = listener.address
    return await dial([host], port)


async def until(condition: Callable[[], bool]) -> None:
    """Turn the event loop until `condition()` holds; the test's time limit ends a wait in vain."""
    while not condition():  # noqa: ASYNC110 - the loop itself is what changes, nobody could set an event
        await asyncio.sleep(0.005)


async def test_addresses_are_known_at_both_ends() -> None:
    async with tcp() as (client, server):
        assert client.peername == server.sockname
        assert client.sockname == server.peername
        assert client.peername is not None
        assert client.peername[0] == "127.0.0.1"


async def test_small_writes_go_out_at_once() -> None:
    async with tcp() as (client, _):
        assert isinstance(client, TCPStream)
        sock = client._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


async def test_an_idle_stream_notices_that_the_peer_left() -> None:
    async with tcp() as (client, server):
        assert not client.closing
        await server.aclose()
        await until(lambda: client.closing)


async def test_memory_stays_bounded_while_nobody_reads() -> None:
    async with tcp() as (client, server):
        assert isinstance(server, TCPStream)
        writing = asyncio.create_task(client.write(bytes(32 * 2**20)))
        done, _ = await asyncio.wait([writing], timeout=0.3)
        assert not done
        # One more chunk may arrive after the mark was passed; a loop receives at most 256 KiB at once.
        assert server._buffer.size <= READ_HIGH_WATER + 256 * 1024
        writing.cancel()


async def test_abort_sends_a_reset() -> None:
    """A plain socket at the other end sees ECONNRESET, not an end."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        stream = await dial(["127.0.0.1"], server.getsockname()[1])
        accepted, _ = server.accept()
        with accepted:
            accepted.settimeout(5)
            stream.abort()
            await stream.aclose()
            with pytest.raises(ConnectionResetError):
                accepted.recv(1)


async def test_an_answer_sent_before_a_reset_is_read_although_our_send_fails_first() -> None:
    """A server that answers 413 in the middle of an upload and closes: the answer must not be lost."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        stream = await dial(["127.0.0.1"], server.getsockname()[1])
        stream._transport.pause_reading()  # the loop is too busy to see the answer
        accepted, _ = server.accept()
        await stream.write(b"upload")
        accepted.sendall(b"413")
        accepted.close()  # unread bytes: the kernel resets
        with pytest.raises(ConnectionClosed):
            while True:
                await stream.write(b"more")
                await asyncio.sleep(0.01)
        assert await stream.read() == b"413"
        with pytest.raises(ConnectionClosed):
            await stream.read()
        await stream.aclose()


async def test_aclose_delivers_what_is_buffered_before_it_returns() -> None:
    async with tcp() as (client, server):
        payload = bytes(8 * 2**20)
        writing = asyncio.create_task(client.write(payload))
        await asyncio.sleep(0)  # all bytes are accepted now; the write waits for the reader
        closing = asyncio.create_task(client.aclose())
        size = 0
        while chunk := await server.read():
            size += len(chunk)
        assert size == len(payload)
        await closing
        with pytest.raises(ConnectionClosed):
            await writing


async def test_aclose_gives_up_on_a_peer_that_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_module, "FLUSH_SECONDS", 0.1)
    async with tcp() as (client, server):
        writing = asyncio.create_task(client.write(bytes(32 * 2**20)))
        await asyncio.sleep(0)
        async with asyncio.timeout(3):
            await client.aclose()
        with pytest.raises(ConnectionClosed):
            await writing
        with pytest.raises(ConnectionClosed):  # not an end in good order: bytes are missing
            while await server.read():
                pass


async def test_aclose_when_cancelled_resets() -> None:
    async with tcp() as (client, server):
        writing = asyncio.create_task(client.write(bytes(32 * 2**20)))
        await asyncio.sleep(0)
        closing = asyncio.create_task(client.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing, writing])
        async with asyncio.timeout(3):
            await client.aclose()
        with pytest.raises(ConnectionClosed):
            while await server.read():
                pass
        assert isinstance(writing.exception(), ConnectionClosed)


async def test_two_readers_are_a_bug_that_shows() -> None:
    async with tcp() as (client, _):
        first = asyncio.create_task(client.read())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="two tasks"):
            await client.read()
        first.cancel()


class TestListener:
    async def test_it_serves_many_connections_at_once_and_counts_them(self) -> None:
        listener = await listen("127.0.0.1", 0, echo)
        streams = [await connect(listener) for _ in range(20)]
        for number, stream in enumerate(streams):
            await stream.write(b"%d" % number)
        assert [await stream.read() for stream in streams] == [b"%d" % number for number in range(20)]
        assert listener.connections == 20
        for stream in streams:
            await stream.aclose()
        await until(lambda: listener.connections == 0)
        await listener.wait_closed(1)

    async def test_the_connection_is_closed_when_serve_returns(self) -> None:
        async def serve(stream: TCPStream) -> None:
            await stream.write(b"bye")

        listener = await listen("127.0.0.1", 0, serve)
        stream = await connect(listener)
        assert await stream.read() == b"bye"
        assert await stream.read() == b""
        await stream.aclose()
        await listener.wait_closed(1)

    async def test_ipv6(self) -> None:
        try:
            listener = await listen("::1", 0, echo)
        except OSError:
            pytest.skip("no IPv6 here")
        assert listener.address[0] == "::1"
        stream = await connect(listener)
        await stream.write(b"x")
        assert await stream.read() == b"x"
        assert stream.peername == listener.address
        await stream.aclose()
        await listener.wait_closed(1)

    async def test_a_taken_port_is_an_error(self) -> None:
        listener = await listen("127.0.0.1", 0, echo)
        with pytest.raises(OSError, match="address already in use"):
            await listen(*listener.address, echo)
        await listener.wait_closed(1)

    async def test_a_port_is_free_again_after_closing(self) -> None:
        listener = await listen("127.0.0.1", 0, echo)
        stream = await connect(listener)
        await listener.wait_closed(0)
        await stream.aclose()
        again = await listen(*listener.address, echo)
        await again.wait_closed(0)

    async def test_connections_over_the_limit_are_closed(self, caplog: pytest.LogCaptureFixture) -> None:
        listener = await listen("127.0.0.1", 0, echo, limit=2)
        kept = [await connect(listener), await connect(listener)]
        await until(lambda: listener.connections == 2)
        for _ in range(3):
            extra = await connect(listener)
            with pytest.raises(ConnectionClosed):
                await extra.read()
            await extra.aclose()
        assert len([record for record in caplog.records if "2 connections are open" in record.message]) == 1
        await kept.pop().aclose()
        await until(lambda: listener.connections == 1)
        kept.append(await connect(listener))
        await kept[-1].write(b"served")
        assert await kept[-1].read() == b"served"
        for stream in kept:
            await stream.aclose()
        await listener.wait_closed(1)

    async def test_an_exception_is_logged_once_and_ends_only_its_connection(
            self, caplog: pytest.LogCaptureFixture) -> None:
        async def serve(stream: TCPStream) -> None:
            if await stream.read() == b"bad":
                raise ValueError("boom")
            await stream.write(b"fine")

        listener = await listen("127.0.0.1", 0, serve)
        bad, good = await connect(listener), await connect(listener)
        await bad.write(b"bad")
        assert await bad.read() == b""
        await good.write(b"good")
        assert await good.read() == b"fine"
        await bad.aclose()
        await good.aclose()
        await listener.wait_closed(1)
        errors = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert [(record.name, record.exc_info is not None) for record in errors] == [("rulesproxy", True)]

    async def test_a_peer_that_resets_is_no_error(self, caplog: pytest.LogCaptureFixture) -> None:
        listener = await listen("127.0.0.1", 0, echo)
        stream = await connect(listener)
        await stream.write(b"x")
        assert await stream.read() == b"x"
        stream.abort()
        await until(lambda: listener.connections == 0)
        await listener.wait_closed(1)
        assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []

    async def test_wait_closed_lets_connections_finish(self) -> None:
        listener = await listen("127.0.0.1", 0, echo)
        stream = await connect(listener)
        await stream.write(b"a")
        assert await stream.read() == b"a"
        closing = asyncio.create_task(listener.wait_closed(10))
        await stream.write(b"b")
        assert await stream.read() == b"b"
        assert not closing.done()
        with pytest.raises(OSError):  # a new one is refused already
            await connect(listener)
        await stream.aclose()
        await closing
        assert listener.connections == 0

    async def test_wait_closed_ends_the_rest_after_the_grace_time(self) -> None:
        cancelled = asyncio.Event()

        async def serve(stream: TCPStream) -> None:
            try:
                await stream.read()
            except asyncio.CancelledError:
                cancelled.set()
                raise

        listener = await listen("127.0.0.1", 0, serve)
        stream = await connect(listener)
        await until(lambda: listener.connections == 1)
        await listener.wait_closed(0.05)
        assert cancelled.is_set()
        assert listener.connections == 0
        with pytest.raises(ConnectionClosed):
            await stream.read()
        await stream.aclose()


@pytest.mark.parametrize("how", ["end", "reset"])
async def test_who_does_not_read_is_told_when_the_peer_leaves(how: str) -> None:
    async with tcp() as (client, server):
        assert isinstance(server, TCPStream)
        told: list[bool] = []
        server.on_end = told.append
        if how == "end":
            await client.write_eof()
        else:
            client.abort()
        await until(lambda: bool(told))
        assert told == [how == "reset"]


async def test_a_reader_learns_of_the_end_by_reading() -> None:
    async with tcp() as (client, server):
        assert isinstance(server, TCPStream)
        told: list[bool] = []
        server.on_end = told.append
        reading = asyncio.create_task(server.read())
        await asyncio.sleep(0)
        await client.write_eof()
        assert await reading == b""
        assert told == []


async def test_a_peer_that_closed_does_not_pass_for_half_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_module, "PROBE_SECONDS", 1)
    async with tcp() as (client, server):
        assert isinstance(server, TCPStream)
        assert isinstance(client, TCPStream)
        told: list[bool] = []
        server.on_end = told.append
        # Linux keeps what is left of a closed socket for a minute by default, and answers no probe with it.
        client._transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_LINGER2, 1)
        await client.aclose()
        await until(lambda: len(told) == 2)
        assert told == [False, True]


async def test_a_peer_that_half_closed_bears_the_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_module, "PROBE_SECONDS", 1)
    async with tcp() as (client, server):
        assert isinstance(server, TCPStream)
        told: list[bool] = []
        server.on_end = told.append
        await client.write_eof()
        await asyncio.sleep(2.5)
        assert told == [False]
        await server.write(b"still there")
        assert await client.read() == b"still there"
