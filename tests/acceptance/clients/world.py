"""The command in all its modes between clients and origins, and the ways a client can take through it.

Two processes: `proxy` runs every mode at once; what its `upstream` listeners take in goes out through `beyond`, a
second one, which alone knows the names under up.test. Names that begin with `marked` are changed by rules, those that
begin with `plain` are not; in reverse modes listeners differ in that way, for the client's name is always localhost.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from tests.support.certificates import OriginCA
from tests.support.command import ROOT, RunningCommand, running
from tests.support.namespaces import SERVER, run_network

SECONDS = 30.0
KINDS = ("web", "h2c", "events", "socket", "grpc")
REVERSE = ("reverse:http", "reverse:https", "reverse:tcp", "reverse:tls")
#: Every name an origin has a certificate for.
NAMES = ("marked.test", "plain.test", "marked.up.test", "plain.up.test", "localhost")

Ports = dict[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Job:
    """What one client is to do: ask for `url` through `proxy`, trusting nobody but the authority in `ca`.

    `proxy` is a URL, or "" for a client that takes us for the origin. `proxy_ca` signed what an https proxy shows.
    """

    url: str
    proxy: str
    ca: str
    proxy_ca: str


@dataclass(frozen=True, slots=True)
class World:
    """`listeners` are the ports of the reverse listeners by mode, kind of origin, client's TLS and treatment."""

    origins: Ports
    listeners: dict[tuple[str, str, bool, bool], int]
    regular: str
    socks: str
    upstream: dict[str, str]
    our_ca: str
    origin_ca: str
    #: What stands in front of a client's command.
    prefix: tuple[str, ...] = ()

    def job(self, way: str, kind: str, scheme: str, *, marked: bool) -> Job:
        """How to get to that kind of origin by a way, with a URL of that scheme."""
        secure = scheme in ("https", "wss", "grpcs")
        name, proxy = "marked" if marked else "plain", ""
        match way:
            case "regular":
                host, proxy = f"{name}.test", f"http://{self.regular}"
            case "regular, TLS":
                host, proxy = f"{name}.test", f"https://{self.regular}"
            case "socks5":
                host, proxy = f"{name}.test", f"socks5h://{self.socks}"
            case "upstream:http" | "upstream:https":
                host, proxy = f"{name}.up.test", f"http://{self.upstream[way]}"
            case "transparent":
                host = f"{name}.test"
            case _:
                host = "localhost"
        port = self.listeners[way, kind, secure, marked] if way in REVERSE else self.origins[kind][secure]
        ours = marked or way in ("reverse:http", "reverse:tls")  # where TLS always ends at the proxy
        path = "/events" if kind == "events" else "/bare" if way in ("reverse:tcp", "reverse:tls") else "/a"
        return Job(f"{scheme}://{host}:{port}{path if kind != 'grpc' else ''}", proxy,
                   self.our_ca if ours else self.origin_ca, self.our_ca)


