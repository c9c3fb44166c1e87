"""`TCPStream` and `listen`: streams over sockets, the same on asyncio's own loop and on uvloop.

The stream is its own asyncio protocol: received chunks queue in a `ChunkBuffer`, reading pauses above a high-water
mark, and `write` hands all its bytes to the transport before it first waits. So a cancelled `write` never cuts bytes
in half, and writes of two tasks never mix: everything stacked on a stream (TLS) relies on that.

Whoever does not read for a while learns of a peer that leaves through `on_end`. A peer that closed its socket and one
that only half-closed it look alike at first: the kernel then probes the peer, which answers with a reset once it has
forgotten the connection.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Callable, Coroutine
from typing import Any, cast

from rulesproxy.model.connection import Address
from rulesproxy.net.buffer import ChunkBuffer
from rulesproxy.net.stream import ConnectionClosed

READ_HIGH_WATER = 256 * 1024
READ_LOW_WATER = 64 * 1024
#: How long `aclose` waits for a peer that does not take the last bytes.
FLUSH_SECONDS = 5.0
#: How often a peer that has finished sending is asked whether it is still there.
PROBE_SECONDS = 10
CONNECTION_LIMIT = 10_000
BACKLOG = 1024

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, zero seconds

log = logging.getLogger("rulesproxy")


class TCPStream(asyncio.Protocol):
    """A `Stream` over one socket. Made by `listen` and `dial`; one task reads, any number write."""

    __slots__ = (
        "_buffer", "_closed", "_drainers", "_eof", "_error", "_flush_timer", "_loop", "_lost", "_on_connected",
        "_probe_timer", "_reader", "_reading_paused", "_transport", "_writing_paused", "_wrote_eof", "on_end",
        "peername", "sockname",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop,
                 on_connected: Callable[[TCPStream], None] | None = None) -> None:
        self._loop = loop
        self._on_connected = on_connected
        self._transport: asyncio.Transport
        self.peername: Address | None = None
        self.sockname: Address | None = None
        #: Called when the peer has finished sending while nobody reads (False), and when the connection is lost (True).
        self.on_end: Callable[[bool], None] | None = None
        self._buffer = ChunkBuffer()
        self._reader: asyncio.Future[None] | None = None
        self._drainers: list[asyncio.Future[None]] = []
        self._lost: asyncio.Future[None] = loop.create_future()
        self._flush_timer: asyncio.TimerHandle | None = None
        self._probe_timer: asyncio.TimerHandle | None = None
        self._error: BaseException | None = None
        self._eof = False
        self._wrote_eof = False
        self._closed = False
        self._reading_paused = False
        self._writing_paused = False

    # --- the Stream interface ---------------------------------------------------------------------------------

    async def read(self, limit: int = 65536) -> bytes:
        buffer = self._buffer
        while not buffer.size:
            if self._closed or self._eof:
                return b""
            if self._lost.done():
                raise self._connection_closed()
            if self._reader is not None:
                raise RuntimeError("two tasks read from one stream")
            self._reader = self._loop.create_future()
            try:
                await self._reader  # until data, or the end
            finally:
                self._reader = None
        data = buffer.take(limit)
        if self._reading_paused and buffer.size <= READ_LOW_WATER:
            self._reading_paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()
        return data

    async def write(self, data: bytes) -> None:
        if self._closed or self._wrote_eof or self._lost.done() or self._transport.is_closing():
            raise self._connection_closed()
        self._transport.write(data)
        if self._writing_paused:
            await self._drained()

    async def write_eof(self) -> None:
        if self._wrote_eof or self._closed or self._lost.done() or self._transport.is_closing():
            return
        self._wrote_eof = True
        try:
            self._transport.write_eof()
        except OSError:  # the peer reset the connection and the loop has not seen it yet: the next read tells
            pass

    async def aclose(self) -> None:
        """Send what is buffered and close; returns when the socket is closed.

        After `FLUSH_SECONDS`, or cancelled while it waits, it resets the connection: an end in good order would make
        what the peer has got look whole.
        """
        if not self._closed:
            self._end()
            if not self._lost.done() and self._transport.get_write_buffer_size():
                self._flush_timer = self._loop.call_later(FLUSH_SECONDS, self.abort)
            self._transport.close()
        if not self._lost.done():
            try:
                await asyncio.shield(self._lost)
            except asyncio.CancelledError:
                self.abort()
                raise

    def abort(self) -> None:
        self._end()
        if self._lost.done():
            return
        sock = self._transport.get_extra_info("socket")
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        except (OSError, AttributeError):  # the socket is gone already, and with it the connection
            pass
        self._transport.abort()

    @property
    def pending(self) -> bool:
        return self._buffer.size > 0

    @property
    def closing(self) -> bool:
        return self._closed or self._eof or self._lost.done() or self._transport.is_closing()

    def fileno(self) -> int:
        """The descriptor of the socket, which stays the stream's; -1 when it is closed."""
        sock = self._transport.get_extra_info("socket")
        return sock.fileno() if sock is not None else -1

    def __repr__(self) -> str:
        state = "closed" if self._closed else "lost" if self._lost.done() else "eof" if self._eof else "open"
        return f"<TCPStream {self.sockname} ↔ {self.peername} {state} buffered={self._buffer.size}>"

    # --- called by the event loop -----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast: uvloop's transports do not derive from asyncio's. Both loops have set TCP_NODELAY.
        self._transport = cast(asyncio.Transport, transport)
        self.peername = _address(transport.get_extra_info("peername"))
        self.sockname = _address(transport.get_extra_info("sockname"))
        if self._on_connected is not None:
            self._on_connected(self)

    def data_received(self, data: bytes) -> None:
        if self._closed:
            return
        buffer = self._buffer
        buffer.append(data)
        if buffer.size > READ_HIGH_WATER and not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()
        self._wake_reader()

    def eof_received(self) -> bool:
        self._eof = True
        if self._reader is not None and not self._reader.done():
            self._wake_reader()
        elif self.on_end is not None and not self._closed:
            self.on_end(False)
            self._begin_to_probe()
        return True  # stay open for writing: half-close

    def connection_lost(self, exc: Exception | None) -> None:
        self._error = exc
        if exc is not None and not self._closed and not self._eof:
            self._rescue_unread()
        for timer in (self._flush_timer, self._probe_timer):
            if timer is not None:
                timer.cancel()
        if not self._lost.done():
            self._lost.set_result(None)
        self._wake_reader()
        self._wake_drainers()
        if self.on_end is not None:
            on_end, self.on_end = self.on_end, None
            if not self._closed:
                on_end(True)

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        self._wake_drainers()

    # --- inside -----------------------------------------------------------------------------------------------

    async def _drained(self) -> None:
        waiter = self._loop.create_future()
        self._drainers.append(waiter)
        try:
            await waiter
        finally:
            self._drainers.remove(waiter)
        if self._closed or self._lost.done():
            raise self._connection_closed()

    def _rescue_unread(self) -> None:
        """Keep what the peer sent before it reset the connection.

        A send that fails makes the loop drop the connection although an answer (say, a 413 sent in the middle of
        an upload) may wait in the socket: the kernel still hands it out.
        """
        try:
            descriptor = self._transport.get_extra_info("socket").fileno()
            while self._buffer.size < READ_HIGH_WATER and (data := os.read(descriptor, 65536)):
                self._buffer.append(data)
        except (OSError, AttributeError):  # nothing left, which is the usual case
            pass

    def _begin_to_probe(self) -> None:
        sock = self._transport.get_extra_info("socket")
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
                if hasattr(socket, option):
                    sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), PROBE_SECONDS)
        except OSError:  # the connection is gone, and `connection_lost` on its way
            return
        self._probe_timer = self._loop.call_later(PROBE_SECONDS, self._look_at_probe)

    def _look_at_probe(self) -> None:
        """After the end of what the peer sends, the event loop looks at the socket only to write."""
        if self._closed:
            return
        error = self._transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self._transport.abort()
        else:
            self._probe_timer = self._loop.call_later(PROBE_SECONDS, self._look_at_probe)

    def _end(self) -> None:
        """From here on the stream is closed for its owner: blocked calls return."""
        self._closed = True
        self._buffer.clear()
        self._wake_reader()
        self._wake_drainers()

    def _wake_reader(self) -> None:
        waiter = self._reader
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _wake_drainers(self) -> None:
        for waiter in self._drainers:
            if not waiter.done():
                waiter.set_result(None)

    def _connection_closed(self) -> ConnectionClosed:
        if self._closed or self._wrote_eof:
            return ConnectionClosed("the stream was closed here")
        error = self._error
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "the connection ended"
        closed = ConnectionClosed(reason[:1].lower() + reason[1:])
        closed.__cause__ = error
        return closed


