"""The scenarios of HTTP/1 on the proxy port, by name: what clients and servers do, step by step."""

from __future__ import annotations

import asyncio
from typing import Any

from rulesproxy.addons.lifecycle import UpdateHook
from rulesproxy.model.http import Response
from tests.hooks.scene import Scenario, Scene
from tests.support.hook_logs import At
from tests.support.leaks import until
from tests.support.origin import HELLO, OriginConnection

GET = b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST http://127.0.0.1:%d/ HTTP/1.1\r\nHost: x\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
LARGE = b"x" * 300_000


async def get(scene: Scene) -> None:
    port = await scene.origin()
    await scene.proxy()
    wire = await scene.connect()
    await wire.send(GET % port)
    assert await wire.answer() == b"hello"
    await wire.close()


async def post_collected(scene: Scene) -> None:
    class Wants:
        def needs_body(self, flow: Any, phase: str) -> bool:
            return True

    port = await scene.origin()
    await scene.proxy(Wants())
    wire = await scene.connect()
    await wire.send(POST % port + b"Content-Length: 10\r\n\r\nhalf-")
    await scene.fired("requestheaders")
    await wire.send(b"half-")
    assert await wire.answer() == b"hello"
    await wire.close()


async def upload_streamed(scene: Scene) -> None:
    port = await scene.origin()
    await scene.proxy()
    wire = await scene.connect()
    await wire.send(POST % port + b"Content-Length: %d\r\n\r\n" % len(LARGE))
    await wire.send(LARGE)
    assert await wire.answer() == b"hello"
    await wire.close()


async def download_streamed(scene: Scene) -> None:
    port = await scene.origin(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(LARGE), LARGE))
    await scene.proxy()
    wire = await scene.connect()
    await wire.send(GET % port)
    assert await wire.answer() == LARGE
    await wire.close()


