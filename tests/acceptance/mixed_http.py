"""HTTP clients of the mixed traffic: kept, new and pipelined connections over HTTP/1, many streams over HTTP/2."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from tests.acceptance.mixed_http2 import Block, Endpoint, Message
from tests.acceptance.mixed_origins import body
from tests.acceptance.mixed_world import Pair, Unexpected, World, connect_socks, connect_tunnel, connected, expect

_LEFT = (OSError, asyncio.IncompleteReadError, ssl.SSLError)


class Place(NamedTuple):
    """How a server is reached: `listener` of the proxy, `host:port` of the origin, and what is spoken on the way."""

    listener: str
    host: str
    origin: str
    tls: bool = False
    socks: bool = False

    def authority(self, world: World) -> str:
        return f"{self.host}:{world.origins[self.origin]}"


PLAIN = Place("regular", "h1.test", "h1")
REVERSE = Place("reverse:http", "h1.test", "h1")
DECRYPTED = Place("regular", "h1.test", "h1tls", tls=True)
TO_HTTP2 = Place("regular", "h2.test", "h2", tls=True)
SOCKS = Place("socks5", "h1.test", "h1", socks=True)
SOCKS_TLS = Place("socks5", "h2.test", "h2", tls=True, socks=True)
RELAYED = Place("regular", "relay.test", "h1tls", tls=True)
PRIOR = Place("regular", "h1.test", "h1")
PRIOR_TUNNEL = Place("socks5", "h2c.test", "h2c", socks=True)
#: Where servers end whole connections over HTTP/2: others on them are cut as well.
ROUGH = Place("regular", "x.test", "h2", tls=True)


async def _open(world: World, place: Place, pair: Pair) -> None:
    """Up to the point where HTTP/1 is spoken."""
    port = world.origins[place.origin]
    if place.socks:
        await connect_socks(pair, place.host, port)
    elif place.tls:
        await connect_tunnel(pair, place.host, port)
    if place.tls:
        await pair[1].start_tls(world.trust["relay" if place is RELAYED else "http/1.1"], server_hostname=place.host)


# --- HTTP/1 --------------------------------------------------------------------------------------------------------


class Answer(NamedTuple):
    status: int
    body: bytes
    trailers: bytes


async def read_answer(reader: asyncio.StreamReader, method: str = "GET") -> Answer:
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head[9:12])
        if status >= 200:
            break
    lower = head.lower()
    if method == "HEAD" or status in (204, 304):
        return Answer(status, b"", b"")
    if b"\r\ntransfer-encoding: chunked" in lower:
        pieces = []
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            pieces.append((await reader.readexactly(size + 2))[:-2])
        trailers = b""
        while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
            trailers += line
        return Answer(status, b"".join(pieces), trailers)
    length = int(lower.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
    return Answer(status, await reader.readexactly(length), b"")


class Asked(NamedTuple):
    """A request in bytes, and what must come back."""

    method: str
    raw: bytes
    answer: bytes
    trailers: bool = False
    status: int = 200


def _request(world: World, place: Place, method: str, path: str, fields: str = "", data: bytes = b"") -> bytes:
    authority = place.authority(world)
    target = path if place.tls or place.socks or place.listener.startswith("reverse") else f"http://{authority}{path}"
    return f"{method} {target} HTTP/1.1\r\nHost: {authority}\r\nX-Mixed: 1\r\n{fields}\r\n".encode() + data


def _choose(world: World, place: Place, *, simple: bool = False) -> Asked:
    """Some request, and what it is answered with."""
    size = world.size()
    kind = "s" if simple else world.rng.choice("ssssscceeEhni")
    data = body(size)
    match kind:
        case "s" | "c":
            return Asked("GET", _request(world, place, "GET", f"/{kind}/{size}"), data, kind == "c")
        case "e":
            return Asked("POST", _request(world, place, "POST", "/e", f"Content-Length: {size}\r\n", data), data, True)
        case "E":
            middle = size // 2
            halves = [piece for piece in (data[:middle], data[middle:]) if piece]
            chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in halves)
            raw = _request(world, place, "PUT", "/e", "Transfer-Encoding: chunked\r\nTrailer: x-up\r\n")
            return Asked("PUT", raw + chunks + b"0\r\nx-up: 1\r\n\r\n", data, True)
        case "h":
            return Asked("HEAD", _request(world, place, "HEAD", f"/s/{size}"), b"")
        case "n":
            return Asked("GET", _request(world, place, "GET", "/n"), b"", status=204)
        case _:
            return Asked("GET", _request(world, place, "GET", "/i"), b"hello")


async def _ask(world: World, pair: Pair, asked: list[Asked]) -> None:
    """One after the other, or pipelined."""
    reader, writer = pair
    writer.write(b"".join(request.raw for request in asked))
    for request in asked:
        answer = await read_answer(reader, request.method)
        expect((answer.status, answer.body) == (request.status, request.answer), lambda request=request, answer=answer:
               f"{request.raw[:60]!r}: {answer.status} with {len(answer.body)} bytes: {answer.body[:300]!r}")
        if request.trailers:
            expect(b"x-sum: 7" in answer.trailers.lower(), "no trailers over HTTP/1")


async def _break_off(world: World, place: Place, pair: Pair) -> None:
    """One request that the client or the server does not bring to its end."""
    reader, writer = pair
    rng = world.rng
    match rng.randrange(6):
        case 0:  # half a head
            raw = _request(world, place, "GET", "/s/100")
            writer.write(raw[:rng.randrange(1, len(raw) - 1)])
        case 1:  # half a body
            writer.write(_request(world, place, "POST", "/e", "Content-Length: 9000\r\n", body(rng.randrange(9000))))
        case 2:  # half the chunks
            writer.write(_request(world, place, "POST", "/e", "Transfer-Encoding: chunked\r\n", b"100\r\n" + body(200)))
        case 3:  # part of the answer
            writer.write(_request(world, place, "GET", "/s/200000"))
            await reader.readexactly(rng.randrange(1, 2000))
        case 4:  # no patience
            writer.write(_request(world, place, "GET", "/s/1000"))
            await asyncio.sleep(rng.random() * 0.01)
        case _:
            await _let_server_break_off(world, place, pair)
            return
    await asyncio.sleep(0)
    world.end(writer)


async def _let_server_break_off(world: World, place: Place, pair: Pair) -> None:
    where = world.rng.choice("012")
    shared = place.origin == "h2"  # there a stream ends: others are on the connection
    how = "stream" if shared else world.rng.choice(("rst", "fin"))
    data = body(world.size())
    pair[1].write(_request(world, place, "POST", f"/x/{how}/{where}", f"Content-Length: {len(data)}\r\n", data))
    try:
        answer = await read_answer(pair[0])
    except _LEFT:
        expect(where == "2" or (shared and where == "1") or place is RELAYED, f"/x/{how}/{where} over HTTP/1: no page")
        return
    expect(answer.status == 502, f"/x/{how}/{where}: {answer.status}")


def http1(place: Place, most: int = 30, *, pipelined: bool = False) -> Callable[[World, str], Awaitable[None]]:
    """Sessions of up to so many exchanges on one connection."""

    async def session(world: World, name: str) -> None:
        async with connected(world.proxy[place.listener]) as pair:
            await _open(world, place, pair)
            left = most
            while left > 0:
                many = min(left, world.rng.randrange(2, 12)) if pipelined else 1
                left -= many
                if (place is not RELAYED or left == most - 1) and world.strikes():
                    world.books.aborted[name] += 1
                    await _break_off(world, place, pair)
                    return
                await _ask(world, pair, [_choose(world, place, simple=pipelined) for _ in range(many)])
                if place is not RELAYED:
                    world.books.done[name] += many
            if place is RELAYED:
                world.books.done[name] += 1  # what is said in it is nobody's flow

    return session


# --- HTTP/2 --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def http2_endpoint(world: World, place: Place):  # type: ignore[no-untyped-def]
    """A connection on which HTTP/2 is spoken; gone afterwards."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.proxy[place.listener])
    try:
        await _tunnel(world, place, (reader, writer))
        endpoint, transport = Endpoint(client=True), writer.transport
        if place.tls:
            wrapped = await asyncio.get_running_loop().start_tls(transport, endpoint, world.trust["h2"],
                                                                 server_hostname=place.host)
            assert wrapped is not None
            transport = wrapped  # type: ignore[assignment]
        else:
            transport.set_protocol(endpoint)
        endpoint.connection_made(transport)
        try:
            yield endpoint
        finally:
            transport.close()
            async with asyncio.timeout(5):
                await endpoint.lost
    except BaseException:
        writer.transport.abort()
        raise


