"""What is no HTTP on the proxy port is told so in the log, at once."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

import pytest

from tests.support.proxy import RunningProxy

MakeProxy = Callable[..., Awaitable[RunningProxy]]


@pytest.mark.parametrize(("greeting", "protocol"), [
    (b"\x05\x01\x00", "SOCKS"), (b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00", "SOCKS"),
])  # fmt: skip
async def test_a_client_with_another_kind_of_proxy_in_mind(make_proxy: MakeProxy, caplog: pytest.LogCaptureFixture,
                                                           greeting: bytes, protocol: str) -> None:
    proxy = await make_proxy(head_timeout=60)
    assert await proxy.talk(greeting, half_close=False) == b""
    [line] = [record.getMessage() for record in caplog.records if "speaks" in record.getMessage()]
    assert re.match(rf"127\.0\.0\.1:\d+ speaks {protocol} to the proxy port", line)
