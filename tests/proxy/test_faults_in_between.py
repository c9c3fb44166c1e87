"""Faults on the way: success or a definite error in time, never a silent cut or somebody else's answer (R23)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import h11
import pytest

from tests.support.origin import OriginConnection, RawRequest, answering, run_origin
from tests.support.proxy import RunningProxy

MakeProxy = Callable[..., Awaitable[RunningProxy]]

SECONDS = 10.0
LIMIT = 0.3
FAULTS = ("reset", "end", "stall", "flip")
BODY = bytes(range(256)) * 4
SIZED = b"HTTP/1.1 200 OK\r\nContent-Type: x/y\r\nContent-Length: 1024\r\n\r\n" + BODY
CHUNKED = (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n200\r\n" + BODY[:512] + b"\r\n200\r\n" + BODY[512:]
           + b"\r\n0\r\nX-Sum: 1\r\n\r\n")
UNTIL_CLOSE = b"HTTP/1.0 200 OK\r\n\r\n" + BODY


@dataclass
class Fault:
    """What happens to the bytes of one direction: `kind` once `at` bytes have passed; `slices` passes them singly."""

    kind: str = ""
    at: int = 0
    slices: bool = False


@asynccontextmanager
async def fault_relay(port: int, to_server: Fault, to_client: Fault) -> AsyncIterator[int]:
    """A way to `port` on which things happen; yields the port to use instead."""
    tasks: set[asyncio.Task[None]] = set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, back: asyncio.StreamWriter,
                    fault: Fault) -> None:
        passed = 0
        while data := await reader.read(1 if fault.slices else 65536):
            cut = fault.at - passed if fault.kind else len(data)
            if cut < len(data):
                writer.write(data[:cut])
                match fault.kind:
                    case "reset":
                        for end in (writer, back):
                            end.get_extra_info("socket").setsockopt(1, 13, b"\x01\0\0\0\0\0\0\0")
                            end.transport.abort()
                        return
                    case "end":
                        writer.write_eof()
                        return
                    case "stall":
                        await asyncio.sleep(SECONDS * 2)
                    case "flip":
                        writer.write(bytes([data[cut] ^ 4]) + data[cut + 1:])
                        fault = Fault()
                        continue
            else:
                writer.write(data)
                passed += len(data)
            await writer.drain()
        writer.write_eof()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        both = (asyncio.create_task(carry(reader, back, writer, to_server)),
                asyncio.create_task(carry(there, writer, back, to_client)))
        tasks.update(both)
        await asyncio.wait(both)
        for end in (writer, back):
            end.close()
        for task in both:
            tasks.discard(task)
            if not task.cancelled():
                task.exception()  # one side is gone, which is what this is for

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await server.wait_closed()


async def ask(address: tuple[str, int], target: str, body: bytes = b"") -> tuple[int, bytes] | None:
    """Status and body of a complete answer; None when it is cut or there is none. Fails when it takes too long."""
    client = h11.Connection(h11.CLIENT)
    status, received = 0, b""
    method, fields = ("POST", [("Content-Length", str(len(body)))]) if body else ("GET", [])
    async with asyncio.timeout(SECONDS):
        reader, writer = await asyncio.open_connection(*address)
        try:
            head = h11.Request(method=method, target=target, headers=[("Host", "x"), *fields])
            writer.write(client.send(head) or b"")
            if body:
                writer.write(client.send(h11.Data(data=body)) or b"")
            client.send(h11.EndOfMessage())
            while True:
                event = client.next_event()
                match event:
                    case h11.NEED_DATA:
                        client.receive_data(await reader.read(65536))
                    case h11.Response():
                        status = event.status_code
                    case h11.Data():
                        received += event.data
                    case h11.EndOfMessage():
                        return status, received
                    case h11.ConnectionClosed():
                        return None
        except (h11.RemoteProtocolError, ConnectionError):
            return None
        finally:
            writer.close()


def places(answer: bytes) -> Iterable[int]:
    """Where faults happen: in every part of the head, at its end, in the body, around its end."""
    head = answer.index(b"\r\n\r\n") + 4
    return sorted({0, 1, 8, 12, 16, head - 3, head - 1, head, head + 1, head + 700, len(answer) - 9, len(answer) - 2,
                   len(answer) - 1})


@pytest.mark.parametrize("answer", [SIZED, CHUNKED, UNTIL_CLOSE], ids=["sized", "chunked", "until-close"])
@pytest.mark.parametrize("kind", FAULTS)
async def test_between_proxy_and_origin(make_proxy: MakeProxy, kind: str, answer: bytes) -> None:
    proxy = await make_proxy(idle_timeout=LIMIT, body_timeout=LIMIT, record=False)
    address = (proxy.host, proxy.port)

    async def one(at: int) -> None:
        async with fault_relay(origin.port, Fault(), Fault(kind, at)) as port:
            got = await ask(address, f"http://127.0.0.1:{port}/")
            if kind == "flip":
                return  # what is damaged on the way may still be an answer; it must end, and in time
            if got is None:
                return
            status, body = got
            if answer is UNTIL_CLOSE and kind == "end" and at >= answer.index(b"\r\n\r\n") + 4:
                # HTTP/1.0 without a length: the end is the end
                assert (status, body) == (200, BODY[:at - len(answer)])
            else:
                assert status in (502, 504), got
            assert body != BODY

    closing = answer is UNTIL_CLOSE

    async def script(connection: OriginConnection) -> None:
        request = await connection.read_request()
        assert request
        await connection.send(answer)
        if not closing:
            await connection.read_to_end()

    async with run_origin(script) as origin:
        await asyncio.gather(*(one(at) for at in places(answer)))
        healthy = await ask(address, f"http://127.0.0.1:{origin.port}/")
        assert healthy == (200, BODY)


@pytest.mark.parametrize("kind", FAULTS)
async def test_between_client_and_proxy(make_proxy: MakeProxy, kind: str) -> None:
    """What reaches the origin is what the client sent, or nothing that looks complete."""
    proxy = await make_proxy(idle_timeout=LIMIT, body_timeout=LIMIT, head_timeout=LIMIT)
    body = BODY
    async with run_origin(answering(SIZED)) as origin:
        target = f"http://127.0.0.1:{origin.port}/"
        length = len(f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 1024\r\n\r\n") + len(body)

        async def one(at: int) -> None:
            async with fault_relay(proxy.port, Fault(kind, at), Fault()) as port:
                await ask(("127.0.0.1", port), target, body)

        await asyncio.gather(*(one(at) for at in (0, 1, 10, 30, 60, 90, 500, length - 2, length - 1)))
        damaged = {request.body for request in origin.requests} - {body}
        assert kind == "flip" or not damaged
        assert await ask((proxy.host, proxy.port), target, body) == (200, BODY)


@pytest.mark.parametrize("answer", [SIZED, CHUNKED], ids=["sized", "chunked"])
async def test_byte_by_byte(make_proxy: MakeProxy, answer: bytes) -> None:
    proxy = await make_proxy()
    slices = Fault(slices=True)
    async with (run_origin(answering(answer)) as origin,
                fault_relay(origin.port, slices, slices) as port, fault_relay(proxy.port, slices, slices) as entry):
        for _ in range(2):
            assert await ask(("127.0.0.1", entry), f"http://127.0.0.1:{port}/", BODY) == (200, BODY)
        assert [request.body for request in origin.requests] == [BODY, BODY]


async def test_every_answer_belongs_to_its_request(make_proxy: MakeProxy) -> None:
    """Many clients, many requests each, over server connections that end at any moment."""
    clients, requests = 16, 60
    proxy = await make_proxy(record=False)

    def echo(request: RawRequest) -> bytes:
        number = request.target.rpartition(b"/")[2]
        closing = b"Connection: close\r\n" if number.endswith(b"7") else b""
        return b"HTTP/1.1 200 OK\r\n" + closing + b"Content-Length: %d\r\n\r\n" % len(number) + number

    async def fickle(connection: OriginConnection) -> None:
        """Answers some requests, then leaves with or without a word."""
        for turn in range(1, 100):
            request = await connection.read_request()
            if turn > 3 and int(request.target.rpartition(b"/")[2]) % 11 == 0:
                connection.reset()
                return
            await connection.send(echo(request))
            if request.target.endswith(b"7"):
                return

    async def client(number: int) -> int:
        reader, writer = await proxy.connect()
        answered = 0
        for turn in range(requests):
            name = f"{number * requests + turn}"
            writer.write(f"GET http://127.0.0.1:{origin.port}/{name} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            body = await reader.readexactly(length)
            if head.startswith(b"HTTP/1.1 200 "):
                assert body == name.encode()
                answered += 1
            else:
                assert head.startswith(b"HTTP/1.1 502 ")
        writer.close()
        return answered

    async with run_origin(fickle) as origin, asyncio.timeout(SECONDS * 2):
        answered = sum(await asyncio.gather(*(client(number) for number in range(clients))))
    assert answered > clients * requests // 2
