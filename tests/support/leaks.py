"""After a socket test nothing may be left: no task, no descriptor."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

#: Closing takes a few turns of the event loop, and a child process a moment to be reaped.
SETTLE_SECONDS = 3.0


def open_descriptors() -> dict[str, str]:
    """Descriptor → what it is, of this process."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # the one that listed the folder
            continue
    return found


async def until(condition: Callable[[], bool], seconds: float = SETTLE_SECONDS) -> bool:
    """Let the event loop turn until the condition holds; False when it does not in time."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(0.005)
    return True


@asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """Fail when tasks or descriptors made inside are still there afterwards."""
    tasks = asyncio.all_tasks()
    descriptors = open_descriptors()
    yield

    def left_tasks() -> set[asyncio.Task[object]]:
        return asyncio.all_tasks() - tasks - {asyncio.current_task()}  # type: ignore[arg-type]

    def left_descriptors() -> dict[str, str]:
        return {name: what for name, what in open_descriptors().items()
                if descriptors.get(name) != what and not what.startswith(("anon_inode:", "/proc"))}

    await until(lambda: not left_tasks() and not left_descriptors())
    assert not left_tasks(), f"tasks left behind: {left_tasks()}"
    assert not left_descriptors(), f"descriptors left behind: {left_descriptors()}"
