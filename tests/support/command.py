"""`rulesproxy` as people run it: a process of its own, its output, its signals, its exit status."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.tools import Completed, curl

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-W", "always::ResourceWarning", "-m", "rulesproxy")
SECONDS = 20.0
#: What must never be on standard error of a process that works (reliability.md, end).
_ALARMS = ("Traceback", "never retrieved", "never awaited", "ResourceWarning")


def environment(confdir: Path) -> dict[str, str]:
    """The process's environment: this checkout, and a configuration folder of the test's own."""
    kept = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    return kept | {"PYTHONPATH": str(ROOT), "RULESPROXY_CONFDIR": str(confdir), "PYTHONUNBUFFERED": "1"}


async def rulesproxy(*arguments: str | Path, cwd: Path, timeout: float = SECONDS,
                     traceback: bool = False) -> Completed:
    """Run a command to its end. Nothing alarming may be on its standard error, unless a `traceback` is wanted."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *map(str, arguments), cwd=cwd, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE, env=environment(cwd / "conf"))
    try:
        async with asyncio.timeout(timeout):
            out, err = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    assert traceback or not alarms(err.decode()), err.decode()
    return Completed(process.returncode, out, err)


def alarms(text: str) -> list[str]:
    return [alarm for alarm in _ALARMS if alarm in text]


class RunningCommand:
    """A process that goes on; `lines` is its standard error so far. Read standard output with `printed`."""

    def __init__(self, process: asyncio.subprocess.Process, cwd: Path) -> None:
        self._process = process
        self.cwd = cwd
        self.lines: list[str] = []
        self._more = asyncio.Condition()
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            async with self._more:
                self.lines.append(line.decode().rstrip("\n"))
                self._more.notify_all()
        async with self._more:
            self._more.notify_all()

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    async def line(self, part: str, after: int = 0) -> str:
        """The first line with `part`, waited for. Fails when the process ends without it."""
        async with asyncio.timeout(SECONDS), self._more:
            while True:
                for line in self.lines[after:]:
                    if part in line:
                        return line
                assert not (self._process.stderr and self._process.stderr.at_eof()), f"no {part!r} in:\n{self.text}"
                await self._more.wait()

    async def printed(self, part: str) -> str:
        """The next line on standard output with `part`."""
        assert self._process.stdout is not None
        async with asyncio.timeout(SECONDS):
            while line := (await self._process.stdout.readline()).decode():
                if part in line:
                    return line
        raise AssertionError(f"nothing with {part!r} was printed; standard error:\n{self.text}")

    async def address(self, what: str = "HTTP") -> str:
        """`host:port` of the listener for HTTP or DNS."""
        found = re.search(r"listening on (\S+) for", await self.line(f"for {what}"))
        assert found is not None
        return found[1]

    async def curl(self, *arguments: str) -> Completed:
        """curl through the proxy, trusting its authority."""
        return await curl("--cacert", str(self.cwd / "conf" / "ca-cert.pem"), *arguments, proxy=await self.address())

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def ended(self) -> int:
        """The exit status, waited for."""
        async with asyncio.timeout(SECONDS):
            await self._process.wait()
            await self.reading
        assert self._process.returncode is not None
        return self._process.returncode

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self.reading


@asynccontextmanager
async def running(*arguments: str | Path, cwd: Path, prefix: tuple[str, ...] = ()) -> AsyncIterator[RunningCommand]:
    """`rulesproxy ARGUMENTS` while the block runs, after the command `prefix`, as `ip netns exec NAME` is one. What it
    leaves on standard error must not be alarming."""
    process = await asyncio.create_subprocess_exec(
        *prefix, *COMMAND, *map(str, arguments), cwd=cwd, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment(cwd / "conf"))
    command = RunningCommand(process, cwd)
    try:
        yield command
    finally:
        await command.kill()
        # The pipe that nobody reads would be left to the garbage collector.
        process._transport.close()  # type: ignore[attr-defined]
    assert not alarms(command.text), command.text
