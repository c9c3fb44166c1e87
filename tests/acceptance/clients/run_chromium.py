"""Headless Chromium, one process for all jobs; each has a browser context of its own, with its own proxy.

It is told what to do by the DevTools protocol over a pair of pipes. It trusts both authorities, by the certificate
database in its home; which of them signed what it was shown it says itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from tests.acceptance.clients.jobs import SECONDS, Job, Seen, run_all

_ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--disable-default-apps", "--remote-debugging-pipe", "about:blank")
# bash, for a shell with descriptors of more than one digit.
_ON_PIPES = ("bash", "-c", 'exec 3<&"$1" 4>&"$2"; shift 2; exec "$@"', "bash")
_CHROMIUM = "chromium"
_VERSIONS = {"http/1.1": "HTTP/1.1", "h2": "HTTP/2"}

_EVENTS = """new Promise((resolve, reject) => {
  const token = Math.random(), events = [], source = new EventSource(`/events?${token}`);
  source.onerror = () => reject(new Error("the stream ended"));
  source.onmessage = event => {
    events.push(event.data);
    if (events.length == 2) { source.close(); resolve(events); }
    else fetch(`/seen?${token}`);
  };
})"""
_SOCKET = """new Promise((resolve, reject) => {
  const said = [], socket = new WebSocket("%s");
  socket.onerror = () => reject(new Error("no WebSocket"));
  socket.onmessage = event => {
    said.push(event.data);
    if (said.length == 2) { socket.close(); resolve(said); }
    else socket.send("echo");
  };
})"""


class Browser:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._calls = 0
        self.events: list[dict[str, Any]] = []
        self._more = asyncio.Event()

    async def read(self) -> None:
        while data := await self._reader.readuntil(b"\0"):
            message = json.loads(data[:-1])
            if "id" in message:
                self._answers.pop(message["id"]).set_result(message)
            else:
                self.events.append(message)
                self._more.set()

    async def call(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        self._calls += 1
        number = self._calls
        self._answers[number] = answer = asyncio.get_running_loop().create_future()
        request = {"id": number, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        self._writer.write(json.dumps(request).encode() + b"\0")
        message = await answer
        assert "error" not in message, (method, message)
        result: dict[str, Any] = message["result"]
        return result

    async def event(self, session: str, method: str, **fields: str) -> dict[str, Any]:
        """The parameters of the first event of that kind, waited for."""
        while True:
            for event in self.events:
                parameters: dict[str, Any] = event["params"]
                if (event.get("sessionId"), event["method"]) == (session, method) \
                        and fields.items() <= parameters.items():
                    return parameters
            self._more.clear()
            await self._more.wait()


@asynccontextmanager
async def browser(home: Path, *authorities: str) -> AsyncIterator[Browser]:
    database = home / ".pki" / "nssdb"
    database.mkdir(parents=True)
    await _certutil("-N", "-d", f"sql:{database}", "--empty-password")
    for number, authority in enumerate(authorities):
        await _certutil("-A", "-d", f"sql:{database}", "-t", "C,,", "-n", f"authority {number}", "-i", authority)
    theirs, to_them = os.pipe()
    from_them, ours = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *_ON_PIPES, str(theirs), str(ours), _CHROMIUM, *_ARGUMENTS, f"--user-data-dir={home}/profile",
        pass_fds=(theirs, ours), stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL, env={**os.environ, "HOME": str(home)}, start_new_session=True)
    os.close(theirs)
    os.close(ours)
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader(limit=1 << 24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(from_them, "rb"))
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, os.fdopen(to_them, "wb"))
    chromium = Browser(reader, asyncio.StreamWriter(transport, protocol, None, loop))
    reading = asyncio.create_task(chromium.read())
    try:
        yield chromium
        await chromium.call("Browser.close")
        async with asyncio.timeout(SECONDS):
            await process.wait()
    finally:
        reading.cancel()
        transport.close()
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _certutil(*arguments: str) -> None:
    process = await asyncio.create_subprocess_exec("certutil", *arguments, stdin=asyncio.subprocess.DEVNULL)
    assert await process.wait() == 0


async def visit(chromium: Browser, job: Job) -> Seen:
    """Open a page through the job's proxy, and let it do what the client's name says."""
    proxy = {"proxyServer": job["proxy"].replace("socks5h:", "socks5:"), "proxyBypassList": "<-loopback>"}
    context = await chromium.call("Target.createBrowserContext", **(proxy if job["proxy"] else {}))
    target = await chromium.call("Target.createTarget", url="about:blank", **context)
    attached = await chromium.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
    session = attached["sessionId"]
    try:
        await chromium.call("Network.enable", session)
        await chromium.call("Page.enable", session)
        kind = job["client"].partition(", ")[2]
        url = urljoin(job["url"].replace("ws", "http", 1), "/page")
        began = await chromium.call("Page.navigate", session, url=url)
        assert "errorText" not in began, began
        await chromium.event(session, "Page.loadEventFired")
        page = (await chromium.event(session, "Network.responseReceived", type="Document"))["response"]
        match kind:
            case "WebSocket":
                text = await _evaluate(chromium, session, _SOCKET % job["url"])
                shaken = (await chromium.event(session, "Network.webSocketHandshakeResponseReceived"))["response"]
                version = "HTTP/1.1" if shaken["status"] == 101 else "HTTP/2"  # RFC 8441 §5: 200
                headers = shaken["headers"]
            case "event stream":
                text = await _evaluate(chromium, session, _EVENTS)
                answer = (await chromium.event(session, "Network.responseReceived", type="EventSource"))["response"]
                version, headers = _VERSIONS[answer["protocol"]], answer["headers"]
            case _:
                text = [await _evaluate(chromium, session, "document.body.innerText")]
                version, headers = _VERSIONS[page["protocol"]], page["headers"]
        return {"version": version, "text": text[0], "mark": _field(headers, "x-mark"),
                "issuer": page.get("securityDetails", {}).get("issuer")}
    finally:
        await chromium.call("Target.disposeBrowserContext", **context)


def _field(headers: dict[str, str], name: str) -> str | None:
    return next((value for key, value in headers.items() if key.lower() == name), None)


async def _evaluate(chromium: Browser, session: str, script: str) -> Any:
    done = await chromium.call("Runtime.evaluate", session, expression=script, awaitPromise=True, returnByValue=True)
    assert "exceptionDetails" not in done, done["exceptionDetails"]
    return done["result"]["value"]


@asynccontextmanager
async def _started(jobs: list[Job]) -> AsyncIterator[Browser]:
    authorities = sorted({job[key] for job in jobs for key in ("ca", "proxy_ca")})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        async with browser(Path(home), *authorities) as chromium:
            yield chromium


if __name__ == "__main__":
    run_all(visit, _started)
