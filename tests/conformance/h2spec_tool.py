"""h2spec and h2specd, built from their Go module. Nothing of them is part of this repository."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

MODULE = "github.com/summerwind/h2spec"
VERSION = "v2.2.1+incompatible"
BUILD_SECONDS = 300
#: A case of h2spec waits up to 2 s; few of them have to.
RUN_SECONDS = 240
_NOISE = re.compile(r"\x1b\[[0-9;]*m|^accept tcp .*\n", re.MULTILINE)  # colours; listeners that close at the end


def built(command: str) -> Path:
    """The path of `h2spec` or `h2specd`; built once and kept beside the temporary files."""
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if go is None:
        pytest.skip("there is no Go to build h2spec with")
    folder = Path(tempfile.gettempdir()) / f"h2spec-{os.getuid()}-{VERSION.partition('+')[0]}"
    program = folder / "bin" / command
    if not program.exists():
        environment = {**os.environ, "GOPATH": str(folder), "GOBIN": str(folder / "bin"), "GOFLAGS": "-modcacherw"}
        done = subprocess.run([go, "install", f"{MODULE}/cmd/{command}@{VERSION}"], env=environment,
                              capture_output=True, text=True, timeout=BUILD_SECONDS, check=False)
        if done.returncode:
            pytest.skip(f"{command} cannot be built here: {done.stderr.strip()[-300:]}")
    return program


async def run(program: Path, *arguments: str) -> str:
    """What it printed, without colours. Ended when it takes too long."""
    process = await asyncio.create_subprocess_exec(
        program, *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT)
    try:
        async with asyncio.timeout(RUN_SECONDS):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return _NOISE.sub("", output.decode("utf-8", "replace"))


def summary(output: str) -> tuple[int, int, int, int]:
    """tests, passed, skipped, failed, as the last line says."""
    found = re.search(r"(\d+) tests?, (\d+) passed, (\d+) skipped, (\d+) failed", output)
    assert found, f"h2spec did not finish:\n{output[-2000:]}"
    tests, passed, skipped, failed = map(int, found.groups())
    return tests, passed, skipped, failed
