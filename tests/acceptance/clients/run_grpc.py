"""grpcio: a unary call, a stream in both directions, and an error that is nothing but trailers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc

from tests.acceptance.clients.jobs import Job, Seen, run


async def call(job: Job) -> Seen:
    scheme, _, target = job["url"].partition("://")
    options = [("grpc.http_proxy", job["proxy"])] if job["proxy"] else [("grpc.enable_http_proxy", 0)]
    if scheme == "grpcs":
        credentials = grpc.ssl_channel_credentials(Path(job["ca"]).read_bytes())
        channel = grpc.aio.secure_channel(target, credentials, options)
    else:
        channel = grpc.aio.insecure_channel(target, options)
    async with channel:
        unary = channel.unary_unary("/test.Greeter/Unary")(b"hello")
        text = (await unary).decode()
        assert dict(await unary.trailing_metadata())["x-trailer"] == "sent"
        stream = channel.stream_stream("/test.Greeter/Stream")(_three())
        assert [message async for message in stream] == [b"one", b"two", b"three"]
        try:
            await channel.unary_unary("/test.Greeter/Refuse")(b"")
        except grpc.aio.AioRpcError as exc:
            assert (exc.code(), exc.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "not today")
        else:
            raise AssertionError("the refusal got lost")
        return {"version": "HTTP/2", "text": text, "mark": dict(await unary.initial_metadata()).get("x-mark")}


async def _three() -> AsyncIterator[bytes]:
    for word in (b"one", b"two", b"three"):
        yield word


if __name__ == "__main__":
    run(call)
