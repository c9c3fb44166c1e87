"""The real command in a process of its own, with its standard error read line by line."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.tools import Completed, curl

ROOT = Path(__file__).resolve().parents[2]

#: Nothing a test waits for takes longer.
SECONDS = 15.0

#: What no run may ever print.
ILL = ("Traceback", "never retrieved", "never awaited", "ResourceWarning", "unclosed", "RuntimeWarning")

_LISTENING = re.compile(r"listening on 127\.0\.0\.1:(\d+) for (HTTP and HTTPS|DNS)")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of standard error and when it was read (`time.monotonic`)."""

    text: str
    at: float


class RulesProxy:
    """`rulesproxy run …`, started and listening."""

    def __init__(self, process: asyncio.subprocess.Process, confdir: Path) -> None:
        self.process = process
        self.confdir = confdir
        self.lines: list[Line] = []
        self.port = self.dns_port = 0
        self._more = asyncio.Condition()
        self._ended = False
        self._reading = asyncio.create_task(self._read())

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def ca(self) -> Path:
        """The certificate its clients trust."""
        return self.confdir / "ca-cert.pem"

    @property
    def stderr(self) -> str:
        return "\n".join(line.text for line in self.lines)

    async def curl(self, *arguments: str, stdin: bytes = b"") -> Completed:
        """curl through the proxy, trusting its authority."""
        return await curl("--cacert", str(self.ca), *arguments, proxy=self.address, stdin=stdin)

    async def wait_for_line(self, pattern: str, after: int = 0, seconds: float = SECONDS) -> tuple[int, re.Match[str]]:
        """The first line from number `after` on in which the pattern is found: the number after it, and the match."""
        number = after
        try:
            async with asyncio.timeout(seconds), self._more:
                while True:
                    while number < len(self.lines):
                        number += 1
                        if match := re.search(pattern, self.lines[number - 1].text):
                            return number, match
                    assert not self._ended, f"ended without {pattern!r}:\n{self.stderr}"
                    await self._more.wait()
        except TimeoutError:
            raise AssertionError(f"no {pattern!r} in {seconds} s, lines {after} ff. of:\n{self.stderr}") from None

    async def wait_until_listening(self, listeners: int) -> None:
        after = 0
        for _ in range(listeners):
            after, match = await self.wait_for_line(_LISTENING.pattern, after)
            if match[2] == "DNS":
                self.dns_port = int(match[1])
            else:
                self.port = int(match[1])

    async def end(self) -> None:
        """SIGTERM; then it must end by itself with 0, having printed nothing ill."""
        try:
            if self.process.returncode is None:
                self.process.terminate()
            async with asyncio.timeout(SECONDS):
                await self.process.wait()
                await self._reading
        finally:
            if self.process.returncode is None:
                self.process.kill()
                await self.process.wait()
            self._reading.cancel()
        assert self.process.returncode == 0, f"exit status {self.process.returncode}:\n{self.stderr}"
        found = [what for what in ILL if what in self.stderr]
        assert not found, f"{found} in:\n{self.stderr}"

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            now = time.monotonic()
            async with self._more:
                self.lines.append(Line(line.decode().rstrip("\n"), now))
                self._more.notify_all()
        async with self._more:
            self._ended = True
            self._more.notify_all()


@asynccontextmanager
async def run_rulesproxy(confdir: Path, *arguments: str | Path, dns: bool = False, http: bool = True, dev: bool = True,
                         cwd: Path | None = None) -> AsyncIterator[RulesProxy]:
    """Start `rulesproxy run` on ephemeral ports, wait until it listens, and end it properly afterwards.

    `arguments` are rule files and options. `dev` runs Python's development mode, which reports what was not closed.
    """
    listeners = ["--listen", "127.0.0.1:0"] * http + ["--dns", "127.0.0.1:0"] * dns
    proxy = RulesProxy(await start(confdir, *arguments, *listeners, dev=dev, cwd=cwd), confdir)
    try:
        await proxy.wait_until_listening(http + dns)
        yield proxy
    finally:
        await proxy.end()


async def start(confdir: Path, *arguments: str | Path, dev: bool = True,
                cwd: Path | None = None) -> asyncio.subprocess.Process:
    """`rulesproxy run` as it is, with standard error on a pipe."""
    python = [sys.executable, *(["-X", "dev"] if dev else [])]
    return await asyncio.create_subprocess_exec(
        *python, "-m", "rulesproxy", "run", *map(str, arguments), "--confdir", str(confdir),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        env=environment(), cwd=cwd or confdir.parent)


async def run_to_end(confdir: Path, *arguments: str | Path) -> tuple[int, str]:
    """Exit status and standard error of a `rulesproxy run` that is to end by itself."""
    process = await start(confdir, *arguments)
    try:
        async with asyncio.timeout(SECONDS):
            _, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    text = err.decode()
    assert not [what for what in ILL if what in text], text
    return process.returncode, text


async def run_command(*arguments: str | Path) -> Completed:
    """Another sub-command, to its end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "rulesproxy", *map(str, arguments), stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment())
    async with asyncio.timeout(SECONDS):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Completed(process.returncode, out, err)


def environment() -> dict[str, str]:
    """Ours, with this checkout first and without what would lead the command elsewhere."""
    kept = {key: value for key, value in os.environ.items()
            if not key.lower().endswith("_proxy") and key not in ("RULESPROXY_CONFDIR", "PYTHONWARNINGS")}
    return kept | {"PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"}