@asynccontextmanager
async def run_origins(folder: Path, ca: OriginCA, host: str, prefix: tuple[str, ...] = ()) -> AsyncIterator[Ports]:
    folder.mkdir()
    process = await asyncio.create_subprocess_exec(
        *prefix, sys.executable, "-m", "tests.acceptance.clients.origins", host, str(folder), str(ca.leaf(*NAMES)),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
    assert process.stdin is not None and process.stdout is not None
    try:
        async with asyncio.timeout(SECONDS):
            line = await process.stdout.readline()
        yield {kind: (plain, secure) for kind, (plain, secure) in json.loads(line).items()}
    finally:
        process.stdin.close()  # its end is theirs
        async with asyncio.timeout(SECONDS):
            await process.wait()


def rules(marked: Iterable[str], address: str, *, listeners: str = "", raw: str = "", passed: str = "") -> str:
    """The rules of a proxy. Names are told their address; some traffic is changed where a client can see it.

    `listeners`, `raw` and `passed` are lists of `"@PORT"`: those of reverse:http(s) and of reverse:tcp and :tls whose
    traffic is changed, and those whose TLS passes untouched.
    """
    change = "{replace: {regex: plain words, with: other words}}"
    text = f"""\
version: 1
rules:
  - {{name: names, match: {{host: [marked.test, plain.test]}}, action: {{spoof_dns: {{A: {address}}}}}}}
"""
    for number, match in enumerate((f"host: [{', '.join(marked)}]", f"host: localhost, listener: [{listeners}]")):
        if number == 0 or listeners:
            text += f"""\
  - name: mark-{number}
    match: {{{match}}}
    action: {{rewrite: {{response_headers: {{set: {{x-mark: "yes"}}}}}}}}
  - name: words-{number}
    match: {{{match}, direction: to_client}}
    action: {{websocket: {change}}}
"""
    if raw:
        text += f"  - {{name: raw, match: {{listener: [{raw}], direction: to_client}}, action: {{tcp: {change}}}}}\n"
    if passed:
        text += f"  - {{name: passed, priority: 10, match: {{listener: [{passed}]}}, action: {{tls: passthrough}}}}\n"
    return text


@asynccontextmanager
async def run_world(folder: Path, ca: OriginCA) -> AsyncIterator[World]:
    """Origins, the second proxy, and the proxy."""
    async with AsyncExitStack() as stack:
        ports = await stack.enter_async_context(run_origins(folder / "origins", ca, "127.0.0.1"))
        beyond = await stack.enter_async_context(_run(folder / "beyond", ca, _BEYOND, ["regular@127.0.0.1:0"]))
        second = await beyond.address()
        listeners = dict(zip(product(REVERSE, KINDS, (False, True), (False, True)), _free_ports(80), strict=True))
        modes = [f"{way}://localhost:{ports[kind][_destination_has_tls(way, secure)]}@127.0.0.1:{port}"
                 for (way, kind, secure, _), port in listeners.items()]
        regular, socks, plain, secured = _free_ports(4)
        modes += [f"regular@127.0.0.1:{regular}", f"socks5@127.0.0.1:{socks}",
                  f"upstream:http://{second}@127.0.0.1:{plain}", f"upstream:https://{second}@127.0.0.1:{secured}"]
        text = rules(["marked.test", "marked.up.test"], "127.0.0.1",
                     listeners=_listed(listeners, ("reverse:http", "reverse:https"), True),
                     raw=_listed(listeners, ("reverse:tcp", "reverse:tls"), True),
                     passed=_listed(listeners, ("reverse:https", "reverse:tls"), False))
        # The second proxy's certificate for TLS to itself is one of its own authority.
        trust = folder / "trust.pem"
        trust.write_bytes(ca.pem.read_bytes() + (beyond.cwd / "conf" / "ca-cert.pem").read_bytes())
        proxy = await stack.enter_async_context(_run(folder / "proxy", ca, text, modes, trust))
        yield World(ports, listeners, f"127.0.0.1:{regular}", f"127.0.0.1:{socks}",
                    {"upstream:http": f"127.0.0.1:{plain}", "upstream:https": f"127.0.0.1:{secured}"},
                    str(proxy.cwd / "conf" / "ca-cert.pem"), str(ca.pem))


@asynccontextmanager
async def run_transparent_world(folder: Path, ca: OriginCA) -> AsyncIterator[World]:
    """The proxy on a router between the client's machine and the origins. Skips where there is no such network."""
    async with AsyncExitStack() as stack:
        network = await stack.enter_async_context(run_network(_REDIRECTED))
        ports = await stack.enter_async_context(run_origins(folder / "origins", ca, SERVER, network.on_router))
        mode = f"transparent@0.0.0.0:{_REDIRECTED}"
        proxy = await stack.enter_async_context(_run(folder / "proxy", ca, rules(["marked.test"], SERVER), [mode],
                                                     prefix=network.on_router))
        hosts = folder / "hosts"
        hosts.write_text(f"127.0.0.1 localhost\n{SERVER} marked.test plain.test\n")
        prefix = ("ip", "netns", "exec", network.client, "bash", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"')
        yield World(ports, {}, "", "", {}, str(proxy.cwd / "conf" / "ca-cert.pem"), str(ca.pem), (*prefix, str(hosts)))


_REDIRECTED = 8081
_BEYOND = """\
version: 1
rules:
  - {name: names, match: {host: "*.up.test"}, action: {spoof_dns: {A: 127.0.0.1}}}
"""


@asynccontextmanager
async def _run(folder: Path, ca: OriginCA, text: str, modes: Iterable[str],
               trust: Path | None = None, prefix: tuple[str, ...] = ()) -> AsyncIterator[RunningCommand]:
    folder.mkdir()
    (folder / "rules.yaml").write_text(text)
    arguments = [argument for mode in modes for argument in ("--mode", mode)]
    async with running("run", "rules.yaml", *arguments, "--set", f"upstream_ca={trust or ca.pem}",
                       *(["--allow-remote"] if prefix else []), cwd=folder, prefix=prefix) as proxy:
        for _ in range(len(arguments) // 2):
            await proxy.line("listening on")
        yield proxy


def _destination_has_tls(way: str, client_has: bool) -> bool:
    return way in ("reverse:https", "reverse:tls") or (way == "reverse:tcp" and client_has)


def _listed(listeners: dict[tuple[str, str, bool, bool], int], ways: tuple[str, ...], marked: bool) -> str:
    return ", ".join(f'"@{port}"' for (way, _, _, treated), port in listeners.items()
                     if way in ways and treated is marked)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports
