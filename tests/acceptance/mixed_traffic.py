"""Traffic over all protocols at once, a tenth of it broken off, and what it leaves behind in the proxy.

    .venv/bin/python -m tests.acceptance.mixed_traffic                          200,000 exchanges
    .venv/bin/python -m tests.acceptance.mixed_traffic --exchanges 20000 --bare

The proxy, the servers and the clients are three processes. The clients work in rounds; after each everything is
closed and the proxy is asked what is alive in it. The first round warms up. The exit status is 1 if anything was
answered wrongly, if a flow, session, task or descriptor is left, or if resident memory is not flat within 2 MiB over
the second half of the rounds. `--bare` leaves out the addon that handles every hook, so that connections to servers are
shared between clients.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import ssl
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.acceptance import mixed_http as http
from tests.acceptance import mixed_raw as raw
from tests.acceptance.command import ILL, ROOT, environment
from tests.acceptance.mixed_world import SECONDS, Books, World
from tests.support.certificates import OriginCA

MIB = 1 << 20
BOUND = 2 * MIB
ROUNDS = 20
#: How long the proxy may take to notice that everybody has left: its shortest timeouts are the options below.
SETTLE_SECONDS = 40.0

RULES = """\
version: 1
rules:
  - {name: names, match: {domain: test}, action: {spoof_dns: {A: 127.0.0.1}}}
  - {name: relay, match: {host: relay.test}, action: {tls: passthrough}}
  - name: mark
    match: {host: [h1.test, h2.test, h2c.test, x.test]}
    action: {rewrite: {headers: {set: {x-mark: "yes"}}, response_headers: {set: {x-mark: "yes"}}}}
  - name: whole
    match: {host: [h1.test, h2.test], path: /c/1000}
    action: {rewrite: {response_body: {replace: {text: no-such, with: thing}}}}