async def _tunnel(world: World, place: Place, pair: Pair) -> None:
    port = world.origins[place.origin]
    if place.socks:
        await connect_socks(pair, place.host, port)
    elif place.tls:
        await connect_tunnel(pair, place.host, port)


def _block(world: World, place: Place, method: str, path: str, *more: tuple[bytes, bytes]) -> Block:
    return [(b":method", method.encode()), (b":scheme", b"https" if place.tls else b"http"),
            (b":authority", place.authority(world).encode()), (b":path", path.encode()), (b"x-mixed", b"1"),
            (b"te", b"trailers"), *more]


def _begin(endpoint: Endpoint, block: Block, *, end: bool) -> Message:
    number = endpoint.h2.get_next_available_stream_id()
    message = endpoint.message(number)
    endpoint.send_block(number, block, end=end)
    return message


async def _stream(world: World, endpoint: Endpoint, place: Place, name: str) -> None:
    """One exchange on a stream of its own."""
    if world.strikes():
        world.books.aborted[name] += 1
        await _break_off_stream(world, endpoint, place)
        return
    size, kind = world.size(), world.rng.choice("sssceeEhni")
    data, method, path, sent = body(size), "GET", f"/{kind}/{size}", b""
    wanted, trailers, status = data, kind == "c", 200
    if kind in "eE":
        method, path, sent, trailers = "POST", "/e", data, True
    elif kind in "hni":
        method, path = ("HEAD", f"/s/{size}") if kind == "h" else ("GET", f"/{kind}")
        wanted, status = b"hello" if kind == "i" else b"", 204 if kind == "n" else 200
    fields = [(b"content-length", b"%d" % size)] if kind == "E" else []
    message = _begin(endpoint, _block(world, place, method, path, *fields), end=method != "POST")
    if method == "POST":
        endpoint.send(message.number, sent, end=True, trailers=[(b"x-up", b"1")] if kind == "e" else None)
    await message.over
    endpoint.forget(message.number)
    if (message.reset or message.status == 502) and place is ROUGH:
        world.books.collateral += 1
        world.books.aborted[name] += 1
        return
    expect((message.status, bytes(message.body), message.reset) == (status, wanted, False), lambda:
           f"{method} {path} over HTTP/2: {message.status}, {len(message.body)} bytes, reset {message.reset}: "
           f"{bytes(message.body[:300])!r}")
    expect(not trailers or message.trailers.get(b"x-sum") == b"7", lambda: f"trailers {message.trailers}")
    world.books.done[name] += 1


