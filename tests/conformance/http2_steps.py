"""The vocabulary of the HTTP/2 cases: what a case sends, and what it waits for before it goes on.

A step is made when the table is and does its work when the case is played. Without a `stream` of their own, steps are
about the stream of the request: 1 for a client, that of the request received for a server.
"""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.conformance.http2_expectations import Expectation
from tests.conformance.http2_peer import (
    ACK,
    END_HEADERS,
    END_STREAM,
    PADDED,
    PREFACE,
    PRIORITY_FIELDS,
    Code,
    Peer,
    Setting,
    Type,
    frame,
)
from tests.conformance.verdicts import Unmet, Verdict

Step = Callable[[Peer], Awaitable[None]]
Fields = list[tuple[str, str]]
#: Fields of a message, from the peer that sends it.
Head = Callable[[Peer], Fields]

THE_REQUEST = -1
DEFAULT_WINDOW = 65535
LARGEST_WINDOW = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Http2Case:
    """`id` as in the public list, `clause` of RFC 9113 (or of RFC 7541 for hpack)."""

    id: str
    clause: str
    title: str
    steps: tuple[Step, ...]
    expect: Expectation


def case(id: str, clause: str, title: str, *steps: Step, expect: Expectation) -> Http2Case:
    return Http2Case(id, clause, title, steps, expect)


async def play(case: Http2Case, peer: Peer) -> Verdict:
    for step in case.steps:
        await step(peer)
    return await case.expect(peer)


# Heads -------------------------------------------------------------------------------------------------------------


def request(method: str = "GET", *more: tuple[str, str], path: str = "/", without: str = "") -> Head:
    """The fields of a request, regular ones last; `without` leaves out one pseudo-header field."""
    def fields(peer: Peer) -> Fields:
        pseudo = [(":method", method), (":scheme", peer.scheme), (":path", path), (":authority", peer.authority)]
        return [field for field in pseudo if field[0] != without] + list(more)
    return fields


def response(*more: tuple[str, str]) -> Head:
    return lambda peer: [(":status", "200"), ("access-control-allow-origin", "*"), *more]


def only(*fields: tuple[str, str]) -> Head:
    return lambda peer: list(fields)


def filler(size: int = 4000, count: int = 1) -> Head:
    """Long fields that mean nothing."""
    return lambda peer: [(f"x-dummy{number}", "x" * size) for number in range(count)]


def oversized(head: Head) -> Head:
    """`head` with enough filler that its block does not fit a frame, even in Huffman code."""
    return lambda peer: head(peer) + filler(4000, peer.max_frame_size // 3000 + 1)(peer)


def regular_first(head: Head) -> Head:
    return lambda peer: [("x-test", "ok"), *head(peer)]


# What a case sends -------------------------------------------------------------------------------------------------


def raw(data: bytes) -> Step:
    return _sending(lambda peer: data)


def any_frame(type: int, payload: bytes = b"", *, stream: int = 0, flags: int = 0) -> Step:
    return _sending(lambda peer: frame(type, payload, stream=_stream(peer, stream), flags=flags))


def headers(head: Head, *, stream: int = THE_REQUEST, end_stream: bool = True, end_headers: bool = True,
            padding: int | None = None, priority: bytes = b"", before: bytes = b"", after: bytes = b"") -> Step:
    """`before` and `after` stand around the encoded block as they are. `priority` is what `depends` makes."""
    def data(peer: Peer) -> bytes:
        payload = priority + before + peer.encoder.encode(head(peer)) + after
        flags = end_stream * END_STREAM | end_headers * END_HEADERS | bool(priority) * PRIORITY_FIELDS
        if padding is not None:
            payload, flags = bytes([padding]) + payload + bytes(padding), flags | PADDED
        return frame(Type.HEADERS, payload, stream=_stream(peer, stream), flags=flags)
    return _sending(data)


def split_headers(head: Head, *cuts: int) -> Step:
    """The block in a HEADERS frame and CONTINUATION frames, cut at these places. Ends the stream."""
    def data(peer: Peer) -> bytes:
        block = peer.encoder.encode(head(peer))
        parts = [block[start:end] for start, end in zip((0, *cuts), (*cuts, len(block)), strict=True)]
        return b"".join(
            frame(Type.CONTINUATION if number else Type.HEADERS, part, stream=peer.stream,
                  flags=(0 if number else END_STREAM) | (END_HEADERS if number == len(parts) - 1 else 0))
            for number, part in enumerate(parts))
    return _sending(data)


def bad_padding_headers(head: Head) -> Step:
    """A HEADERS frame whose padding is said to be longer than what follows."""
    def data(peer: Peer) -> bytes:
        block = peer.encoder.encode(head(peer))
        return frame(Type.HEADERS, bytes([len(block) + 2]) + block, stream=peer.stream,
                     flags=END_STREAM | END_HEADERS | PADDED)
    return _sending(data)


def oversized_table(head: Head) -> Step:
    """A block that asks for a dynamic table one byte larger than the receiver allows. RFC 7541 §6.3"""
    def data(peer: Peer) -> bytes:
        size = peer.settings.get(Setting.HEADER_TABLE_SIZE, 4096) + 1
        block = integer(size, 5, 0x20) + peer.encoder.encode(head(peer))
        return frame(Type.HEADERS, block, stream=peer.stream, flags=END_STREAM | END_HEADERS)
    return _sending(data)


def promise(head: Head) -> Step:
    return _sending(lambda peer: frame(Type.PUSH_PROMISE, struct.pack(">I", 3) + peer.encoder.encode(head(peer)),
                                       stream=peer.stream, flags=END_HEADERS))


async def too_many_requests(peer: Peer) -> None:
    """One request more than the other side allows at a time, each the same; it must name a limit."""
    limit = peer.settings.get(Setting.MAX_CONCURRENT_STREAMS)
    if limit is None:
        raise Unmet("MAX_CONCURRENT_STREAMS", peer.settings)
    for number in range(limit + 1):
        await headers(request(), stream=1 + 2 * number)(peer)


def continuation(head: Head, *, stream: int = THE_REQUEST, end_headers: bool = True) -> Step:
    return _sending(lambda peer: frame(Type.CONTINUATION, peer.encoder.encode(head(peer)),
                                       stream=_stream(peer, stream), flags=end_headers * END_HEADERS))


def data(payload: bytes = b"test", *, stream: int = THE_REQUEST, end_stream: bool = True,
         padding: int | None = None) -> Step:
    flags = end_stream * END_STREAM
    if padding is not None:
        payload, flags = bytes([padding]) + payload + bytes(padding), flags | PADDED
    return any_frame(Type.DATA, payload, stream=stream, flags=flags)


def full_frame(excess: int = 0) -> Step:
    """DATA of the largest length allowed, and some bytes more. Ends the stream."""
    return _sending(lambda peer: frame(Type.DATA, b"x" * (peer.max_frame_size + excess), stream=peer.stream,
                                       flags=END_STREAM))


def depends(on: int = 0, *, exclusive: bool = False, weight: int = 255) -> bytes:
    """RFC 9113 §6.3. `weight` as in the frame: one less than the weight."""
    return struct.pack(">IB", exclusive << 31 | on, weight)


def priority(fields: bytes, *, stream: int = THE_REQUEST) -> Step:
    return any_frame(Type.PRIORITY, fields, stream=stream)


def reset(code: int = Code.CANCEL, *, stream: int = THE_REQUEST) -> Step:
    return any_frame(Type.RST_STREAM, struct.pack(">I", code), stream=stream)


def settings(*pairs: tuple[int, int], flags: int = 0) -> Step:
    return any_frame(Type.SETTINGS, b"".join(struct.pack(">HI", *pair) for pair in pairs), flags=flags)


def ping(payload: bytes = bytes(8), *, flags: int = 0) -> Step:
    return any_frame(Type.PING, payload, flags=flags)


def goaway(code: int = Code.NO_ERROR, text: bytes = b"") -> Step:
    return any_frame(Type.GOAWAY, struct.pack(">II", 0, code) + text)


def window_update(increment: int, *, stream: int = THE_REQUEST) -> Step:
    return any_frame(Type.WINDOW_UPDATE, struct.pack(">I", increment), stream=stream)


def unknown_frame() -> Step:
    return any_frame(0x16, bytes(8))


def table_size(size: int) -> Step:
    """The next block announces a dynamic table of this size. RFC 7541 §6.3"""
    async def step(peer: Peer) -> None:
        peer.encoder.header_table_size = size
    return step


def integer(value: int, prefix: int, first: int) -> bytes:
    """RFC 7541 §5.1, `first` being what stands beside the prefix."""
    most = (1 << prefix) - 1
    if value < most:
        return bytes([first | value])
    encoded, value = bytearray([first | most]), value - most
    while value >= 128:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])


