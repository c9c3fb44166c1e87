"""Frames and messages: what is read, what is refused with which code, and what is written."""

from __future__ import annotations

import os
import struct
import tracemalloc
import zlib
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame
from websockets.frames import Opcode as PeerOpcode

from rulesproxy.codecs.websocket import Close, Codec, Deflate, Event, Message, Ping, Pong, WebSocketError
from tests.support.websocket import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close_frame, frame

LIMIT = 1 << 20


def server_end(deflate: Deflate | None = None, limit: int = LIMIT) -> Codec:
    """The end that reads what a client says."""
    return Codec(client=False, limit=limit, deflate=deflate)


def read(codec: Codec, data: bytes, size: int | None = None) -> list[Event]:
    """What comes of the bytes, in pieces of `size`."""
    size = size or max(len(data), 1)
    return [event for start in range(0, len(data), size) for event in codec.receive(data[start:start + size])]


def refusal(data: bytes, deflate: Deflate | None = None, limit: int = LIMIT, size: int | None = None) -> int:
    """The code that the bytes are refused with."""
    with pytest.raises(WebSocketError) as caught:
        read(server_end(deflate, limit), data, size)
    return caught.value.code


def deflated(data: bytes, bits: int = 15) -> bytes:
    stream = zlib.compressobj(9, zlib.DEFLATED, -bits)
    return (stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


# --- what is read -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("size", [None, 1, 3])
@pytest.mark.parametrize("length", [0, 1, 125, 126, 65535, 65536])
def test_messages_of_every_length(length: int, size: int | None) -> None:
    if size == 1 and length > 60_000:
        size = 1000
    content = os.urandom(length)
    assert read(server_end(), frame(BINARY, content), size) == [Message(False, content, False)]


@pytest.mark.parametrize("size", [None, 1])
def test_fragments_and_control_frames_between_them(size: int | None) -> None:
    data = b"".join((
        frame(TEXT, "grü".encode()[:3], fin=False), frame(PING, b"1"), frame(CONTINUATION, b"", fin=False),
        frame(PONG, b"2"), frame(CONTINUATION, "grü".encode()[3:] + b"n", fin=False), frame(CONTINUATION, b"!"),
        frame(TEXT, b""), frame(BINARY, b"\xff"), close_frame(1000, "bye"), frame(TEXT, b"not read any more")))
    assert read(server_end(), data, size) == [
        Ping(b"1"), Pong(b"2"), Message(True, "grün!".encode(), False), Message(True, b"", False),
        Message(False, b"\xff", False), Close(1000, "bye")]


def test_unmasked_frames_are_for_clients() -> None:
    codec = Codec(client=True, limit=LIMIT)
    assert read(codec, frame(TEXT, b"hi", mask=False)) == [Message(True, b"hi", False)]
    with pytest.raises(WebSocketError) as caught:
        read(codec, frame(TEXT, b"hi"))
    assert caught.value.code == 1002


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999,
                                  4000, 4999])
def test_close_codes_that_may_be_said(code: int) -> None:
    assert read(server_end(), close_frame(code, "ö")) == [Close(code, "ö")]


def test_an_empty_close() -> None:
    assert read(server_end(), frame(CLOSE)) == [Close(1005, "")]


# --- what is refused ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535])
def test_close_codes_that_may_not_be_said(code: int) -> None:
    assert refusal(close_frame(code)) == 1002


