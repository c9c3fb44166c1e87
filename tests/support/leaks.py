"""After a socket test nothing may be left: no task, no descriptor."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

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


def _kind(what: str) -> str:
    """`socket`, `pipe`, `anon_inode`; a file is a kind of its own."""
    return what.partition(":[")[0]


async def _let_the_loop_open_its_own() -> None:
    """uvloop keeps a descriptor in reserve from its first listener on."""
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    server.close()
    await server.wait_closed()
    await asyncio.sleep(0)


@asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """Fail when tasks or descriptors made inside are still there afterwards."""
    await _let_the_loop_open_its_own()
    tasks = asyncio.all_tasks()
    descriptors = open_descriptors()
    yield

    def left_tasks() -> set[Any]:
        return asyncio.all_tasks() - tasks - {asyncio.current_task()}

    def left_descriptors() -> dict[str, str]:
        now = open_descriptors()
        # Counted by kind: uvloop makes its own socket pair anew for each run of the loop.
        surplus = Counter(map(_kind, now.values())) - Counter(map(_kind, descriptors.values()))
        return {name: what for name, what in now.items() if surplus[_kind(what)] and descriptors.get(name) != what}

    await until(lambda: not left_tasks() and not left_descriptors())
    assert not left_tasks(), f"tasks left behind: {left_tasks()}"
    assert not left_descriptors(), f"descriptors left behind: {left_descriptors()}"