# What a case waits for before it goes on ---------------------------------------------------------------------------


async def begin(peer: Peer) -> None:
    """The client's preface and settings, RFC 9113 §3.4."""
    peer.send(PREFACE + frame(Type.SETTINGS, struct.pack(">HI", Setting.INITIAL_WINDOW_SIZE, DEFAULT_WINDOW)))


async def connect(peer: Peer) -> None:
    """The client's part of the start, until both sides have acknowledged the settings."""
    await begin(peer)
    await _settings_of_peer(peer)
    peer.send(frame(Type.SETTINGS, flags=ACK))
    await acknowledged(peer)


async def preface(peer: Peer) -> None:
    """The client's preface and its settings are there; a server says nothing yet."""
    start = await peer.read_exactly(len(PREFACE))
    if start != PREFACE:
        raise Unmet("the client's preface", start)
    await _settings_of_peer(peer)


async def accept(peer: Peer) -> None:
    """The server's part of the start."""
    await preface(peer)
    peer.send(frame(Type.SETTINGS, struct.pack(">HI", Setting.INITIAL_WINDOW_SIZE, DEFAULT_WINDOW))
              + frame(Type.SETTINGS, flags=ACK))


async def receive_request(peer: Peer) -> None:
    head = await peer.find("a request", lambda seen: seen.type == Type.HEADERS)
    peer.stream = head.stream


async def acknowledged(peer: Peer) -> None:
    await peer.find("SETTINGS with ACK", lambda seen: seen.type == Type.SETTINGS and seen.ack)


async def stream_over(peer: Peer) -> None:
    """The other side has ended the stream, too."""
    await peer.find("the end of the stream", lambda seen: seen.stream == peer.stream and (
        seen.ends_stream or (seen.type == Type.RST_STREAM and seen.code == Code.NO_ERROR)))


async def some_data(peer: Peer) -> None:
    await peer.find("DATA", lambda seen: seen.type == Type.DATA)


async def _settings_of_peer(peer: Peer) -> None:
    first = await peer.next()
    if first is None or first.type != Type.SETTINGS or first.ack:
        raise Unmet("SETTINGS as the first frame", peer.seen())


def _stream(peer: Peer, stream: int) -> int:
    return peer.stream if stream == THE_REQUEST else stream


def _sending(make: Callable[[Peer], bytes]) -> Step:
    async def step(peer: Peer) -> None:
        peer.send(make(peer))
    return step
