"""Acceptance line 3: 50 edits under load, on keep-alive, HTTPS and during long downloads."""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.acceptance.command import RulesProxy
from tests.acceptance.conftest import MakeNginx, MakeResolver, Start
from tests.acceptance.load import Answered, Client, connect, load
from tests.support.certificates import OriginCA
from tests.support.origin import OriginConnection, run_origin

EDITS = 50
LEAST_REQUESTS = 5000

ECHO = 'location /echo { return 200 "$http_x_gen"; }'
RULES = """\
version: 1
rules:
  - name: mock
    match: {host: mock.test}
    action: {respond: {body: "TEXT"}}
  - name: through
    match: {host: [shop.test, big.test]}
    action: {rewrite: {headers: {set: {x-gen: "NUMBER"}}, response_headers: {set: {x-gen: "NUMBER"}}}}
"""

#: What a broken edit has in place of what. The mark stands in front of the column that must be reported.
MARK = "«"
MISTAKES = (
    ("match: {host: mock.test}", f"match: {{{MARK}hots: mock.test}}"),
    ("match: {host: mock.test}", f"{MARK}mach: {{host: mock.test}}"),
    ("match: {host: mock.test}", f"match: {{host: {MARK}*.mock.test}}"),
    ("match: {host: mock.test}", f"match: {{host: mock.test, port: {MARK}70000}}"),
    ("match: {host: mock.test}", f"match: {{client_ip: {MARK}10.0.0.0/33}}"),
    ("name: through", f"name: {MARK}mock"),
    ("version: 1\n", f"version: 1\n{MARK}rubbish: 1\n"),
    ("    action: {respond", f"    action: {{block: {{}}, {MARK}respond"),
    ("  - name: through", f"  - name: through\n    {MARK}name: again"),
    ('{body: "TEXT"}', f'{{body: "TEXT", status: {MARK}999}}'),
)


def text(number: int) -> str:
    """Long enough that a torn file could not pass for another generation."""
    return f"generation {number} " + f"{number:03d}." * 500


def rule_file(number: int) -> str:
    return RULES.replace("TEXT", text(number)).replace("NUMBER", str(number))


def broken_file(number: int, mistake: tuple[str, str]) -> tuple[str, int, int]:
    """A file with a mistake, and its line and column."""
    content = RULES.replace(*mistake).replace("TEXT", text(number)).replace("NUMBER", str(number))
    before, _, after = content.partition(MARK)
    assert after, mistake
    return before + after, before.count("\n") + 1, len(before) - before.rfind("\n")


# --- ways to save ------------------------------------------------------------------------------------------------


async def in_place(path: Path, content: str) -> None:
    path.write_text(content)


async def truncate_then_write(path: Path, content: str) -> None:
    path.write_text("")
    await asyncio.sleep(0.2)
    path.write_text(content)


async def rename_save(path: Path, content: str) -> None:
    new = path.with_name(".new~")
    new.write_text(content)
    os.replace(new, path)


async def backup_save(path: Path, content: str) -> None:
    """As vim does it: the old file becomes the backup, and for a moment there is none of that name."""
    backup = path.with_name(path.name + "~")
    os.replace(path, backup)
    path.write_text(content)
    backup.unlink()


async def link_swap(path: Path, content: str) -> None:
    """The name becomes a link to a file in another folder."""
    store = path.parent.parent / "store"
    store.mkdir(exist_ok=True)
    target = store / f"{time.monotonic_ns()}.yaml"
    target.write_text(content)
    link = path.with_name(".link~")
    link.symlink_to(target)
    os.replace(link, path)


SAVES: tuple[Callable[[Path, str], Awaitable[None]], ...] = (
    in_place, truncate_then_write, rename_save, backup_save, link_swap)


# --- the edits ---------------------------------------------------------------------------------------------------


class History:
    """Which generation was being written, and known to be live, when."""

    def __init__(self) -> None:
        self.written: dict[int, float] = {0: 0.0}
        self.live: dict[int, float] = {0: 0.0}
        self.rejected = 0

    def allowed(self, answer: Answered) -> set[int]:
        """The generations an answer may be of: the one known to be live when it was asked for, and later good ones."""
        oldest = max(number for number, at in self.live.items() if at <= answer.sent)
        return {number for number, at in self.written.items() if oldest <= number and at <= answer.received}


