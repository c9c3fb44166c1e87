"""Server processes: started, awaited until they listen, ended, and how much processor time they used."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"


class BenchmarkError(Exception):
    """Something the benchmark cannot go on with; the message is for the person who runs it."""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port


class Server:
    """A child process in a process group of its own, listening on `port`. A context manager ends it."""

    def __init__(self, name: str, command: Sequence[str], port: int, log: Path, *,
                 environment: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
        self.name = name
        self.port = port
        self._log = log
        started = time.monotonic()
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
                env={**os.environ, **(environment or {})}, cwd=cwd)
        self._started = started

    def wait_until_listening(self, seconds: float) -> float:
        """Seconds from the start until connections are accepted. Raises BenchmarkError with what it printed."""
        while True:
            try:
                socket.create_connection((HOST, self.port), 1).close()
                return time.monotonic() - self._started
            except OSError:
                pass  # not yet
            if self._process.poll() is not None or time.monotonic() - self._started > seconds:
                said = self._log.read_text(errors="replace")[-2000:]
                self.close()
                raise BenchmarkError(f"{self.name} does not listen on {HOST}:{self.port}:\n{said}")
            time.sleep(0.02)

    def processor_seconds(self) -> float:
        """Processor time the process and those it started have used, user and system; 0 where /proc is missing."""
        ticks = 0
        for place in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = place.read_text().rpartition(")")[2].split()
            except OSError:  # it has ended
                continue
            if int(fields[2]) == self._process.pid:  # the process group
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, number)
            except ProcessLookupError:
                pass  # all of the group are gone
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                continue

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()
