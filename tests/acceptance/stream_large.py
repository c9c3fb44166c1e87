"""Large bodies through the real command, and how much memory it took.

    .venv/bin/python -m tests.acceptance.stream_large            2 GiB each way
    .venv/bin/python -m tests.acceptance.stream_large --size 256M

Each case goes through a process of its own, fresh from its start: what grows is counted from there. The exit status is
1 if any grew by more than 32 MiB.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
import sys
import tempfile
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from tests.acceptance.command import run_rulesproxy
from tests.acceptance.load import connect
from tests.support.certificates import OriginCA

MIB = 1 << 20
BOUND = 32 * MIB
#: A sender that made no progress for so long is blocked.
STILL_SECONDS = 1.0
#: Seconds in which a MiB must have passed, on a slow machine, through TLS.
PER_MIB = 0.25

BLOCK = bytes(range(256)) * 1024  # 256 KiB
HOST = "big.test"

#: `mark` makes the proxy look into the HTTPS of the host.
MARKED = """\
version: 1
rules:
  - name: mark
    match: {host: big.test}
    action: {rewrite: {headers: {set: {x-mark: "yes"}}, response_headers: {set: {x-mark: "yes"}}}}
  - name: to-the-test
    match: {host: [big.test, small.test]}
    action: {spoof_dns: {A: 127.0.0.1}}
"""
BUFFERING = MARKED + """\
  - name: buffers
    match: {host: small.test}
    action: {rewrite: {body: {replace: {regex: a, with: b}}, response_body: {replace: {regex: a, with: b}}}}
"""


@dataclass(frozen=True)
class Case:
    """`way`: "down" or "up". `stopped`: the receiving side reads nothing of the body."""

    scheme: str
    way: str
    buffering: bool
    stopped: bool

    def __str__(self) -> str:
        return (f"{self.scheme:<5} {self.way:<4} {'buffering elsewhere' if self.buffering else 'streaming only':<19} "
                f"{'receiver stopped' if self.stopped else 'to the end'}")


@dataclass(frozen=True)
class Outcome:
    case: Case
    passed: int  # bytes that went into the proxy
    growth: int  # bytes: peak resident size during the transfer less that before
    seconds: float

    def __str__(self) -> str:
        return (f"{self.case!s:<48} {self.passed / MIB:8,.0f} MiB in {self.seconds:6.1f} s   "
                f"grew by {self.growth / MIB:5.1f} MiB")


def cases() -> Iterator[Case]:
    for scheme, way, buffering in product(("http", "https"), ("down", "up"), (False, True)):
        yield Case(scheme, way, buffering, stopped=False)
    for scheme, way in product(("http", "https"), ("down", "up")):
        yield Case(scheme, way, buffering=False, stopped=True)


# --- both ends ---------------------------------------------------------------------------------------------------


class End:
    """One side of a transfer: what it has sent or received so far."""

    def __init__(self) -> None:
        self.size = self.crc = 0

    async def send(self, writer: asyncio.StreamWriter, size: int) -> None:
        while self.size < size:
            piece = BLOCK[:size - self.size]
            writer.write(piece)
            await writer.drain()
            self._count(piece)

    async def receive(self, reader: asyncio.StreamReader, size: int) -> None:
        while self.size < size:
            piece = await reader.read(min(len(BLOCK), size - self.size))
            assert piece, f"cut after {self.size} of {size} bytes"
            self._count(piece)

    def _count(self, piece: bytes) -> None:
        self.size += len(piece)
        self.crc = zlib.crc32(piece, self.crc)


class Origin:
    """Answers GET with a body of `size` bytes and POST, when it has read the body, with none."""

    def __init__(self, size: int, stopped: bool) -> None:
        self.end = End()
        self._size = size
        self._stopped = stopped

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"x-mark: yes" in head
            if head.startswith(b"GET"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % self._size)
                await self.end.send(writer, self._size)
            else:
                if self._stopped:
                    await asyncio.Event().wait()
                await self.end.receive(reader, self._size)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass  # a stopped transfer is over
        finally:
            writer.close()


@asynccontextmanager
async def run_origin(origin: Origin, tls: ssl.SSLContext | None) -> AsyncIterator[int]:
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.create_task(origin.serve(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


async def transfer(case: Case, size: int, proxy_port: int, port: int, trust: ssl.SSLContext, origin: Origin) -> int:
    """Do it, or until nothing moves any more when the receiver is stopped. Answers the bytes sent."""
    tls_to = f"{HOST}:{port}" if case.scheme == "https" else ""
    target = "/" if tls_to else f"http://{HOST}:{port}/"
    reader, writer = await connect(proxy_port, tls_to, trust)
    client = End()
    try:
        length = f"Content-Length: {size}\r\n" if case.way == "up" else ""
        method = "POST" if case.way == "up" else "GET"
        writer.write(f"{method} {target} HTTP/1.1\r\nHost: {HOST}:{port}\r\n{length}\r\n".encode())
        sender = client if case.way == "up" else origin.end
        sending = asyncio.create_task(client.send(writer, size)) if case.way == "up" else None
        if case.stopped:
            await _until_blocked(sender, size)
            if sending is not None:
                sending.cancel()
                await asyncio.wait([sending])
            return sender.size
        if sending is not None:
            await sending
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        assert b"x-mark: yes" in head
        if case.way == "down":
            await client.receive(reader, size)
    finally:
        writer.transport.abort()
    assert (client.size, client.crc) == (origin.end.size, origin.end.crc), "what arrived is not what was sent"
    return sender.size


async def _until_blocked(sender: End, size: int) -> None:
    seen, since = -1, time.monotonic()
    while time.monotonic() - since < STILL_SECONDS:
        await asyncio.sleep(0.05)
        if sender.size != seen:
            seen, since = sender.size, time.monotonic()
    assert 0 < sender.size < size, f"{sender.size} bytes were sent to a receiver that reads nothing"


# --- memory ------------------------------------------------------------------------------------------------------


def resident(pid: int, which: str) -> int:
    """`VmRSS`, or `VmHWM`, its peak, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{which}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(which)


