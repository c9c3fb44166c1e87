"""curl, one process for each job; an event stream is read while it comes."""

from __future__ import annotations

import asyncio
import re
from uuid import uuid4

from tests.acceptance.clients.jobs import Job, Seen, run

_VERSIONS = {"1.1": "HTTP/1.1", "2": "HTTP/2"}


async def get(job: Job) -> Seen:
    if job["client"] == "curl -N, event stream":
        return await _events(job)
    arguments = _arguments(job, job["client"].removeprefix("curl "))
    out = await _curl(*arguments, "-w", "\n%{http_version}", job["url"])
    head, _, rest = out.rpartition("\r\n\r\n")
    text, _, version = rest.rpartition("\n")
    mark = re.search(r"^x-mark: (.*)\r?$", head, re.MULTILINE)
    return {"version": _VERSIONS[version], "text": text, "mark": mark[1].strip() if mark else None}


def _arguments(job: Job, option: str) -> list[str]:
    proxy: list[str] = []
    if job["proxy"].startswith("socks5h://"):
        proxy = ["--socks5-hostname", job["proxy"].removeprefix("socks5h://")]
    elif job["proxy"]:
        proxy = ["--proxy", job["proxy"], "--proxy-cacert", job["proxy_ca"]]
    if job["proxy"].startswith("http") and "prior" in option:
        proxy += ["--proxytunnel"]  # to a proxy without a tunnel it speaks HTTP/1.1
    return ["-q", "-sS", "-i", "--suppress-connect-headers", "--max-time", "25", option, *proxy, "--cacert", job["ca"]]


async def _curl(*arguments: str) -> str:
    process = await asyncio.create_subprocess_exec("curl", *arguments, stdin=asyncio.subprocess.DEVNULL,
                                                   stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


async def _events(job: Job) -> Seen:
    """The second event is sent when the first was seen, so they come one by one or not at all."""
    token, events, version, mark = uuid4().hex, [], "", None
    arguments = _arguments(job, "-N")
    process = await asyncio.create_subprocess_exec("curl", *arguments, f"{job['url']}?{token}",
                                                   stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    async for raw in process.stdout:
        name, _, value = raw.decode().strip().partition(": ")
        if name == "data":
            events.append(value)
            await _curl(*arguments, f"{job['url'].removesuffix('events')}seen?{token}")
        elif name.startswith("HTTP/"):
            version = "HTTP/2" if name.startswith("HTTP/2") else "HTTP/1.1"
        elif name == "x-mark":
            mark = value
    assert await process.wait() == 0
    assert events[1:] == ["second"], events
    return {"version": version, "text": events[0], "mark": mark}


if __name__ == "__main__":
    run(get)
