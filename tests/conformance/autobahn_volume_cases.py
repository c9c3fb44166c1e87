"""Chapters 9, 12 and 13 of Autobahn's list for WebSocket: size, number, and compression with every parameter.

The list sends a thousand messages per case in 12 and 13, about 10 GB in all, of files of its own. Here the number is
such that a case stays below a volume, unless CONFORMANCE_FULL=1 asks for all; the data is made up.
"""

from __future__ import annotations

import itertools
import json
import os
import random

from tests.conformance import websocket_steps as do
from tests.conformance.verdicts import Unmet
from tests.conformance.websocket_peer import Op, Peer
from tests.conformance.websocket_steps import Step, WebSocketCase, binary, echoes, text

MESSAGES = 1000
FULL = os.environ.get("CONFORMANCE_FULL") == "1"
#: Bytes a case sends, and the fewest and most messages, when not all are asked for.
VOLUME = 512 << 10
FEWEST = 3
MOST = 250

KIB, MIB = 1 << 10, 1 << 20
_TEXT = b"BAsd7&jh23"
_BINARY = b"\x00\xfe\x23\xfa\xf0"


def _repeated(unit: bytes, size: int) -> bytes:
    return (unit * (size // len(unit) + 1))[:size]


def _large(number: int, size: int, *, is_binary: bool) -> WebSocketCase:
    payload = _repeated(_BINARY if is_binary else _TEXT, size)
    return WebSocketCase(f"9.{1 + is_binary}.{number}", f"{size} bytes in a frame",
                         (do.send(Op.BINARY if is_binary else Op.TEXT, payload),),
                         echoes(binary(payload) if is_binary else text(payload)))


def _fragmented(number: int, fragment: int, *, is_binary: bool) -> WebSocketCase:
    payload = (b"\xfe" if is_binary else b"*") * (4 * MIB)
    return WebSocketCase(f"9.{3 + is_binary}.{number}", f"4 MiB in frames of {fragment} bytes",
                         (do.message(payload, binary=is_binary, fragment=fragment),),
                         echoes(binary(payload) if is_binary else text(payload)))


def _chopped(number: int, chop: int, *, is_binary: bool) -> WebSocketCase:
    payload = _repeated(_BINARY if is_binary else _TEXT, MIB)
    return WebSocketCase(f"9.{5 + is_binary}.{number}", f"a frame of 1 MiB, {chop} bytes at a time",
                         (do.send(Op.BINARY if is_binary else Op.TEXT, payload, chop=chop),),
                         echoes(binary(payload) if is_binary else text(payload)))


def _many(number: int, size: int, *, is_binary: bool) -> WebSocketCase:
    unit = b"\xfe" if is_binary else b"*"
    return WebSocketCase(f"9.{7 + is_binary}.{number}", f"many messages of {size} bytes, one after the other",
                         (_back_and_forth(unit * max(size, 1), size, MESSAGES, is_binary=is_binary),), echoes())


def _count(size: int) -> int:
    return MESSAGES if FULL else max(FEWEST, min(MOST, VOLUME // max(size, 1)))


def _back_and_forth(source: bytes, size: int, count: int, *, is_binary: bool, fragment: int = 0) -> Step:
    """`count` messages of `size` bytes, cut from the source as it goes round; each waits for the echo of the last."""
    async def step(peer: Peer) -> None:
        start = 0
        for number in range(count):
            payload = _cut(source, start, size)
            start = (start + size) % len(source)
            await peer.message(payload, binary=is_binary, fragment=fragment)
            event = await peer.next()
            if event != (binary(payload) if is_binary else text(payload)):
                raise Unmet(f"message {number} back, {size} bytes", event or "the end")
            peer.log.clear()
    return step


def _cut(source: bytes, start: int, size: int) -> bytes:
    piece = source[start:start + size]
    while len(piece) < size:
        piece += source[:size - len(piece)]
    return piece


_SIZES = (64 * KIB, 256 * KIB, MIB, 4 * MIB, 8 * MIB, 16 * MIB)
_FRAGMENTS = (64, 256, KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB)
_CHOPS = (64, 128, 256, 512, 1024, 2048)
_SMALL = (0, 16, 64, 256, 1024, 4096)

LARGE_CASES = tuple(
    make(number, size, is_binary=is_binary)
    for make, sizes in ((_large, _SIZES), (_fragmented, _FRAGMENTS), (_chopped, _CHOPS), (_many, _SMALL))
    for is_binary in (False, True)
    for number, size in enumerate(sizes, start=1))


# Compression -------------------------------------------------------------------------------------------------------


def _prose(size: int, markup: str = "{}") -> bytes:
    """Sentences of made-up words."""
    dice = random.Random(size)
    words = ["".join(dice.choices("etaoinshrdlu", k=dice.randint(2, 9))) for _ in range(2000)]
    made = bytearray()
    while len(made) < size:
        made += markup.format(" ".join(dice.choices(words, k=12)).capitalize()).encode() + b".\n"
    return bytes(made[:size])


def _records(size: int) -> bytes:
    """A JSON document, in ASCII: any cut of it is text."""
    dice = random.Random(size)
    records = ({"id": number, "name": f"item {dice.randrange(10**6)}", "price": round(dice.random() * 100, 2),
                "tags": dice.sample(("red", "green", "blue", "large", "small"), 2)} for number in itertools.count())
    made = bytearray(b"[")
    while len(made) < size:
        made += json.dumps(next(records)).encode() + b",\n"
    return bytes(made[:size])


def _picture(size: int) -> bytes:
    """Grey values that change slowly."""
    dice = random.Random(size)
    value, made = 128, bytearray(size)
    for place in range(size):
        value = (value + dice.randint(-6, 6)) % 256
        made[place] = value
    return bytes(made)


#: (title, data, binary), in the order and about the sizes of the list.
_DATA = (
    ("JSON", _records(194_056), False),
    ("a picture", _picture(263_222), True),
    ("prose", _prose(222_218), True),
    ("HTML", _prose(263_647, '<p class="text">{}</p>'), False),
    ("what cannot be compressed", random.Random(1).randbytes(1_042_328), True),
)
_MESSAGE_SIZES = (
    (16, 0), (64, 0), (256, 0), (1024, 0), (4096, 0), (8192, 0), (16384, 0), (32768, 0), (65536, 0), (131072, 0),
    (8192, 256), (16384, 256), (32768, 256), (65536, 256), (131072, 256), (131072, 1024), (131072, 4096),
    (131072, 32768),
)
_ABLE = "client_no_context_takeover; client_max_window_bits"
#: What a client offers, and what a server takes of any client's offer, in 13.1 to 13.7. RFC 7692 §7.1
_PARAMETERS = tuple(
    (", ".join(f"permessage-deflate; {_ABLE}{wish and '; '}{wish}" for wish in wishes),
     "permessage-deflate" + "".join(f"; {taken}" for taken in wishes[0].replace("server_", "client_").split("; ")
                                    if taken))
    for wishes in (
        ("",), ("server_no_context_takeover",), ("server_max_window_bits=9",), ("server_max_window_bits=15",),
        ("server_no_context_takeover; server_max_window_bits=9",),
        ("server_no_context_takeover; server_max_window_bits=15",),
        ("server_no_context_takeover; server_max_window_bits=9", "server_no_context_takeover", ""),
    ))


def _compressed(id: str, what: str, data: bytes, is_binary: bool, size: int, fragment: int, offers: str,
                accepts: str) -> WebSocketCase:
    frames = f", in frames of {fragment}" if fragment else ""
    return WebSocketCase(id, f"{what} in messages of {size} bytes{frames}; {offers}",
                         (_back_and_forth(data, size, _count(size), is_binary=is_binary, fragment=fragment),), echoes(),
                         offers, accepts)


COMPRESSION_CASES = (
    *(_compressed(f"12.{part}.{number}", what, data, is_binary, size, fragment, *_PARAMETERS[0])
      for part, (what, data, is_binary) in enumerate(_DATA, start=1)
      for number, (size, fragment) in enumerate(_MESSAGE_SIZES, start=1)),
    *(_compressed(f"13.{part}.{number}", *_DATA[0], size, fragment, offers, accepts)
      for part, (offers, accepts) in enumerate(_PARAMETERS, start=1)
      for number, (size, fragment) in enumerate(_MESSAGE_SIZES, start=1)),
)
