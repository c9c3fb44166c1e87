"""Every test of this folder runs on asyncio's own loop and, when it is installed, on uvloop, for 20 s at most."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def pytest_asyncio_loop_factories(
        config: pytest.Config, item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    try:
        import uvloop
    except ImportError:
        return factories
    return factories | {"uvloop": uvloop.new_event_loop}


def pytest_itemcollected(item: pytest.Item) -> None:
    test = getattr(item, "obj", None)
    if not inspect.iscoroutinefunction(test) or not Path(item.path).is_relative_to(Path(__file__).parent):
        return

    @functools.wraps(test)
    async def bounded(*args: Any, **kwargs: Any) -> None:
        async with asyncio.timeout(20):
            await test(*args, **kwargs)

    item.obj = bounded  # type: ignore[attr-defined]
