"""The vocabulary of the WebSocket cases: what a case sends, and how what comes back is judged.

A case works in both roles: its peer is a client before the proxy or a server behind it, and an echo is at the far end.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.conformance.verdicts import Unmet, Verdict
from tests.conformance.websocket_peer import PATIENCE, Event, Op, Peer

Step = Callable[[Peer], Awaitable[None]]
#: What a case expects in the end.
Ending = Callable[[Peer], Awaitable[Verdict]]

NORMAL = 1000
PROTOCOL_ERROR = 1002
INVALID_DATA = 1007
#: How long a case watches that nothing happens.
_MOMENT = 0.3


@dataclass(frozen=True, slots=True)
class WebSocketCase:
    """`id` as in the public list. `offers`: what a client offers for compression, `accepts`: what a server takes."""

    id: str
    title: str
    steps: tuple[Step, ...]
    ending: Ending
    offers: str = ""
    accepts: str = ""


def case(id: str, title: str, *steps: Step, ending: Ending) -> WebSocketCase:
    return WebSocketCase(id, title, steps, ending)


async def play(case: WebSocketCase, peer: Peer) -> Verdict:
    """With a peer whose connection is open."""
    for step in case.steps:
        await step(peer)
    return await case.ending(peer)


# What a case sends -------------------------------------------------------------------------------------------------


def send(op: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, chop: int = 0) -> Step:
    async def step(peer: Peer) -> None:
        await peer.send(peer.frame(op, payload, fin=fin, rsv=rsv), chop=chop)
    return step


def together(*frames: tuple[int, bytes, bool]) -> Step:
    """Frames (opcode, payload, fin) in one write."""
    async def step(peer: Peer) -> None:
        await peer.send(b"".join(peer.frame(op, payload, fin=fin) for op, payload, fin in frames))
    return step


def apart(*frames: tuple[int, bytes, bool], chop: int = 0) -> Step:
    """Frames one after the other, the network given a chance in between."""
    async def step(peer: Peer) -> None:
        for op, payload, fin in frames:
            await peer.send(peer.frame(op, payload, fin=fin), chop=chop)
            await asyncio.sleep(0)
    return step


def message(payload: bytes, *, binary: bool = False, fragment: int = 0) -> Step:
    async def step(peer: Peer) -> None:
        await peer.message(payload, binary=binary, fragment=fragment)
    return step


def part_of_text(payload: bytes, start: int, end: int) -> Step:
    """These bytes of a text that is one frame, with the frame's head before the first."""
    async def step(peer: Peer) -> None:
        whole = peer.frame(Op.TEXT, payload)
        head = len(whole) - len(payload)
        await peer.send(whole[head + start if start else 0:head + end])
    return step


def close(code: int | None = NORMAL, reason: bytes = b"") -> Step:
    return send(Op.CLOSE, b"" if code is None else struct.pack(">H", code) + reason)


async def silence(peer: Peer) -> None:
    """Nothing comes for a moment: what was sent so far is no reason to fail."""
    try:
        event = await peer.next(_MOMENT)
    except Unmet:
        peer.log.append("silence")
        return
    raise Unmet("silence", event or "the end")


async def pause(peer: Peer) -> None:
    await asyncio.sleep(_MOMENT)


# How what comes back is judged -------------------------------------------------------------------------------------


def text(payload: bytes) -> Event:
    return Event(Op.TEXT, payload)


def binary(payload: bytes) -> Event:
    return Event(Op.BINARY, payload)


def pong(payload: bytes = b"") -> Event:
    return Event(Op.PONG, payload)


def echoes(*events: Event) -> Ending:
    """Exactly these come back; then the peer closes, and the other side closes cleanly, too."""
    async def judge(peer: Peer) -> Verdict:
        for wanted in events:
            event = await peer.next()
            if event != wanted:
                raise Unmet(str(wanted), event or "the end")
        await close()(peer)
        return await closes(NORMAL)(peer)
    return judge


def fails(*codes: int, after: tuple[Event, ...] = ()) -> Ending:
    """The other side ends the connection, with a Close frame of one of these codes, after it has answered `after`.
    Without a Close frame, or without those answers: non-strict."""
    async def judge(peer: Peer) -> Verdict:
        events, code = await _until_the_end(peer)
        if tuple(events) not in (after, ()):
            raise Unmet(f"{[str(event) for event in after]} or nothing", [str(event) for event in events])
        if code is not None and code not in codes:
            raise Unmet(f"a close with {codes}", code)
        return Verdict.STRICT if tuple(events) == after and code is not None else Verdict.NON_STRICT
    return judge


def closes(*codes: int, clean: bool = True) -> Ending:
    """The answer to the peer's own Close: one with these codes (or none, for a Close without one), then the end, and
    nothing before. `clean=False`: the other side may drop the connection instead, non-strictly."""
    async def judge(peer: Peer) -> Verdict:
        events, code = await _until_the_end(peer)
        if events:
            raise Unmet("nothing before the Close frame", [str(event) for event in events])
        if code is None:
            if clean:
                raise Unmet("a Close frame", peer.seen())
            return Verdict.NON_STRICT
        if code not in codes:
            raise Unmet(f"a close with {codes}", code)
        return Verdict.STRICT
    return judge


def fails_fast(rest: Step) -> Ending:
    """The other side does not wait for the rest to fail with 1007. After the rest: non-strict."""
    async def judge(peer: Peer) -> Verdict:
        try:
            event = await peer.next(PATIENCE / 2)
        except Unmet:
            await rest(peer)
            await fails(INVALID_DATA)(peer)
            return Verdict.NON_STRICT
        code = await _closing(peer, event)
        if code not in (INVALID_DATA, None):
            raise Unmet("a close with 1007", code)
        return Verdict.NON_STRICT if code is None else Verdict.STRICT
    return judge


async def whatever(peer: Peer) -> Verdict:
    """The RFC leaves open what happens, but for an end."""
    await _until_the_end(peer)
    return Verdict.INFORMATIONAL


async def _until_the_end(peer: Peer) -> tuple[list[Event], int | None]:
    """What came before the Close frame, and the code of that; None: there was none."""
    events: list[Event] = []
    while (event := await peer.next()) is not None and event.op is not Op.CLOSE:
        events.append(event)
    return events, await _closing(peer, event)


async def _closing(peer: Peer, event: Event | None) -> int | None:
    """Answer the Close frame and see the TCP connection end; a server ends it itself. RFC 6455 §7.1.1"""
    if event is None:
        return None
    if event.op is not Op.CLOSE:
        raise Unmet("a Close frame", event)
    await peer.send(peer.frame(Op.CLOSE, event.payload))
    if peer.client:
        trailing = await peer.next(PATIENCE)
        if trailing is not None:
            raise Unmet("the end after the Close frame", trailing)
    return int.from_bytes(event.payload[:2]) if event.payload else 1005