async def _break_off_stream(world: World, endpoint: Endpoint, place: Place) -> None:
    rng = world.rng
    kind = rng.randrange(4)
    if kind == 0:  # the server
        how = rng.choice(("rst", "fin", "goaway", "stream") if place is ROUGH else ("stream",))
        if place.origin in ("h1", "h1tls"):
            how = rng.choice(("rst", "fin"))
        where = rng.choice("012")
        message = _begin(endpoint, _block(world, place, "GET", f"/x/{how}/{where}"), end=True)
        await message.over
        expect(message.reset or message.status == 502, f"/x/{how}/{where} over HTTP/2: {message.status}")
    elif kind == 1:  # in the request
        message = _begin(endpoint, _block(world, place, "POST", "/e"), end=False)
        endpoint.send(message.number, body(rng.randrange(20000)))
        await asyncio.sleep(rng.random() * 0.01)
    elif kind == 2:  # in the answer
        message = _begin(endpoint, _block(world, place, "GET", "/s/200000"), end=True)
        await message.more.wait()
    else:
        message = _begin(endpoint, _block(world, place, "GET", "/s/1000"), end=True)
    endpoint.reset(message.number, 8)
    endpoint.forget(message.number)


async def _converse(world: World, endpoint: Endpoint, place: Place, name: str) -> None:
    """A call with messages both ways, each after the answer to the one before."""
    message = _begin(endpoint, _block(world, place, "POST", "/g", (b"content-type", b"application/grpc")), end=False)
    for number in range(world.rng.randrange(1, 6)):
        if world.strikes():
            world.books.aborted[name] += 1
            endpoint.reset(message.number, 8)
            endpoint.forget(message.number)
            return
        said = body(world.rng.randrange(1, 3000))
        message.body.clear()
        endpoint.send(message.number, said)
        while len(message.body) < len(said):
            expect(not message.over.done(), lambda number=number: f"a call ended at message {number}: {message.block}")
            message.more.clear()
            await message.more.wait()
        expect(bytes(message.body) == said, "another message in a call")
        world.books.messages += 1
    endpoint.send(message.number, b"", end=True)
    await message.over
    endpoint.forget(message.number)
    expect(message.trailers.get(b"grpc-status") == b"0", lambda: f"a call: {message.trailers}")
    world.books.done[name] += 1


def http2(place: Place, batches: int = 4, *, calls: bool = False) -> Callable[[World, str], Awaitable[None]]:
    """Sessions of some batches of streams side by side; some end in the middle of one."""
    work = _converse if calls else _stream

    async def session(world: World, name: str) -> None:
        rng = world.rng
        async with http2_endpoint(world, place) as endpoint:
            for _ in range(batches):
                if endpoint.lost.done() or endpoint.went_away:
                    return
                await _all(work(world, endpoint, place, name) for _ in range(rng.randrange(2, 40)))
            if rng.random() < 0.3:
                last = [_begin(endpoint, _block(world, place, "GET", f"/s/{world.size()}"), end=True)
                        for _ in range(rng.randrange(1, 10))]
                world.books.aborted[name] += len(last)
                if rng.random() < 0.3:
                    endpoint.go_away()
                await asyncio.sleep(rng.random() * 0.02)
                world.end(endpoint.transport)

    return session


async def _all(work) -> None:  # type: ignore[no-untyped-def]
    """Side by side; the first that fails is the one that is told."""
    for outcome in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome if isinstance(outcome, Unexpected) else Unexpected(repr(outcome)) from outcome
