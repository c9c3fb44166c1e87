"""httpx, with HTTP/2 if the job says so; the path /events is read as a stream of server-sent events."""

from __future__ import annotations

from uuid import uuid4

import httpx

from tests.acceptance.clients.jobs import Job, Seen, run, trust


async def get(job: Job) -> Seen:
    proxy = httpx.Proxy(job["proxy"], ssl_context=trust(job["proxy_ca"])
                        if job["proxy"].startswith("https:") else None) if job["proxy"] else None
    http2 = job["client"] == "httpx, http2=True"
    async with httpx.AsyncClient(http2=http2, proxy=proxy, verify=trust(job["ca"]), trust_env=False) as client:
        if job["client"] == "httpx, event stream":
            return await _events(client, job["url"])
        answer = await client.get(job["url"])
        return {"version": answer.http_version, "text": answer.text, "mark": answer.headers.get("x-mark")}


async def _events(client: httpx.AsyncClient, url: str) -> Seen:
    """The second event is sent when the first was seen, so they come one by one or not at all."""
    token, events = uuid4().hex, []
    async with client.stream("GET", f"{url}?{token}") as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                events.append(line[6:])
                await client.get(f"{url.removesuffix('events')}seen?{token}")
        assert events[1:] == ["second"], events
        return {"version": answer.http_version, "text": events[0], "mark": answer.headers.get("x-mark")}


if __name__ == "__main__":
    run(get)
