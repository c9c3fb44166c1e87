"""Limits: what is exactly at one passes, what is over it is refused and ends the connection (reliability R6)."""

from __future__ import annotations

import asyncio
import resource
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from rulesproxy.net.descriptors import IDLE_CONNECTIONS, RESERVED, make_room, room_in
from tests.support.command import environment
from tests.support.leaks import until
from tests.support.origin import run_origin
from tests.support.proxy import RunningProxy
from tests.support.tools import curl, require_tool

MakeProxy = Callable[..., Awaitable[RunningProxy]]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SECONDS = 10.0


def of_line(size: int, port: int) -> bytes:
    """A request whose first line has so many bytes."""
    line = f"GET http://127.0.0.1:{port}/ HTTP/1.1".encode()
    return line.replace(b"/ HTTP", b"/" + b"a" * (size - len(line)) + b" HTTP") + b"\r\nHost: x\r\n\r\n"


def of_head(size: int, port: int) -> bytes:
    """A request whose head has so many bytes."""
    head = f"GET http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: x\r\nX: ".encode()
    return head + b"a" * (size - len(head) - 4) + b"\r\n\r\n"


def of_fields(count: int, port: int) -> bytes:
    head = f"GET http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: x\r\n".encode()
    return head + b"X: a\r\n" * (count - 1) + b"\r\n"


@pytest.mark.parametrize(("request_of", "limit", "option", "status"), [
    (of_line, 16 * 1024, "request_line_limit", b"414"),
    (of_head, 64 * 1024, "head_limit", b"431"),
    (of_fields, 200, "field_limit", b"431"),
])
async def test_heads(make_proxy: MakeProxy, request_of: Callable[[int, int], bytes], limit: int, option: str,
                     status: bytes) -> None:
    for configured in (None, 100):
        if configured is not None and option == "head_limit":
            configured = 500
        proxy = await make_proxy(**({} if configured is None else {option: configured}))
        size = limit if configured is None else configured
        async with run_origin(OK) as origin:
            assert (await proxy.talk(request_of(size, origin.port))).startswith(b"HTTP/1.1 200 ")
            refused = await proxy.talk(request_of(size + 1, origin.port) + request_of(100, origin.port))
            assert refused.startswith(b"HTTP/1.1 " + status)
            assert b"Connection: close" in refused
            assert refused.count(b"HTTP/1.1 ") == 1
            assert len(origin.requests) == 1


async def test_heads_of_origins(make_proxy: MakeProxy) -> None:
    def answer(count: int) -> bytes:
        return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + b"X: a\r\n" * (count - 1) + b"\r\nok"

    proxy = await make_proxy(field_limit=100)
    async with run_origin(answer(100)) as within, run_origin(answer(101)) as beyond:
        assert (await proxy.curl(f"http://127.0.0.1:{within.port}/")).text == "ok"
        assert "502 Invalid answer" in (await proxy.curl(f"http://127.0.0.1:{beyond.port}/")).text


async def test_connections(make_proxy: MakeProxy, caplog: pytest.LogCaptureFixture) -> None:
    require_tool("curl")
    proxy = await make_proxy(connections=2)
    async with run_origin(OK) as origin:
        url = f"http://127.0.0.1:{origin.port}/"
        kept = [await proxy.connect() for _ in range(2)]
        await until(lambda: len(proxy.core.sessions) == 2)
        for _ in range(3):
            done = await proxy.curl("-i", url)
            assert "503 Service Unavailable" in done.text
            assert "503 Too many connections" in done.text
            assert "Connection: close" in done.text
        assert origin.connections == []
        assert caplog.text.count("2 connections are open, which is the limit") == 1
        kept.pop()[1].close()
        await until(lambda: len(proxy.core.sessions) == 1)
        assert (await proxy.curl(url)).text == "ok"
        kept.pop()[1].close()
    assert proxy.recorder.names.count("client_connected") == 3  # who is turned away is nobody's client


# --- open files (reliability R22) ----------------------------------------------------------------------------------

@pytest.mark.parametrize("descriptors", [0, 64, 256, 1024, 30_000, 1_000_000])
def test_room_never_exceeds_the_descriptors(descriptors: int) -> None:
    room = room_in(descriptors, 10_000)
    assert 1 <= room.connections <= 10_000
    assert room.idle <= IDLE_CONNECTIONS
    assert RESERVED + room.idle + 2 * room.connections <= max(descriptors, RESERVED + 3)


def test_the_soft_limit_is_raised_when_connections_need_it() -> None:
    before = soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
        room = make_room(50)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(RESERVED + IDLE_CONNECTIONS + 100, hard)
        assert room.connections == 50
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_few_descriptors_degrade_the_service_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(
        "version: 1\nrules:\n  - {name: mock, match: {host: api.test}, action: {respond: mock}}\n")
    command = f"ulimit -n 64; exec {sys.executable} -m rulesproxy run rules.yaml --listen 127.0.0.1:0"
    process = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", command, cwd=tmp_path, env=environment(tmp_path / "conf"),
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    try:
        async with asyncio.timeout(SECONDS * 2):
            log = await process.stderr.readuntil(b"for HTTP and HTTPS\n")
            assert b"64 open files are allowed (ulimit -n): there is room for 10 connections at a time" in log
            address = log.decode().split("listening on ")[1].split()[0]
            host, port = address.split(":")
            flood = [await asyncio.open_connection(host, int(port)) for _ in range(80)]
            turned_away = await asyncio.gather(*(reader.read() for reader, _ in flood[10:]))
            assert all(answer.startswith(b"HTTP/1.1 503 ") for answer in turned_away)
            begun = cpu_seconds(process.pid)
            await asyncio.sleep(1)
            assert cpu_seconds(process.pid) - begun < 0.2
            assert (await curl("http://api.test/", proxy=address)).text.startswith("503 ")
            for _, writer in flood:
                writer.close()
            for _ in range(100):
                if (served := (await curl("http://api.test/", proxy=address)).text) == "mock":
                    break
            assert served == "mock"
    finally:
        process.terminate()
        rest = await process.stderr.read()
        assert await process.wait() == 0
        process._transport.close()  # type: ignore[attr-defined]
    assert rest.count(b"which is the limit") == 1
    assert b"Traceback" not in rest


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
