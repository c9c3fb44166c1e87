"""Acceptance line 4, with less traffic than by hand (see mixed_traffic.py), the proxy in Python's development mode."""

from __future__ import annotations

import asyncio
import sys

import pytest

from tests.acceptance.command import ROOT, environment

EXCHANGES = 4000
#: MiB. Few rounds on a busy machine: by hand, over many, it is 2. This finds what leaks with every exchange.
BOUND = 6


@pytest.mark.slow
@pytest.mark.parametrize("addon", ["", "--bare"], ids=["every hook handled", "connections shared"])
async def test_mixed_traffic_leaves_nothing_behind(addon: str, no_leaks: None) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.acceptance.mixed_traffic", "--dev", "--seed=3", f"--exchanges={EXCHANGES}",
        "--rounds=5", f"--bound={BOUND}", *filter(None, [addon]), cwd=ROOT, env=environment(),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
    try:
        async with asyncio.timeout(300):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, out.decode()
    assert b"nothing was left behind" in out
