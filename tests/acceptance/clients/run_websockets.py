"""The `websockets` client: what the server says first, and an echo."""

from __future__ import annotations

from typing import Any

from websockets.asyncio.client import connect

from tests.acceptance.clients.jobs import Job, Seen, run, trust


async def talk(job: Job) -> Seen:
    extra: dict[str, Any] = {"ssl": trust(job["ca"])} if job["url"].startswith("wss:") else {}
    if job["proxy"].startswith("https:"):
        extra["proxy_ssl"] = trust(job["proxy_ca"])
    async with connect(job["url"], proxy=job["proxy"] or None, **extra) as connection:
        text = await connection.recv()
        await connection.send("echo")
        assert await connection.recv() == "echo"
        assert connection.response is not None
        return {"version": "HTTP/1.1", "text": text, "mark": connection.response.headers.get("x-mark")}


if __name__ == "__main__":
    run(talk)
