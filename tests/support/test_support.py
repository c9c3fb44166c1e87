"""The test support itself: what it promises to notice, it notices."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable

import pytest

from tests.support.certificates import OriginCA
from tests.support.leaks import nothing_left, until
from tests.support.nginx import Nginx
from tests.support.origin import run_origin
from tests.support.tools import curl, require_tool, run_tool


async def test_leak_check_notices_a_task() -> None:
    task = None
    with pytest.raises(AssertionError, match="tasks left behind"):
        async with nothing_left():
            task = asyncio.create_task(asyncio.sleep(30))
    assert task is not None
    task.cancel()


async def test_leak_check_notices_a_socket() -> None:
    with pytest.raises(AssertionError, match="descriptors left behind"):
        async with nothing_left():
            left = socket.socket()
    left.close()


async def test_leak_check_waits_for_what_is_about_to_end() -> None:
    async with nothing_left():
        left = socket.socket()
        asyncio.get_running_loop().call_later(0.05, left.close)
        asyncio.create_task(asyncio.sleep(0.05))  # noqa: RUF006 - it is the one that ends by itself
    assert left.fileno() == -1


async def test_until_gives_up() -> None:
    assert await until(lambda: True)
    assert not await until(lambda: False, 0.02)


def test_absent_tool_skips_and_in_ci_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-tool"):
        require_tool("no-such-tool")
    monkeypatch.setenv("CI", "1")
    with pytest.raises(pytest.fail.Exception, match="no-such-tool"):
        require_tool("no-such-tool")


async def test_tool_that_hangs_is_killed(no_leaks: None) -> None:
    with pytest.raises(TimeoutError):
        await run_tool("sleep", "30", timeout=0.1)


async def test_origin_records_exact_bytes(no_leaks: None) -> None:
    sent = b"POST /a  HTTP/1.1\r\nHOST:x\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: 1\r\n\r\n"
    async with run_origin() as origin, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", origin.port)
        for byte in sent:
            writer.write(bytes([byte]))
        assert (await reader.read(4096)).endswith(b"\r\n\r\nhello")
        writer.close()
        await writer.wait_closed()
        assert origin.received == sent
        assert origin.requests[0].body == b"3;x=y\r\nabc\r\n0\r\nT: 1\r\n\r\n"
        assert origin.requests[0].values(b"host") == [b"x"]


async def test_curl_trusts_the_origins_authority_only(no_leaks: None, origin_ca: OriginCA) -> None:
    async with run_origin(tls=origin_ca.server_context("localhost")) as origin:
        url = f"https://localhost:{origin.port}/"
        trusted = await curl("--cacert", str(origin_ca.pem), url)
        assert (trusted.code, trusted.text) == (0, "hello")
        assert (await curl(url)).code == 60  # the certificate cannot be authenticated


async def test_nginx_answers_and_its_log_can_be_read(nginx: Nginx, origin_ca: OriginCA) -> None:
    assert (await curl(f"http://127.0.0.1:{nginx.port}/hello")).text == "hello from nginx\n"
    assert (await curl("--cacert", str(origin_ca.pem), f"https://localhost:{nginx.tls_port}/host")).text == (
        f"localhost:{nginx.tls_port}\n")
    log = await nginx.wait_for_log(2)
    assert log[0].startswith(f"GET http://127.0.0.1:{nginx.port}/hello 200 ")
    assert log[1].startswith(f"GET https://localhost:{nginx.tls_port}/host 200 ")


async def test_two_nginx_at_once(make_nginx: Callable[..., Awaitable[Nginx]]) -> None:
    one, two = await make_nginx(), await make_nginx(locations='location = /two { return 200 "two"; }')
    assert (await curl(f"http://127.0.0.1:{two.port}/two")).text == "two"
    assert one.port != two.port and one.log == []


def test_environment_has_procfs() -> None:
    assert os.path.isdir("/proc/self/fd")  # the leak check reads it