async def edit(proxy: RulesProxy, path: Path, number: int, history: History) -> None:
    """Save generation `number` some way, every fifth one broken, and wait for the verdict."""
    save = SAVES[(number + number // len(SAVES)) % len(SAVES)]
    line = len(proxy.lines)
    if number % 5:
        history.written[number] = time.monotonic()
        await save(path, rule_file(number))
        after, _ = await proxy.wait_for_line("rules live: ", line)
        history.live[number] = proxy.lines[after - 1].at
    else:
        content, row, column = broken_file(number, MISTAKES[history.rejected])
        history.rejected += 1
        await save(path, content)
        after, _ = await proxy.wait_for_line("rules not changed", line)
        await proxy.wait_for_line(rf"{path.name}:{row}:{column}: error: ", after, 1.0)


# --- the download ------------------------------------------------------------------------------------------------

PIECE = bytes(range(256)) * 64


class Drip:
    """An origin's answer without end, until `enough` is set."""

    def __init__(self) -> None:
        self.enough = asyncio.Event()

    async def __call__(self, connection: OriginConnection) -> None:
        await connection.read_request()
        await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not self.enough.is_set():
            await connection.send(b"%x\r\n%b\r\n" % (len(PIECE), PIECE))
            await asyncio.sleep(0.02)
        await connection.send(b"0\r\n\r\n")


async def download(port: int, tls_to: str, request: bytes, trust: ssl.SSLContext) -> tuple[bytes, int]:
    """The head, and the number of whole pieces; the coding must be right to the end."""
    reader, writer = await connect(port, tls_to, trust)
    try:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        received = hashlib.sha256()
        size = 0
        while length := int(await reader.readuntil(b"\r\n"), 16):
            received.update(await reader.readexactly(length))
            assert await reader.readexactly(2) == b"\r\n"
            size += length
        assert await reader.readexactly(2) == b"\r\n"
    finally:
        writer.close()
    assert size % len(PIECE) == 0
    assert received.hexdigest() == hashlib.sha256(PIECE * (size // len(PIECE))).hexdigest()
    return head, size // len(PIECE)


# --- the test ----------------------------------------------------------------------------------------------------


def get(url_host: str, target: str = "/") -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: {url_host}\r\n\r\n".encode()


def number_of(answer: Answered) -> int:
    """The generation an answer is of. It must be that one's exact text, or of that one in both directions."""
    assert answer.head.startswith(b"HTTP/1.1 200 "), answer.head
    fields = dict(line.lower().split(b": ", 1) for line in answer.head.split(b"\r\n")[1:] if line)
    if b"x-gen" in fields:  # what nginx was told, and what was put on its answer: one exchange, one set of rules
        assert fields[b"x-gen"] == answer.body
        return int(answer.body)
    number = int(answer.body.split()[1])
    assert answer.body == text(number).encode()
    return number


@pytest.mark.slow
async def test_rules_are_edited_under_load(start: Start, make_nginx: MakeNginx, make_resolver: MakeResolver,
                                           origin_ca: OriginCA, rules: Path) -> None:
    nginx = await make_nginx(names=("shop.test",), locations=ECHO)
    resolver = await make_resolver({(name, "A"): ["127.0.0.1"] for name in ("shop.test", "big.test")})
    rules.write_text(rule_file(0))
    proxy = await start(rules, "--set", f"resolvers={resolver.address}", dev=False)
    trust = ssl.create_default_context(cafile=proxy.ca)
    shop, shop_tls = f"shop.test:{nginx.port}", f"shop.test:{nginx.tls_port}"
    clients = [
        *(Client(get("mock.test", "http://mock.test/")) for _ in range(3)),
        *(Client(get("mock.test"), tls_to="mock.test:443") for _ in range(2)),
        *(Client(get(shop, f"http://{shop}/echo")) for _ in range(2)),
        *(Client(get(shop_tls, "/echo"), tls_to=shop_tls) for _ in range(2)),
    ]
    history, drip = History(), Drip()
    async with AsyncExitStack() as stack:
        origin = await stack.enter_async_context(run_origin(drip))
        origin_tls = await stack.enter_async_context(run_origin(drip, tls=origin_ca.server_context("big.test")))
        plain, tls = f"big.test:{origin.port}", f"big.test:{origin_tls.port}"
        downloads = asyncio.gather(download(proxy.port, "", get(plain, f"http://{plain}/"), trust),
                                   download(proxy.port, tls, get(tls), trust))
        stack.callback(downloads.cancel)
        await origin.wait_for_connections(1)
        await origin_tls.wait_for_connections(1)
        running = await stack.enter_async_context(load(proxy.port, trust, clients))
        await running.one_round()
        for number in range(1, EDITS + 1):
            enough = running.answered + LEAST_REQUESTS // EDITS + 10
            await edit(proxy, rules, number, history)
            # The next edit comes when everybody has met this one, and the load has been a load.
            await running.one_round()
            await running.reach(enough)
            assert not downloads.done()
        drip.enough.set()
        async with asyncio.timeout(15):
            for head, pieces in await downloads:
                assert b"\r\nx-gen: 0\r\n" in head.lower()  # asked for before the first edit
                assert pieces > EDITS
    _judge(clients, history, proxy)


def _judge(clients: list[Client], history: History, proxy: RulesProxy) -> None:
    answers = [answer for client in clients for answer in client.answers]
    assert len(answers) >= LEAST_REQUESTS, f"{len(answers)} requests do not count"
    for answer in answers:
        assert number_of(answer) in history.allowed(answer)
    for client in clients:
        assert {number_of(answer) for answer in client.answers} == set(history.live)
    assert history.rejected == len(MISTAKES)
    said = proxy.stderr
    assert said.count("rules live: ") == EDITS - history.rejected
    assert said.count("rules not changed") == history.rejected
    assert said.count(": error: ") == history.rejected