def _address(value: Any) -> Address | None:
    """(host, port) of what the socket says; IPv6 adds flow and scope, which nobody here needs."""
    return (value[0], value[1]) if value else None


class Listener:
    """An accepting socket and the connections it made: one task each, running `serve`."""

    def __init__(self, serve: Callable[[TCPStream], Coroutine[Any, Any, None]], limit: int) -> None:
        self._serve = serve
        self._limit = limit
        self._limit_reported = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._server: asyncio.AbstractServer
        self.address: Address

    @property
    def connections(self) -> int:
        return len(self._tasks)

    async def start(self, host: str, port: int) -> None:
        server = await self._loop.create_server(
            lambda: TCPStream(self._loop, self._accepted), host, port, backlog=BACKLOG)
        self._server = server
        self.address = server.sockets[0].getsockname()[:2]

    def close_accepting(self) -> None:
        """Refuse new connections from now on; those that exist go on."""
        self._server.close()

    async def wait_closed(self, grace: float) -> None:
        """Stop accepting, give the connections `grace` seconds to finish, then reset the rest."""
        self.close_accepting()
        if self._tasks and grace > 0:
            await asyncio.wait(self._tasks, timeout=grace)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=FLUSH_SECONDS)

    def _accepted(self, stream: TCPStream) -> None:
        if len(self._tasks) >= self._limit:
            if not self._limit_reported:
                self._limit_reported = True
                log.warning("%s:%d: %d connections are open, further ones are closed at once",
                            *self.address, self._limit)
            stream.abort()
            return
        self._limit_reported = False
        task = self._loop.create_task(self._run(stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, stream: TCPStream) -> None:
        try:
            await self._serve(stream)
        except asyncio.CancelledError:
            stream.abort()
            raise
        except ConnectionClosed as exc:
            log.debug("connection from %s: %s", stream.peername, exc)
        except Exception:
            log.exception("connection from %s: unexpected error", stream.peername)
        finally:
            await stream.aclose()


async def listen(host: str, port: int, serve: Callable[[TCPStream], Coroutine[Any, Any, None]], *,
                 limit: int = CONNECTION_LIMIT) -> Listener:
    """Accept on `host:port` (port 0: any free one) and run `serve` for each connection, closing it afterwards.

    More than `limit` connections at a time are closed as they arrive. Raises OSError when the address is taken.
    """
    listener = Listener(serve, limit)
    await listener.start(host, port)
    return listener
