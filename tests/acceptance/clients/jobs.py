"""What the client programs have in common: jobs come as JSON on the command line, what was seen goes out as JSON."""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar

SECONDS = 30.0  # for one job: browsers take their time on a busy machine

Job = dict[str, Any]
Seen = dict[str, Any]
T = TypeVar("T")


def trust(*files: str) -> ssl.SSLContext:
    """A context that trusts these authorities and nobody else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for file in files:
        context.load_verify_locations(file)
    return context


def run(client: Callable[[Job], Awaitable[Seen]]) -> None:
    """Do each job, and print for each what was seen: `version`, `text`, `mark` if a rule set it, and, of clients that
    had to trust everybody, `issuer`; or `failed`."""
    @asynccontextmanager
    async def nothing(_jobs: list[Job]) -> AsyncIterator[None]:
        yield

    run_all(lambda _, job: client(job), nothing)


def run_all(client: Callable[[T, Job], Awaitable[Seen]],
            started: Callable[[list[Job]], AbstractAsyncContextManager[T]]) -> None:
    """The same for a client that is started once for all of them."""
    async def every(jobs: list[Job]) -> list[Seen]:
        async with started(jobs) as what:
            return [await _one(client, what, job) for job in jobs]

    print(json.dumps(asyncio.run(every(json.loads(sys.argv[1])))))


async def _one(client: Callable[[T, Job], Awaitable[Seen]], what: T, job: Job) -> Seen:
    try:
        async with asyncio.timeout(SECONDS):
            return await client(what, job)
    except Exception as exc:
        return {"failed": f"{type(exc).__name__}: {exc}"}