BROKEN = {
    "no mask": frame(TEXT, b"x", mask=False),
    "reserved bit 1": frame(TEXT, b"x", rsv=4),
    "reserved bit 2": frame(TEXT, b"x", rsv=2),
    "reserved bit 3": frame(BINARY, b"x", rsv=1),
    "reserved bit of a ping": frame(PING, b"x", rsv=4),
    "opcode 3": frame(3, b"x"),
    "opcode 7": frame(7),
    "opcode 11": frame(11),
    "opcode 15": frame(15),
    "a fragment of a ping": frame(PING, b"x", fin=False),
    "a fragment of a close": frame(CLOSE, b"\x03\xe8", fin=False),
    "a ping too long": frame(PING, b"x" * 126),
    "a close too long": close_frame(1000, "x" * 124),
    "half a close code": frame(CLOSE, b"\x03"),
    "a continuation of nothing": frame(CONTINUATION, b"x"),
    "a continuation after the end": frame(TEXT, b"x") + frame(CONTINUATION, b"x"),
    "a message within a message": frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"),
    "a binary within a text": frame(TEXT, b"x", fin=False) + frame(BINARY, b"y"),
    "a length in more bytes than needed": b"\x82\xfe\x00\x7d" + b"0000" + b"x" * 125,
    "a length in many more": b"\x82\xff" + struct.pack("!Q", 65535) + b"0000",
    "a length with the highest bit": b"\x82\xff" + struct.pack("!Q", 1 << 63) + b"0000",
}
NOT_TEXT = {
    "a stray byte": frame(TEXT, b"\xff"),
    "cut off": frame(TEXT, "ü".encode()[:1]),
    "a surrogate": frame(TEXT, b"\xed\xa0\x80"),
    "too long a form": frame(TEXT, b"\xc0\xaf"),
    "beyond Unicode": frame(TEXT, b"\xf4\x90\x80\x80"),
    "cut between messages": frame(TEXT, b"\xc3", fin=False) + frame(CONTINUATION, b""),
    "seen before the message ends": frame(TEXT, b"\xce\xba\xe1", fin=False) + frame(CONTINUATION, b"\xf4", fin=False),
    "a close reason": frame(CLOSE, b"\x03\xe8\xff"),
    "before the frame ends": frame(TEXT, b"\xf4\x90" + b"x" * 100)[:12],
}


@pytest.mark.parametrize("size", [None, 1])
@pytest.mark.parametrize("name", BROKEN)
def test_broken_frames(name: str, size: int | None) -> None:
    assert refusal(BROKEN[name], size=size) == 1002


@pytest.mark.parametrize("name", NOT_TEXT)
def test_text_that_is_none(name: str) -> None:
    assert refusal(NOT_TEXT[name]) == 1007


def test_the_limit_holds_for_whole_messages() -> None:
    exact = frame(BINARY, bytes(100))
    assert read(server_end(limit=100), exact) == [Message(False, bytes(100), False)]
    assert refusal(frame(BINARY, bytes(101))[:10], limit=100) == 1009, "told by its head"
    assert refusal(frame(BINARY, bytes(60), fin=False) + frame(CONTINUATION, bytes(41)), limit=100) == 1009
    assert read(server_end(limit=100), exact + frame(PING) + exact) == [
        Message(False, bytes(100), False), Ping(b""), Message(False, bytes(100), False)]


def test_what_came_before_a_mistake_is_handed_out() -> None:
    events = server_end().receive(frame(TEXT, b"fine") + frame(PING, b"p") + frame(3))
    assert [next(events), next(events)] == [Message(True, b"fine", False), Ping(b"p")]
    with pytest.raises(WebSocketError):
        next(events)


def test_nothing_is_read_after_a_mistake() -> None:
    codec = server_end()
    with pytest.raises(WebSocketError):
        read(codec, frame(3))
    assert read(codec, frame(TEXT, b"x")) == []


def test_empty_fragments_cost_no_memory() -> None:
    codec = server_end()
    read(codec, frame(BINARY, b"x", fin=False))
    data = frame(CONTINUATION, fin=False) * 1000
    tracemalloc.start()
    try:
        for _ in range(50):
            assert read(codec, data) == []
        assert tracemalloc.get_traced_memory()[0] < 200_000
    finally:
        tracemalloc.stop()
    assert read(codec, frame(CONTINUATION, b"y")) == [Message(False, b"xy", False)]


# --- deflate ------------------------------------------------------------------------------------------------------

PLAIN = Deflate()


def test_deflated_messages_are_inflated_and_the_others_left() -> None:
    data = frame(TEXT, deflated(b"hello"), rsv=4) + frame(TEXT, b"hello") + frame(BINARY, deflated(b""), rsv=4)
    assert read(server_end(PLAIN), data) == [
        Message(True, b"hello", True), Message(True, b"hello", False), Message(False, b"", True)]


