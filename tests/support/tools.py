"""Run the tools people use (curl, dig, openssl …) against a proxy that lives in the test's own event loop."""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import dataclass

import pytest

SECONDS = 20.0


def require_tool(name: str) -> str:
    """The path of a system tool. Absent: the test is skipped and says so, but in CI it fails."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")
    if path is None:
        message = f"needs {name}, which is not installed"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path


@dataclass(frozen=True, slots=True)
class Completed:
    code: int
    out: bytes
    err: bytes

    @property
    def text(self) -> str:
        return self.out.decode("utf-8", "replace")


async def run_tool(name: str, *arguments: str, stdin: bytes = b"", timeout: float = SECONDS) -> Completed:
    """Run a tool to its end. It is killed, and TimeoutError raised, when it takes longer than `timeout` seconds."""
    process = await asyncio.create_subprocess_exec(
        require_tool(name), *arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE, env=_environment())
    try:
        async with asyncio.timeout(timeout):
            out, err = await process.communicate(stdin)
    except BaseException:
        process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    return Completed(process.returncode, out, err)


async def curl(*arguments: str, proxy: str | None = None, stdin: bytes = b"") -> Completed:
    """curl, silent and without the user's configuration; `proxy` as `host:port`."""
    through = ["--proxy", f"http://{proxy}"] if proxy else ["--noproxy", "*"]
    return await run_tool("curl", "-q", "--silent", "--show-error", "--max-time", str(SECONDS - 5), *through,
                          *arguments, stdin=stdin)


def _environment() -> dict[str, str]:
    """Without what would lead a tool to another proxy or another language."""
    return {key: value for key, value in os.environ.items()
            if not key.lower().endswith("_proxy")} | {"LC_ALL": "C"}
