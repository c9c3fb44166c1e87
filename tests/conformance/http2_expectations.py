"""What an HTTP/2 case expects to come back in the end, and how strictly it was met."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tests.conformance.http2_peer import END_HEADERS, Code, Frame, Peer, Type
from tests.conformance.verdicts import Unmet, Verdict

Expectation = Callable[[Peer], Awaitable[Verdict]]


def connection_error(*codes: Code) -> Expectation:
    """GOAWAY with one of the codes, then the end of the connection. Without GOAWAY, or with another code: non-strict.
    RFC 9113 §5.4.1"""
    async def judge(peer: Peer) -> Verdict:
        announced = False
        while (seen := await peer.next()) is not None:
            announced = announced or (seen.type == Type.GOAWAY and seen.code in codes)
        return Verdict.STRICT if announced else Verdict.NON_STRICT
    return judge


async def late_data_refused(peer: Peer) -> Verdict:
    """STREAM_CLOSED for the stream or the connection (RFC 9113 §6.1, §5.1), and the end, which the list asks for."""
    announced = False
    while (seen := await peer.next()) is not None:
        announced = announced or (seen.type in (Type.RST_STREAM, Type.GOAWAY) and seen.code == Code.STREAM_CLOSED)
    return Verdict.STRICT if announced else Verdict.NON_STRICT


def stream_error(*codes: Code) -> Expectation:
    """RST_STREAM or GOAWAY with one of the codes; only the end of the connection: non-strict. RFC 9113 §5.4.2"""
    async def judge(peer: Peer) -> Verdict:
        while (seen := await peer.next()) is not None:
            if seen.type in (Type.RST_STREAM, Type.GOAWAY) and seen.code in codes:
                return Verdict.STRICT
        return Verdict.NON_STRICT
    return judge


def reset_with(code: Code) -> Expectation:
    """RST_STREAM for the request's stream, nothing else."""
    async def judge(peer: Peer) -> Verdict:
        await peer.find(f"RST_STREAM with {code.name}", lambda seen: seen.type == Type.RST_STREAM
                        and seen.stream == peer.stream and seen.code == code)
        return Verdict.STRICT
    return judge


def goaway_with(*codes: Code) -> Expectation:
    """GOAWAY, nothing else. Without codes: any."""
    async def judge(peer: Peer) -> Verdict:
        await peer.find("GOAWAY", lambda seen: seen.type == Type.GOAWAY and (not codes or seen.code in codes))
        return Verdict.STRICT
    return judge


async def hung_up(peer: Peer) -> Verdict:
    """The connection ends, whatever comes before: even what is no frame at all."""
    try:
        await peer.read_to_end()
    except TimeoutError:
        raise Unmet("the end of the connection", peer.seen()) from None
    return Verdict.STRICT


async def answered(peer: Peer) -> Verdict:
    """A whole response with status 200, on the request's stream."""
    block = b""
    head: Frame | None = None
    while head is None or not head.flags & END_HEADERS:
        head = await peer.find("a response", lambda seen: seen.type in (Type.HEADERS, Type.CONTINUATION))
        block += head.payload
        if head.stream != peer.stream:
            raise Unmet(f"a response on stream {peer.stream}", head)
        if head.type == Type.HEADERS:
            first = head
    fields = peer.decoder.decode(block)
    if fields[0] != (":status", "200"):
        raise Unmet("status 200", fields)
    if not first.ends_stream:
        await peer.find("the end of the response", lambda seen: seen.stream == peer.stream and seen.ends_stream)
    return Verdict.STRICT


def pinged(payload: bytes = bytes(8)) -> Expectation:
    async def judge(peer: Peer) -> Verdict:
        await peer.find("PING with ACK", lambda seen: seen.type == Type.PING and seen.ack and seen.payload == payload)
        return Verdict.STRICT
    return judge


async def ping_or_close(peer: Peer) -> Verdict:
    """After a GOAWAY the other side may do either."""
    while (seen := await peer.next()) is not None:
        if seen.type == Type.PING and seen.ack:
            break
    return Verdict.STRICT


async def settings_acknowledged(peer: Peer) -> Verdict:
    await peer.find("SETTINGS with ACK", lambda seen: seen.type == Type.SETTINGS and seen.ack)
    return Verdict.STRICT


async def data_arrives(peer: Peer) -> Verdict:
    await peer.find("DATA", lambda seen: seen.type == Type.DATA)
    return Verdict.STRICT


async def one_byte_of_data(peer: Peer) -> Verdict:
    """The window has room for a single byte: exactly that comes. RFC 9113 §6.9"""
    seen = await peer.find("DATA", lambda seen: seen.type == Type.DATA)
    if len(seen.payload) != 1:
        raise Unmet("one byte of DATA", peer.seen())
    return Verdict.STRICT


async def settings_first(peer: Peer) -> Verdict:
    """The other side starts with SETTINGS. RFC 9113 §3.4"""
    first = await peer.next()
    if first is None or first.type != Type.SETTINGS or first.ack:
        raise Unmet("SETTINGS as the first frame", peer.seen())
    return Verdict.STRICT


async def begun(peer: Peer) -> Verdict:
    """The steps before were what is judged."""
    await peer.flush()
    return Verdict.STRICT
