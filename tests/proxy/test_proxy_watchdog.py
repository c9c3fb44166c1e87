"""The watchdog: waits end when they are overdue, and only then."""

from __future__ import annotations

import asyncio

import pytest

from rulesproxy.proxy.watchdog import Watchdog

SECONDS = 5.0


async def guarded(watchdog: Watchdog, wait: float, seconds: float) -> str:
    watchdog.arm(seconds)
    try:
        await asyncio.sleep(wait)
    except asyncio.CancelledError:
        if watchdog.caught():
            return "overdue"
        raise
    finally:
        watchdog.disarm()
    return "in time"


async def test_a_wait_that_is_overdue_ends_and_the_task_goes_on() -> None:
    watchdog = Watchdog()
    assert await guarded(watchdog, SECONDS, 0.05) == "overdue"
    assert await guarded(watchdog, 0.01, SECONDS) == "in time"
    assert await guarded(watchdog, SECONDS, 0.05) == "overdue"  # sooner than the timer that is still running
    await asyncio.sleep(0.01)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    watchdog.close()


async def test_an_old_deadline_does_not_end_a_later_wait() -> None:
    watchdog = Watchdog()
    assert await guarded(watchdog, 0, 0.05) == "in time"
    await asyncio.sleep(0.1)  # not guarded: the timer fires meanwhile and must leave the task alone
    assert await guarded(watchdog, 0.1, SECONDS) == "in time"
    watchdog.close()


async def test_expire_ends_only_a_wait() -> None:
    watchdog = Watchdog()
    watchdog.expire()
    asyncio.get_running_loop().call_soon(watchdog.expire)
    assert await guarded(watchdog, SECONDS, SECONDS) == "overdue"
    watchdog.close()


async def test_a_cancellation_from_outside_is_not_taken_for_a_timeout() -> None:
    async def work() -> str:
        watchdog = Watchdog()
        try:
            return await guarded(watchdog, SECONDS, SECONDS)
        finally:
            watchdog.close()

    task = asyncio.ensure_future(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_together_with_a_timeout_wins() -> None:
    watchdogs: list[Watchdog] = []

    async def work() -> str:
        watchdogs.append(Watchdog())
        try:
            return await guarded(watchdogs[0], SECONDS, SECONDS)
        finally:
            watchdogs[0].close()

    task = asyncio.ensure_future(work())
    await asyncio.sleep(0)
    watchdogs[0].expire()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_interrupted_wait_raises_the_reason_and_the_task_goes_on() -> None:
    class Left(Exception):
        pass

    async def waiting() -> str:
        watchdog = Watchdog()
        asyncio.get_running_loop().call_soon(watchdog.interrupt, Left("gone"))
        try:
            await watchdog.wait(asyncio.sleep(SECONDS))
        except Left as exc:
            await asyncio.sleep(0)
            watchdog.interrupt(Left("nobody waits now"))
            return await watchdog.wait(asyncio.sleep(0, result=str(exc)))
        finally:
            watchdog.close()
        return "not interrupted"

    async with asyncio.timeout(SECONDS):
        assert await asyncio.create_task(waiting()) == "gone"