async def head(scene: Scene) -> None:
    port = await scene.origin(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    await scene.proxy()
    wire = await scene.connect()
    await wire.send((GET % port).replace(b"GET", b"HEAD"))
    assert b"Content-Length: 5\r\n" in await wire.until(b"\r\n\r\n")
    await wire.close()


async def no_content(scene: Scene) -> None:
    port = await scene.origin(b"HTTP/1.1 204 No Content\r\n\r\n")
    await scene.proxy()
    wire = await scene.connect()
    await wire.send(GET % port)
    assert (await wire.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 204 ")
    await wire.close()


async def expect_continue(scene: Scene) -> None:
    async def script(connection: OriginConnection) -> None:
        await connection.read_head()
        await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await connection.read_exactly(5)
        await connection.send(HELLO)
        await connection.read_to_end()

    port = await scene.origin(script)
    await scene.proxy()
    wire = await scene.connect()
    await wire.send(POST % port + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    assert (await wire.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
    await wire.send(b"whole")
    assert await wire.answer() == b"hello"
    await wire.close()


async def trailers(scene: Scene) -> None:
    port = await scene.origin(CHUNKED + b"\r\n5\r\nhello\r\n0\r\nX-Sum: out\r\n\r\n")
    await scene.proxy()
    wire = await scene.connect()
    await wire.send(POST % port + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: in\r\n\r\n")
    await wire.head()
    assert (await wire.end_of_chunks()).endswith(b"X-Sum: out\r\n\r\n")
    await wire.close()


async def keep_alive(scene: Scene) -> None:
    port = await scene.origin()
    await scene.proxy()
    wire = await scene.connect()
    for _ in range(2):
        await wire.send(GET % port)
        assert await wire.answer() == b"hello"
    await wire.close()


async def pipelined(scene: Scene) -> None:
    port = await scene.origin()
    await scene.proxy()
    wire = await scene.connect()
    await wire.send(GET % port * 2)
    for _ in range(2):
        assert await wire.answer() == b"hello"
    await wire.close()


async def early_answer(scene: Scene) -> None:
    async def script(connection: OriginConnection) -> None:
        await connection.read_head()
        await connection.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
        await connection.read_exactly(10)
        await connection.read_to_end()

    port = await scene.origin(script)
    await scene.proxy()
    wire = await scene.connect()
    await wire.send(POST % port + b"Content-Length: 10\r\n\r\nhalf-")
    assert await wire.answer(413) == b""
    await scene.fired("response")
    await wire.send(b"half-")
    await scene.fired("request")
    await wire.close()


def _synthetic(hook: str) -> Scenario:
    def answer(flow: Any) -> None:
        if flow.request.port == 9:
            flow.response = Response.make(200, b"made here")

    async def run(scene: Scene) -> None:
        await scene.proxy(At(hook, answer))
        wire = await scene.connect()
        await wire.send(GET % 9)
        assert await wire.answer() == b"made here"
        await wire.close()

    return run


async def redirected_connect(scene: Scene) -> None:
    """Two requests for a name that leads elsewhere."""
    port = await scene.origin()

    def redirect(data: Any) -> None:
        if data.server.address[0] == "nowhere.test":
            data.server.address = ("127.0.0.1", port)

    await scene.proxy(At("server_connect", redirect))
    wire = await scene.connect()
    for _ in range(2):
        await wire.send(b"GET http://nowhere.test/ HTTP/1.1\r\nHost: nowhere.test\r\n\r\n")
        assert await wire.answer() == b"hello"
    await wire.close()


async def connect_failed(scene: Scene) -> None:
    port = await scene.origin()
    scene.server_goes(reset=False)
    await scene.proxy()
    wire = await scene.connect()
    await wire.send(GET % port)
    await wire.answer(502)
    await wire.close()


async def server_sent_events(scene: Scene) -> None:
    arrived = asyncio.Event()

    async def script(connection: OriginConnection) -> None:
        await connection.read_request()
        await connection.send(CHUNKED + b"Content-Type: text/event-stream\r\n\r\n9\r\ndata: 1\n\n\r\n")
        await arrived.wait()
        await connection.send(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")
        await connection.read_to_end()

    port = await scene.origin(script)
    await scene.proxy()
    wire = await scene.connect()
    await wire.send(GET % port)
    await wire.head()
    await wire.until(b"data: 1\n\n")  # at once, with the stream still open
    arrived.set()
    await wire.end_of_chunks()
    await wire.close()


async def flow_changed_by_command(scene: Scene) -> None:
    """While the server thinks, a command of a script marks the flow."""
    marked = False

    async def script(connection: OriginConnection) -> None:
        await connection.read_request()
        await until(lambda: marked or scene.cut)
        await connection.send(HELLO)
        await connection.read_to_end()

    class Marker:
        def load(self, loader: Any) -> None:
            loader.add_command("mark", self.mark)

        async def mark(self, flow: Any) -> None:
            flow.marked = ":red_circle:"
            assert scene.running is not None
            await scene.running.addons.fire(UpdateHook([flow]))

    port = await scene.origin(script)
    proxy = await scene.proxy(Marker())
    wire = await scene.connect()
    await wire.send(GET % port)
    await scene.fired("server_connected")
    await proxy.addons.commands["mark"](scene.recorder.arguments("request")[0])
    marked = True
    assert await wire.answer() == b"hello"
    await wire.close()


HTTP: dict[str, Scenario] = {
    "get": get, "post_collected": post_collected, "upload_streamed": upload_streamed,
    "download_streamed": download_streamed, "head": head, "no_content": no_content,
    "expect_continue": expect_continue, "trailers": trailers, "keep_alive": keep_alive, "pipelined": pipelined,
    "early_answer": early_answer, "answered_at_head": _synthetic("requestheaders"),
    "answered_in_request": _synthetic("request"), "redirected_connect": redirected_connect,
    "connect_failed": connect_failed, "server_sent_events": server_sent_events,
    "flow_changed_by_command": flow_changed_by_command,
}