@pytest.mark.parametrize("size", [None, 1, 7])
def test_a_ping_between_deflated_fragments(size: int | None) -> None:
    whole = deflated(b"hello " * 100)
    data = (frame(TEXT, whole[:5], fin=False, rsv=4) + frame(PING, b"p") + frame(CONTINUATION, whole[5:6], fin=False)
            + frame(PONG) + frame(CONTINUATION, b"", fin=False) + frame(CONTINUATION, whole[6:]))
    assert read(server_end(PLAIN), data, size) == [Ping(b"p"), Pong(b""), Message(True, b"hello " * 100, True)]


def test_a_ping_before_the_rest_of_a_head() -> None:
    """A head whose mask has not arrived is looked at twice."""
    data = frame(TEXT, deflated(b"hello"), rsv=4)
    codec = server_end(PLAIN)
    assert read(codec, data[:2]) == []
    assert read(codec, data[2:4]) == []
    assert read(codec, data[4:]) == [Message(True, b"hello", True)]


def test_blocks_that_end_the_stream() -> None:
    """RFC 7692 §7.2.3.4: the example of a sender that uses a final block, and messages after it."""
    final = frame(TEXT, b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00", rsv=4)
    assert read(server_end(PLAIN), final * 3) == [Message(True, b"Hello", True)] * 3


def test_the_other_examples_of_the_rfc() -> None:
    codec = server_end(PLAIN)
    examples = [b"\xf2\x48\xcd\xc9\xc9\x07\x00", b"\xf2\x00\x11\x00\x00",  # §7.2.3.2: the second shares the window
                b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00",  # §7.2.3.3: without compression
                b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"]  # §7.2.3.5: two blocks
    assert read(codec, b"".join(frame(TEXT, example, rsv=4) for example in examples)) == [
        Message(True, b"Hello", True)] * 4


@pytest.mark.parametrize("broken", [
    frame(CONTINUATION, b"", rsv=4),
    frame(TEXT, deflated(b"x"), fin=False, rsv=4) + frame(CONTINUATION, b"", rsv=4),
    frame(PING, b"", rsv=4),
    frame(TEXT, b"x", fin=False) + frame(TEXT, deflated(b"x"), rsv=4),
], ids=["continuation", "second fragment", "ping", "new message"])
def test_the_bit_of_compression_belongs_to_the_first_frame(broken: bytes) -> None:
    assert refusal(broken, PLAIN) == 1002


def test_what_is_not_deflate() -> None:
    assert refusal(frame(BINARY, b"\xff\xff\xff\xff", rsv=4), PLAIN) == 1007
    assert refusal(frame(TEXT, deflated(b"\xff\xfe"), rsv=4), PLAIN) == 1007
    assert refusal(frame(BINARY, deflated(b"x"), rsv=4)) == 1002, "without having been agreed on"


@pytest.mark.parametrize("fragments", [1, 10])
def test_a_bomb_is_refused_before_it_has_gone_off(fragments: int) -> None:
    limit = 1 << 20
    bomb = deflated(bytes(200 << 20))
    size = len(bomb) // fragments + 1
    pieces = [bomb[start:start + size] for start in range(0, len(bomb), size)]
    data = b"".join(frame(CONTINUATION if number else BINARY, piece, fin=number == len(pieces) - 1,
                          rsv=0 if number else 4) for number, piece in enumerate(pieces))
    codec = server_end(PLAIN, limit)
    tracemalloc.start()
    try:
        with pytest.raises(WebSocketError) as caught:
            read(codec, data, 65536)
        assert tracemalloc.get_traced_memory()[1] < 4 * limit
    finally:
        tracemalloc.stop()
    assert caught.value.code == 1009


def test_the_limit_holds_for_what_was_inflated() -> None:
    assert read(server_end(PLAIN, 1000), frame(BINARY, deflated(bytes(1000)), rsv=4)) == [
        Message(False, bytes(1000), True)]
    assert refusal(frame(BINARY, deflated(bytes(1001)), rsv=4), PLAIN, 1000) == 1009
    noise = os.urandom(1000)  # larger deflated than inflated
    assert read(server_end(PLAIN, 1000), frame(BINARY, deflated(noise), rsv=4)) == [Message(False, noise, True)]


# --- both ends ----------------------------------------------------------------------------------------------------

AGREED = [
    Deflate(),
    Deflate(server_no_context_takeover=True),
    Deflate(client_no_context_takeover=True),
    Deflate(True, True, 9, 9),
    Deflate(server_max_window_bits=8, client_max_window_bits=8),
    Deflate(server_max_window_bits=10, client_max_window_bits=12),
]


@pytest.mark.parametrize("client", [True, False], ids=["to the server", "to the client"])
@pytest.mark.parametrize("agreed", AGREED)
def test_another_implementation_reads_what_is_written(agreed: Deflate, client: bool) -> None:
    """With every set of parameters, over many messages that share the window."""
    ours = Codec(client=client, limit=LIMIT, deflate=agreed)
    theirs = Codec(client=not client, limit=LIMIT, deflate=agreed)
    forgets = agreed.client_no_context_takeover if client else agreed.server_no_context_takeover
    bits = agreed.client_max_window_bits if client else agreed.server_max_window_bits
    peer = PerMessageDeflate(remote_no_context_takeover=forgets, local_no_context_takeover=False,
                             remote_max_window_bits=bits, local_max_window_bits=15)
    messages = [b"hello" * number for number in range(20)] + [bytes(range(256)) * 200, b"", os.urandom(5000)]
    for content in messages:
        data = ours.message(content, is_text=False, deflated=True)
        assert [event.content for event in read(theirs, data) if isinstance(event, Message)] == [content]
        assert peer.decode(frame_of(data)).data == content


def frame_of(data: bytes) -> Frame:
    """One frame as the peer's extension takes it."""
    size, start = data[1] & 127, 2
    if size == 126:
        size, start = struct.unpack_from("!H", data, 2)[0], 4
    payload = data[start:]
    if data[1] & 128:
        key, payload = payload[:4], payload[4:]
        payload = bytes(byte ^ key[place % 4] for place, byte in enumerate(payload))
    assert len(payload) == size
    return Frame(PeerOpcode(data[0] & 15), payload, fin=True, rsv1=bool(data[0] & 64))


def test_a_client_masks_and_a_server_does_not() -> None:
    for client in (True, False):
        codec, peer = Codec(client=client, limit=LIMIT), Codec(client=not client, limit=LIMIT)
        for data in (codec.message(b"x", is_text=False, deflated=True), codec.ping(b"p"), codec.pong(b"q"),
                     codec.close(1000, "bye")):
            assert bool(data[1] & 128) is client
            assert len(read(peer, data)) == 1


@pytest.mark.parametrize("code", [1005, 1006, 1015, 0])
def test_codes_that_are_never_sent(code: int) -> None:
    assert server_end().close(code, "why") == b"\x88\x00"


@pytest.mark.parametrize(("content", "error"), [(b"\xff", UnicodeDecodeError), ("text", TypeError), (None, TypeError)])
def test_what_cannot_be_sent(content: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        server_end().message(content, is_text=True, deflated=False)  # type: ignore[arg-type]


_PIECES = st.lists(st.tuples(st.sampled_from([TEXT, BINARY, PING, PONG]), st.binary(max_size=200),
                             st.integers(1, 5), st.booleans()), max_size=8)


@given(_PIECES, st.integers(1, 300))
def test_whatever_is_sent_in_whatever_pieces_arrives(messages: Iterable[tuple[int, bytes, int, bool]],
                                                     size: int) -> None:
    data, expected = b"", []
    for opcode, raw, fragments, compress in messages:
        content = raw if opcode != TEXT else raw.decode("latin-1").encode()
        if opcode in (PING, PONG):
            content = content[:125]
            data += frame(opcode, content)
            expected.append(Ping(content) if opcode == PING else Pong(content))
            continue
        payload = deflated(content) if compress else content
        step = len(payload) // fragments + 1
        pieces = [payload[start:start + step] for start in range(0, max(len(payload), 1), step)]
        for number, piece in enumerate(pieces):
            data += frame(CONTINUATION if number else opcode, piece, fin=number == len(pieces) - 1,
                          rsv=4 if compress and not number else 0)
        expected.append(Message(opcode == TEXT, content, compress))
    assert read(server_end(Deflate(client_no_context_takeover=True)), data, size) == expected


@given(st.binary(max_size=400), st.integers(1, 50), st.booleans())
def test_no_bytes_raise_anything_else(data: bytes, size: int, with_deflate: bool) -> None:
    try:
        read(server_end(PLAIN if with_deflate else None, 100), data, size)
    except WebSocketError as exc:
        assert exc.code in (1002, 1007, 1009)
