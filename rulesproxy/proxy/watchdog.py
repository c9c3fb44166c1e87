"""`Watchdog`: one timer that bounds many waits of one task.

A timeout context per read costs more than the read. Here arming is an assignment: the timer stays where it is while
it is early enough, and looks again when it fires. When a wait is overdue the task is cancelled; the code around the
wait asks `caught` and turns that into a TimeoutError. A wait can also be interrupted for another reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from math import inf
from typing import TypeVar

_FOREVER = 3600.0 * 24 * 365
_T = TypeVar("_T")


class Watchdog:
    """Belongs to the task that makes it."""

    __slots__ = ("_deadline", "_due", "_expired", "_loop", "_reason", "_task", "_timer")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        self._task: asyncio.Task[object] = task
        self._deadline = inf
        self._due = inf  # when the timer fires; never later than the deadline
        self._timer: asyncio.TimerHandle | None = None
        self._expired = False
        self._reason: Exception | None = None

    def arm(self, seconds: float) -> None:
        """The wait that follows may last that long. Every `arm` is followed by `disarm`."""
        self.arm_until(self._loop.time() + seconds)

    def arm_until(self, deadline: float) -> None:
        """The same with a point in time of the event loop's clock."""
        self._deadline = deadline
        if deadline < self._due:
            if self._timer is not None:
                self._timer.cancel()
            self._schedule(deadline)

    def disarm(self) -> None:
        self._deadline = inf

    async def within(self, seconds: float, work: Awaitable[_T]) -> _T:
        """Await what may last that long. Raises TimeoutError, and what `interrupt` gives meanwhile.

        HTTP/1 writes the same out around its reads and writes, which are many.
        """
        self.arm(seconds)
        try:
            return await work
        except asyncio.CancelledError:
            if self.caught():
                raise TimeoutError from None
            raise
        finally:
            self.disarm()

    async def wait(self, work: Awaitable[_T]) -> _T:
        """Await what has limits of its own, or none. Raises what `interrupt` gives meanwhile.

        Interrupted by the work itself (a hook in it) just before it was done, it answers the result: whoever gave the
        reason left a trace of it, and the result may have to be closed.
        """
        self.arm(_FOREVER)
        try:
            result = await work
            if self._expired:
                await self._forget()
            return result
        except asyncio.CancelledError:
            self.caught()
            raise
        finally:
            self.disarm()

    async def _forget(self) -> None:
        """Take in the cancellation that is on its way to our own task."""
        self._reason = None
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            if not self.caught():
                raise

    def expire(self) -> None:
        """End the current wait now, if there is one."""
        if self._deadline != inf:
            self._deadline = inf
            self._expired = True
            self._task.cancel()

    def interrupt(self, reason: Exception) -> None:
        """End the current wait now, if there is one, with an exception of the caller's."""
        if self._deadline != inf:
            self._reason = reason
            self.expire()

    def caught(self) -> bool:
        """True if the CancelledError in hand is ours: the wait was overdue. False: somebody cancelled the task.

        Raises what `interrupt` gave as the reason.
        """
        if not self._expired:
            return False
        self._expired = False
        reason, self._reason = self._reason, None
        ours = self._task.uncancel() == 0
        if ours and reason is not None:
            raise reason from None
        return ours

    def now(self) -> float:
        return self._loop.time()

    def close(self) -> None:
        self._deadline = inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self, when: float) -> None:
        self._due = when
        self._timer = self._loop.call_at(when, self._look)

    def _look(self) -> None:
        self._timer = None
        self._due = inf
        if self._deadline == inf:
            return
        if self._deadline <= self._loop.time():
            self.expire()
        else:
            self._schedule(self._deadline)
