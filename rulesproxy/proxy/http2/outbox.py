"""`Outbox`: frames on their way out of a connection, and the streams that wait for their turn to send more.

Frames are queued in the state machine; one task writes whatever is there, so that all that was queued in one turn of
the event loop leaves together. While much waits to be written, or the connection's window is empty, senders of data
wait in line and are let through one frame at a time.
"""

from __future__ import annotations

import asyncio
from collections import deque

from rulesproxy.codecs.http2 import Machine
from rulesproxy.net.stream import ConnectionClosed, Stream

#: Bytes of frames that may wait before senders of data wait too.
HIGH_WATER = 64 * 1024
#: The largest piece of a body that is sent in one frame: others get their turn in between.
_SHARE = 16 * 1024


class Outbox:
    __slots__ = ("_finishing", "_loop", "_machine", "_queued", "_room", "_stream", "_to_write", "_turns")

    def __init__(self, stream: Stream, machine: Machine) -> None:
        self._stream = stream
        self._machine = machine
        self._queued = 0  # bytes of frames that wait to be written, about
        self._to_write = asyncio.Event()
        self._finishing = False
        self._turns: deque[asyncio.Future[None]] = deque()
        self._room: list[asyncio.Future[None]] = []  # who waits for less to be waiting
        self._loop = asyncio.get_running_loop()

    async def run(self) -> None:
        """Write until `finish` was called and everything is out, or the connection is lost."""
        try:
            while True:
                await self._to_write.wait()
                self._to_write.clear()
                data = self._machine.data_to_send()
                self._queued = 0
                if data:
                    await self._stream.write(data)
                elif self._finishing:
                    return
                self._tell_of_room()
                self.grant()
                if self._finishing:
                    self._to_write.set()
        except ConnectionClosed:  # the reader learns of it too, and tells the streams
            return

    def queued(self, size: int = 0) -> None:
        """The state machine was given something: so many bytes, if they are worth counting."""
        self._queued += size
        self._to_write.set()

    def finish(self) -> None:
        """What is queued is the last that goes out."""
        self._finishing = True
        self._to_write.set()
        self._tell_of_room()
        while self._turns:
            self.grant()

    @property
    def crowded(self) -> bool:
        """So much waits to be written that heads, too, had better wait: for `room`."""
        return self._queued >= HIGH_WATER and not self._finishing

    async def room(self) -> None:
        """Returns when little waits to be written, or the connection is over."""
        while self.crowded:
            waiter = self._loop.create_future()
            self._room.append(waiter)
            await waiter

    def _tell_of_room(self) -> None:
        waiting, self._room = self._room, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    # --- turns ------------------------------------------------------------------------------------------------

    @property
    def share(self) -> int:
        """The largest piece that may go into one frame now."""
        machine = self._machine
        return min(_SHARE, machine.max_outbound_frame_size, machine.outbound_flow_control_window)

    def may_send(self, *, granted: bool) -> bool:
        """There is room and window, and nobody waits for them, or it is the caller's turn."""
        return self._open and (granted or not self._turns)

    @property
    def _open(self) -> bool:
        return self._queued < HIGH_WATER and self._machine.outbound_flow_control_window > 0

    async def turn(self) -> None:
        """Wait behind those who wait already, for room to send one frame. It must be used, or given up by `grant`."""
        waiter = self._loop.create_future()
        self._turns.append(waiter)
        self.grant()
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.grant()
            raise
        finally:
            if waiter in self._turns:
                self._turns.remove(waiter)

    def grant(self) -> None:
        """Give the next one a turn, if there is something to have."""
        turns = self._turns
        while turns and turns[0].done():
            turns.popleft()
        if turns and (self._finishing or self._open):
            turns.popleft().set_result(None)
