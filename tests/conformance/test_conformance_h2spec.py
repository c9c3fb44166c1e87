"""h2spec itself against the proxy, where Go is there to build it."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable

import pytest

from tests.conformance import h2spec_tool
from tests.conformance.non_strict import H2SPEC
from tests.conformance.reach import Intercept
from tests.conformance.test_conformance_http2_server import hello
from tests.support.certificates import OriginCA
from tests.support.origin import answering, run_origin
from tests.support.proxy import RunningProxy
from tests.support.tools import require_tool

pytestmark = pytest.mark.slow
#: Five such fields must not fit a frame (http2/4.2/3): the proxy takes frames of 64 KiB.
HEADER_LENGTH = "16000"


async def test_h2spec_passes_the_server(make_proxy: Callable[..., Awaitable[RunningProxy]]) -> None:
    """Over TLS: in clear text what is no preface may still be HTTP/1, and gets a page."""
    program = h2spec_tool.built("h2spec")
    async with run_origin(answering(hello)) as origin:
        proxy = await make_proxy(Intercept(), modes=(f"reverse:http://127.0.0.1:{origin.port}@127.0.0.1:0",))
        output = await h2spec_tool.run(
            program, "--strict", "--tls", "--insecure", "--max-header-length", HEADER_LENGTH, "--host", proxy.host,
            "--port", str(proxy.port))
    assert h2spec_tool.summary(output) == (146, 146 - len(H2SPEC), 0, len(H2SPEC)), output


async def test_h2specd_passes_the_client(make_proxy: Callable[..., Awaitable[RunningProxy]],
                                         origin_ca: OriginCA) -> None:
    """Every case is an origin of its own, which curl asks through the proxy."""
    require_tool("curl")
    program = h2spec_tool.built("h2specd")
    leaf = origin_ca.leaf("localhost")
    proxy = await make_proxy(Intercept())
    first = _free_ports(57)
    output = await h2spec_tool.run(
        program, "--strict", "--tls", "--cert-file", str(leaf), "--cert-key-file", str(leaf), "--host", "localhost",
        "--from-port", str(first), "--exec", f"curl -s --http1.1 --max-time 3 -x {proxy.address} --cacert {proxy.ca}")
    assert h2spec_tool.summary(output) == (57, 57, 0, 0), output


def _free_ports(count: int) -> int:
    """The first of `count` ports in a row that nobody listens on."""
    for first in range(30000, 60000, count):
        held: list[socket.socket] = []
        try:
            for port in range(first, first + count):
                held.append(socket.create_server(("127.0.0.1", port)))
        except OSError:
            continue
        finally:
            for one in held:
                one.close()
        return first
    raise AssertionError("there are no free ports")