"""
OPTIONS = ("udp_timeout=1", "dns_timeout=1", "idle_timeout=20", "body_timeout=10", "head_timeout=3", "tls_timeout=10")

#: Kinds of sessions, with their shares of all exchanges.
KINDS: dict[str, tuple[int, Callable[[World, str], Awaitable[None]]]] = {
    "HTTP/1 kept": (10, http.http1(http.PLAIN)),
    "HTTP/1 pipelined": (8, http.http1(http.PLAIN, pipelined=True)),
    "HTTP/1 reverse": (6, http.http1(http.REVERSE)),
    "HTTP/1 through SOCKS5": (6, http.http1(http.SOCKS)),
    "HTTPS kept": (4, http.http1(http.DECRYPTED)),
    "HTTPS new": (4, http.http1(http.DECRYPTED, 1)),
    "HTTP/1 to HTTP/2": (4, http.http1(http.TO_HTTP2)),
    "HTTP/2": (4, http.http2(http.TO_HTTP2)),
    "HTTP/2 through SOCKS5": (2, http.http2(http.SOCKS_TLS)),
    "HTTP/2 to HTTP/1": (4, http.http2(http.DECRYPTED)),
    "HTTP/2 to the proxy port": (2, http.http2(http.PRIOR)),
    "HTTP/2 without TLS": (2, http.http2(http.PRIOR_TUNNEL)),
    "HTTP/2, rough servers": (2, http.http2(http.ROUGH)),
    "HTTP/2 calls": (2, http.http2(http.TO_HTTP2, calls=True)),
    "HTTPS relayed": (2, http.http1(http.RELAYED, 5)),
    "WebSocket": (8, raw.websocket()),
    "WebSocket in TLS": (3, raw.websocket(http.DECRYPTED)),
    "WebSocket over HTTP/2": (3, raw.websocket_over_http2),
    "TCP in a tunnel": (4, raw.tcp("regular")),
    "TCP, SOCKS5": (6, raw.tcp("socks5")),
    "TCP, reverse": (6, raw.tcp("reverse:tcp")),
    "TCP, server first": (2, raw.tcp("reverse:greeting", first=True)),
    "UDP": (8, raw.udp),
    "DNS over UDP": (8, raw.dns_udp),
    "DNS over TCP": (4, raw.dns_tcp),
}

#: Of these modules nothing may be alive that was not before the traffic, but for what is remembered, in bounds: of
#: servers their TLS sessions and that they speak HTTP/1, of DNS over UDP the last clients.
_LIVE = ("rulesproxy.model.", "rulesproxy.proxy.", "rulesproxy.net.", "rulesproxy.codecs.", "h2.", "wsproto.")
_KEPT = ("Target", "NameAnswer", "_Entry")
_CLIENT, _DNS_CLIENTS = "rulesproxy.model.connection.Client", 1024

#: Hooks that cannot be missing in such traffic.
HEARD = (
    "client_connected", "client_disconnected", "server_connect", "server_connected", "server_disconnected",
    "http_connect", "http_connected", "tls_clienthello", "tls_start_client", "tls_established_client",
    "tls_start_server", "tls_established_server", "requestheaders", "request", "responseheaders", "response", "error",
    "websocket_start", "websocket_message", "websocket_end", "tcp_start", "tcp_message", "tcp_end", "tcp_error",
    "udp_start", "udp_message", "udp_end", "dns_request", "dns_response", "dns_error",
)


@dataclass(frozen=True)
class Sample:
    """The proxy after a round, everybody gone."""

    exchanges: int
    seconds: float
    resident: int
    report: dict[str, Any]


class Child:
    """A process that answers a line with a line of JSON."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def ask(self, question: str) -> Any:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(question.encode() + b"\n")
        return json.loads(await asyncio.wait_for(self.process.stdout.readline(), SECONDS))

    async def told(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(await asyncio.wait_for(self.process.stdout.readline(), SECONDS))


@asynccontextmanager
async def child(*arguments: str | Path, log: Path, dev: bool = False) -> AsyncIterator[Child]:
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *(["-X", "dev"] if dev else []), "-m", *map(str, arguments), cwd=ROOT, stderr=stderr,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=environment())
    try:
        yield Child(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        process._transport.close()  # type: ignore[attr-defined]


class Run:
    """`run` once; then `faults` says what is wrong, if anything is."""

    def __init__(self, folder: Path, *, exchanges: int, rounds: int = ROUNDS, workers: int = 24, seed: int = 1,
                 aborts: float = 0.1, bare: bool = False, dev: bool = False, kinds: list[str] | None = None,
                 bound: int = BOUND, reload: float = 0.0, say: Callable[[str], None] = print) -> None:
        self.folder = folder
        self.books = Books()
        self.samples: list[Sample] = []
        self.faults: list[str] = []
        self.fired: Counter[str] = Counter()
        self._base: dict[str, Any] = {}
        self._exchanges, self._rounds, self._workers = exchanges, rounds, workers
        self._rng = random.Random(seed)
        self._aborts, self._bare, self._dev = aborts, bare, dev
        self._kinds = {name: KINDS[name] for name in kinds or KINDS}
        self._bound = bound
        self._reload = reload
        self._say = say

    async def run(self) -> None:
        ca = OriginCA(self.folder)
        leaf = ca.leaf("h1.test", "h2.test", "x.test", "relay.test")
        (self.folder / "rules").mkdir()
        rules = self.folder / "rules" / "rules.yaml"
        rules.write_text(RULES)
        async with child("tests.acceptance.mixed_origins", leaf, log=self.folder / "origins.log") as origins:
            ports = await origins.told()
            settings = (*OPTIONS, f"upstream_ca={ca.pem}", f"resolvers=127.0.0.1:{ports['dns']}")
            async with child("tests.acceptance.mixed_proxy", rules, "--confdir", self.folder / "conf",
                             *(f"--mode={mode}@127.0.0.1:0" for mode in _modes(ports)),
                             *(f"--set={setting}" for setting in settings), *(["--bare"] if self._bare else []),
                             log=self.folder / "proxy.log", dev=self._dev) as proxy:
                await self._drive(proxy, origins, ports, ca)
        log = (self.folder / "proxy.log").read_text(errors="replace")
        self.faults += [f"the proxy said {what!r}, see {self.folder}/proxy.log" for what in ILL if what in log]

    async def _drive(self, proxy: Child, origins: Child, ports: dict[str, int], ca: OriginCA) -> None:
        await proxy.ask("report")  # the first one imports and opens what later ones use
        self._base = await proxy.ask("report")
        world = World(_named(await proxy.ask("ports")), ports, _trust(self.folder / "conf" / "ca-cert.pem", ca.pem),
                      self._rng, self.books, self._aborts)
        for number in range(self._rounds):
            begun = time.monotonic()
            saving = asyncio.create_task(self._save_rules()) if self._reload else None
            await self._round(world, self._exchanges * (number + 1) // self._rounds)
            if saving is not None:
                saving.cancel()
                self._save(f"round {number}")  # what was open at the last reload is looked at again at the next
            seconds = time.monotonic() - begun
            await origins.ask("drop")
            report = await self._settled(proxy)
            sample = Sample(self.books.exchanges, seconds, report["resident"], report)
            self.samples.append(sample)
            self._say(f"round {number + 1:2}: {sample.exchanges:7,} exchanges, {self.books.aborted.total():6,} broken "
                      f"off, {seconds:5.1f} s, resident {sample.resident / MIB:6.2f} MiB, "
                      f"{len(self.books.failures)} failures")
        self._judge(self.samples[-1].report)
        for name in self._left(self.samples[-1].report):
            if "." in name:
                self.faults += [f"what holds {name}:", *map("  {}".format, await proxy.ask(f"holders {name}"))]
        assert proxy.process.stdin is not None
        proxy.process.stdin.write(b"stop\n")
        self.fired = Counter((await proxy.told())["fired"])
        if await asyncio.wait_for(proxy.process.wait(), SECONDS):
            self.faults.append(f"the proxy ended with {proxy.process.returncode}")

    async def _round(self, world: World, until: int) -> None:
        async def work() -> None:
            while self.books.exchanges < until and len(self.books.failures) < 50:
                name = self._next_kind()
                try:
                    async with asyncio.timeout(SECONDS):
                        await self._kinds[name][1](world, name)
                except Exception as exc:
                    self.books.failures.append(f"{name}: {type(exc).__name__}: {exc} {_where(exc)}")

        await asyncio.gather(*(work() for _ in range(self._workers)))

    async def _save_rules(self) -> None:
        """Again and again, each time with another value."""
        for number in itertools.count():
            await asyncio.sleep(self._reload)
            self._save(str(number))

    def _save(self, mark: str) -> None:
        (self.folder / "rules" / "rules.yaml").write_text(RULES.replace('x-mark: "yes"', f'x-mark: "{mark}"'))

    def _next_kind(self) -> str:
        """One of those that are behind their share."""
        books = self.books
        behind = sorted(self._kinds, key=lambda name: (books.done[name] + books.aborted[name]) / self._kinds[name][0])
        return self._rng.choice(behind[:max(3, len(behind) // 3)])

    async def _settled(self, proxy: Child) -> dict[str, Any]:
        """The report once nothing of what traffic makes is alive, or the last one before patience ends."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            report: dict[str, Any] = await proxy.ask("report")
            if not self._left(report) or time.monotonic() > deadline:
                return report
            await asyncio.sleep(0.5)

    def _left(self, report: dict[str, Any]) -> dict[str, int]:
        """What there is more of than before the traffic."""
        objects = {name: count - self._base["objects"].get(name, 0) for name, count in report["objects"].items()
                   if name.startswith(_LIVE) and name.rpartition(".")[2] not in _KEPT}
        if objects.get(_CLIENT, 0) <= _DNS_CLIENTS:
            objects.pop(_CLIENT, None)
        objects["tasks"] = report["tasks"] - self._base["tasks"]
        objects["sessions"] = report["sessions"]
        for kind in report["descriptors"]:
            objects[f"descriptor {kind}"] = report["descriptors"][kind] - self._base["descriptors"].get(kind, 0)
        return {name: count for name, count in objects.items() if count > 0}

    # --- judgement --------------------------------------------------------------------------------------------

    def _judge(self, report: dict[str, Any]) -> None:
        self.faults += self.books.failures
        self.faults += [f"left behind: {count} × {name}" for name, count in self._left(report).items()]
        if self.drift > self._bound:
            self.faults.append(f"resident memory moved by {self.drift / MIB:.2f} MiB over the second half")
        share = self.books.aborted.total() / max(1, self.books.exchanges)
        if not self._aborts * 0.8 < share < self._aborts * 1.8:
            self.faults.append(f"{share:.1%} were broken off")

    @property
    def drift(self) -> int:
        """Bytes between the least and the most resident memory of the second half."""
        half = [sample.resident for sample in self.samples[len(self.samples) // 2:]]
        return max(half) - min(half)

    def missing(self) -> list[str]:
        """What traffic of all kinds must have set off, and did not."""
        return [f"no {name} was brought to its end" for name in self._kinds if not self.books.done[name]] + [
            f"{hook} never fired" for hook in HEARD if not self.fired[hook] and not self._bare]

    def unbalanced(self) -> list[str]:
        """Hooks that come in pairs and did not."""
        fired = self.fired
        pairs = {("client_connected",): ("client_disconnected",), ("requestheaders",): ("response", "error"),
                 ("server_connect",): ("server_connected", "server_connect_error"),
                 ("server_connected",): ("server_disconnected",), ("tcp_start",): ("tcp_end", "tcp_error"),
                 ("udp_start",): ("udp_end", "udp_error"), ("websocket_start",): ("websocket_end",),
                 ("http_connect",): ("http_connected", "http_connect_error"),
                 ("tls_start_client",): ("tls_established_client", "tls_failed_client"),
                 ("tls_start_server",): ("tls_established_server", "tls_failed_server")}
        return [f"{fired[first[0]]} {first[0]}, but {sum(fired[hook] for hook in then)} {' + '.join(then)}"
                for first, then in pairs.items() if fired[first[0]] != sum(fired[hook] for hook in then)]


def _where(exc: BaseException) -> str:
    """The lines of ours that it went through, the innermost last."""
    frames = traceback.extract_tb((exc.__cause__ or exc).__traceback__)
    return " ".join(f"{Path(frame.filename).stem}:{frame.lineno}" for frame in frames if "mixed_" in frame.filename)


def _modes(ports: dict[str, int]) -> list[str]:
    there = "127.0.0.1:{}".format
    return ["regular", "socks5", f"reverse:http://{there(ports['h1'])}", f"reverse:tcp://{there(ports['tcp'])}",
            f"reverse:tcp://{there(ports['greeting'])}", f"reverse:udp://{there(ports['udp'])}", "dns"]


def _named(listening: list[tuple[str, int]]) -> dict[str, int]:
    """TCP modes come in their order."""
    ports = [port for _, port in listening]
    kinds = [mode.partition("@")[0] for mode, _ in listening]
    named = dict(zip(("regular", "socks5", "reverse:http", "reverse:tcp", "reverse:greeting"), ports, strict=False))
    for kind, port in zip(kinds[5:], ports[5:], strict=True):
        named["dns" if kind.startswith("dns") else "reverse:udp"] = port
    return named


def _trust(proxy: Path, origins: Path) -> dict[str, ssl.SSLContext]:
    trust = {}
    for alpn, authority in (("h2", proxy), ("http/1.1", proxy), ("relay", origins)):
        context = trust[alpn] = ssl.create_default_context(cafile=authority)
        context.set_alpn_protocols(["h2" if alpn == "h2" else "http/1.1"])
    return trust


def summary(run: Run) -> str:
    """A table for people."""
    books = run.books
    lines = [f"{'':<28}{'done':>9}{'broken off':>12}"]
    for name in sorted(books.done.keys() | books.aborted.keys()):
        lines.append(f"{name:<28}{books.done[name]:9,}{books.aborted[name]:12,}")
    lines.append(f"{'together':<28}{books.done.total():9,}{books.aborted.total():12,}")
    lines.append(f"and {books.messages:,} messages in conversations; {books.collateral} cut by another's abort")
    middle, last = run.samples[len(run.samples) // 2], run.samples[-1]
    lines.append(f"resident: {middle.resident / MIB:.2f} MiB at the half, {last.resident / MIB:.2f} at the end, "
                 f"{run.drift / MIB:.2f} MiB between least and most")
    return "\n".join(lines)


async def _main(args: argparse.Namespace) -> int:
    folder = Path(tempfile.mkdtemp(prefix="mixed-"))
    run = Run(folder, exchanges=args.exchanges, rounds=args.rounds, workers=args.workers, seed=args.seed,
              bare=args.bare, dev=args.dev, kinds=args.kind, bound=round(args.bound * MIB),
              reload=args.reload)
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # connections that were reset on purpose
    await run.run()
    print(summary(run))
    faults = run.faults + run.unbalanced() + ([] if args.kind else run.missing())
    print("\n".join(fault[:400] for fault in faults) or "nothing was left behind", f"(logs in {folder})")
    return 1 if faults else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exchanges", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--workers", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bare", action="store_true", help="without the addon that handles every hook")
    parser.add_argument("--dev", action="store_true", help="the proxy in Python's development mode")
    parser.add_argument("--bound", type=float, default=BOUND / MIB, help="MiB by which resident memory may move")
    parser.add_argument("--reload", type=float, default=0.0, metavar="SECONDS", help="save other rules every so often")
    parser.add_argument("--kind", action="append", help=f"only these: {', '.join(KINDS)}")
    args = parser.parse_args()
    os.environ.pop("SSLKEYLOGFILE", None)
    from rulesproxy.app import run_in_loop

    return run_in_loop(_main(args))


if __name__ == "__main__":
    sys.exit(main())