def reset_peak(pid: int) -> None:
    """The peak is the present size from here on (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


async def measure(case: Case, size: int, folder: Path, ca: OriginCA) -> Outcome:
    """Run one case through a fresh process."""
    folder.mkdir()
    rules = folder / "rules.yaml"
    rules.write_text(BUFFERING if case.buffering else MARKED)
    tls = ca.server_context(HOST) if case.scheme == "https" else None
    origin = Origin(size, case.stopped)
    async with (run_rulesproxy(folder / "conf", rules, "--set", f"upstream_ca={ca.pem}", "--set", "grace=0",
                               dev=False) as proxy,
                run_origin(origin, tls) as port):
        trust = ssl.create_default_context(cafile=proxy.ca)
        pid = proxy.process.pid
        reset_peak(pid)
        before, began = resident(pid, "VmRSS"), time.monotonic()
        async with asyncio.timeout(30 + PER_MIB * size / MIB):
            passed = await transfer(case, size, proxy.port, port, trust, origin)
        return Outcome(case, passed, resident(pid, "VmHWM") - before, time.monotonic() - began)


# --- by hand -----------------------------------------------------------------------------------------------------


def _size(text: str) -> int:
    units = {"K": 1 << 10, "M": MIB, "G": 1 << 30}
    unit = units.get(text[-1:].upper())
    return int(text[:-1]) * unit if unit else int(text)


async def _run(size: int) -> int:
    worst = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ca = OriginCA(folder)
        for number, case in enumerate(cases()):
            outcome = await measure(case, size, folder / str(number), ca)
            print(outcome, flush=True)
            worst = max(worst, outcome.growth)
    print(f"worst: {worst / MIB:.1f} MiB, allowed: {BOUND // MIB} MiB")
    return int(worst > BOUND)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=_size, default=2 << 30, help="bytes of each body, as 256M or 2G (default 2G)")
    return asyncio.run(_run(parser.parse_args().size))


if __name__ == "__main__":
    sys.exit(main())
