"""The watcher of rule folders ends with whoever started it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from rulesproxy.reload import _Watch


async def test_a_watch_given_up_as_it_begins_leaves_nothing_behind(tmp_path: Path) -> None:
    entering = asyncio.create_task(_Watch([str(tmp_path)], asyncio.Event()).__aenter__())
    await asyncio.sleep(0)  # it has started to watch, and has not been entered yet
    entering.cancel()
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await entering
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "rules watch"]
