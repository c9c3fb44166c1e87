"""Chapters 1 to 7 and 10 of Autobahn's list for WebSocket, case by case, in words and frames of our own."""

from __future__ import annotations

from tests.conformance import websocket_steps as do
from tests.conformance.autobahn_utf8 import GREEK, SECTIONS, is_valid
from tests.conformance.websocket_peer import Op
from tests.conformance.websocket_steps import (
    INVALID_DATA,
    PROTOCOL_ERROR,
    Ending,
    WebSocketCase,
    binary,
    case,
    close,
    closes,
    echoes,
    fails,
    pong,
    send,
    text,
    together,
)

HELLO = b"Hello, world!"
_BYTES = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"
_SIZES = ((0, 0), (125, 0), (126, 0), (127, 0), (128, 0), (65535, 0), (65536, 0), (65536, 997))
_BAD = fails(PROTOCOL_ERROR)
_BAD_AFTER_ECHO = fails(PROTOCOL_ERROR, after=(text(HELLO),))

_CHAPTER_1 = (
    *(case(f"1.1.{number}", f"text of {size} bytes", send(Op.TEXT, b"*" * size, chop=chop),
           ending=echoes(text(b"*" * size)))
      for number, (size, chop) in enumerate(_SIZES, start=1)),
    *(case(f"1.2.{number}", f"binary of {size} bytes", send(Op.BINARY, b"\xfe" * size, chop=chop),
           ending=echoes(binary(b"\xfe" * size)))
      for number, (size, chop) in enumerate(_SIZES, start=1)),
)

_PINGS = [b"payload-%d" % number for number in range(10)]

_CHAPTER_2 = (
    case("2.1", "an empty ping", send(Op.PING), ending=echoes(pong())),
    case("2.2", "a ping with text", send(Op.PING, HELLO), ending=echoes(pong(HELLO))),
    case("2.3", "a ping with bytes", send(Op.PING, _BYTES), ending=echoes(pong(_BYTES))),
    case("2.4", "a ping of 125 bytes", send(Op.PING, b"\xfe" * 125), ending=echoes(pong(b"\xfe" * 125))),
    case("2.5", "a ping of 126 bytes", send(Op.PING, b"\xfe" * 126), ending=_BAD),
    case("2.6", "a ping of 125 bytes, byte by byte", send(Op.PING, b"\xfe" * 125, chop=1),
         ending=echoes(pong(b"\xfe" * 125))),
    case("2.7", "an empty pong nobody asked for", send(Op.PONG), close(), ending=closes(1000)),
    case("2.8", "a pong nobody asked for", send(Op.PONG, b"unsolicited"), close(), ending=closes(1000)),
    case("2.9", "a pong nobody asked for, and a ping", send(Op.PONG, b"unsolicited"), send(Op.PING, b"ping"),
         ending=echoes(pong(b"ping"))),
    case("2.10", "ten pings", together(*((Op.PING, ping, True) for ping in _PINGS)),
         ending=echoes(*map(pong, _PINGS))),
    case("2.11", "ten pings, byte by byte", do.apart(*((Op.PING, ping, True) for ping in _PINGS), chop=1),
         ending=echoes(*map(pong, _PINGS))),
)

_CHAPTER_3 = (
    case("3.1", "RSV 1", send(Op.TEXT, HELLO, rsv=1), ending=_BAD),
    case("3.2", "text, then RSV 2", send(Op.TEXT, HELLO), send(Op.TEXT, HELLO, rsv=2), send(Op.PING),
         ending=_BAD_AFTER_ECHO),
    case("3.3", "text, then RSV 3, frame by frame", do.apart((Op.TEXT, HELLO, True)), send(Op.TEXT, HELLO, rsv=3),
         do.apart((Op.PING, b"", True)), ending=_BAD_AFTER_ECHO),
    case("3.4", "text, then RSV 4, byte by byte", send(Op.TEXT, HELLO, chop=1), send(Op.TEXT, HELLO, rsv=4, chop=1),
         send(Op.PING, chop=1), ending=_BAD_AFTER_ECHO),
    case("3.5", "RSV 5", send(Op.BINARY, _BYTES, rsv=5), ending=_BAD),
    case("3.6", "RSV 6", send(Op.PING, HELLO, rsv=6), ending=_BAD),
    case("3.7", "a close with RSV 7", send(Op.CLOSE, rsv=7), ending=_BAD),
)


def _reserved(number: int, first: int) -> tuple[WebSocketCase, ...]:
    """Five cases with opcodes nobody has defined."""
    return (
        case(f"4.{number}.1", f"opcode {first}", send(first), ending=_BAD),
        case(f"4.{number}.2", f"opcode {first + 1} with a payload", send(first + 1, b"reserved"), ending=_BAD),
        case(f"4.{number}.3", f"text, then opcode {first + 2}", send(Op.TEXT, HELLO), send(first + 2), send(Op.PING),
             ending=_BAD_AFTER_ECHO),
        case(f"4.{number}.4", f"text, then opcode {first + 3} with a payload", send(Op.TEXT, HELLO),
             send(first + 3, HELLO), send(Op.PING), ending=_BAD_AFTER_ECHO),
        case(f"4.{number}.5", f"text, then opcode {first + 4}, byte by byte", send(Op.TEXT, HELLO, chop=1),
             send(first + 4, HELLO, chop=1), send(Op.PING, chop=1), ending=_BAD_AFTER_ECHO),
    )


_CHAPTER_4 = (*_reserved(1, 3), *_reserved(2, 11))

_TWO = ((Op.TEXT, b"fragment1", False), (Op.CONTINUATION, b"fragment2", True))
_WITH_PING = (_TWO[0], (Op.PING, b"ping payload", True), _TWO[1])
_WHOLE = text(b"fragment1fragment2")
_NOTHING_TO_CONTINUE = ((Op.CONTINUATION, b"continued", True), (Op.TEXT, HELLO, True))
_NOTHING_TO_CONTINUE_YET = ((Op.CONTINUATION, b"continued", False), (Op.TEXT, HELLO, True))
_FIVE_START = ((Op.TEXT, b"fragment1", False), (Op.CONTINUATION, b"fragment2", False), (Op.PING, b"pongme 1!", True))
_FIVE_END = ((Op.CONTINUATION, b"fragment3", False), (Op.CONTINUATION, b"fragment4", False),
             (Op.PING, b"pongme 2!", True), (Op.CONTINUATION, b"fragment5", True))
_FIVE = echoes(pong(b"pongme 1!"), pong(b"pongme 2!"), text(b"fragment1fragment2fragment3fragment4fragment5"))

_CHAPTER_5 = (
    case("5.1", "a ping in fragments", together((Op.PING, b"fragment1", False), _TWO[1]), ending=_BAD),
    case("5.2", "a pong in fragments", together((Op.PONG, b"fragment1", False), _TWO[1]), ending=_BAD),
    case("5.3", "two fragments", together(*_TWO), ending=echoes(_WHOLE)),
    case("5.4", "two fragments, frame by frame", do.apart(*_TWO), ending=echoes(_WHOLE)),
    case("5.5", "two fragments, byte by byte", do.apart(*_TWO, chop=1), ending=echoes(_WHOLE)),
    case("5.6", "a ping between two fragments", together(*_WITH_PING), ending=echoes(pong(b"ping payload"), _WHOLE)),
    case("5.7", "a ping between two fragments, frame by frame", do.apart(*_WITH_PING),
         ending=echoes(pong(b"ping payload"), _WHOLE)),
    case("5.8", "a ping between two fragments, byte by byte", do.apart(*_WITH_PING, chop=1),
         ending=echoes(pong(b"ping payload"), _WHOLE)),
    case("5.9", "a last fragment of nothing, then text", together(*_NOTHING_TO_CONTINUE), ending=_BAD),
    case("5.10", "the same, frame by frame", do.apart(*_NOTHING_TO_CONTINUE), ending=_BAD),
    case("5.11", "the same, byte by byte", do.apart(*_NOTHING_TO_CONTINUE, chop=1), ending=_BAD),
    case("5.12", "a fragment of nothing, then text", together(*_NOTHING_TO_CONTINUE_YET), ending=_BAD),
    case("5.13", "the same, frame by frame", do.apart(*_NOTHING_TO_CONTINUE_YET), ending=_BAD),
    case("5.14", "the same, byte by byte", do.apart(*_NOTHING_TO_CONTINUE_YET, chop=1), ending=_BAD),
    case("5.15", "a message in fragments, then a fragment of nothing",
         together(*_TWO, (Op.CONTINUATION, b"fragment3", False), (Op.TEXT, b"fragment4", True)),
         ending=fails(PROTOCOL_ERROR, after=(_WHOLE,))),
    case("5.16", "a fragment of nothing before a message, twice",
         together(*((Op.CONTINUATION, b"fragment1", False), (Op.TEXT, b"fragment2", False),
                    (Op.CONTINUATION, b"fragment3", True)) * 2), ending=_BAD),
    case("5.17", "a last fragment of nothing before a message, twice",
         together(*((Op.CONTINUATION, b"fragment1", True), (Op.TEXT, b"fragment2", False),
                    (Op.CONTINUATION, b"fragment3", True)) * 2), ending=_BAD),
    case("5.18", "both fragments say text", together(_TWO[0], (Op.TEXT, b"fragment2", True)), ending=_BAD),
    case("5.19", "five fragments, two pings and a pause", together(*_FIVE_START), do.pause, together(*_FIVE_END),
         ending=_FIVE),
    case("5.20", "the same, frame by frame", do.apart(*_FIVE_START), do.pause, do.apart(*_FIVE_END), ending=_FIVE),
)

_UMLAUTS = "Hello-µ@ßöäüàá-UTF-8!!".encode()
_SURROGATE = GREEK + b"\xed\xa0\x80" + b"edited"
_TOO_LARGE = GREEK + b"\xf4\x90\x80\x80" + b"edited"
_FAILED_TEXT = fails(INVALID_DATA)


def _late(*cuts: int, chopped: bool) -> WebSocketCase:
    """Three parts of a text that is invalid from the second on: in fragments, or in pieces of one frame."""
    first, second, third = (_TOO_LARGE[start:end] for start, end in zip((0, *cuts), (*cuts, None), strict=True))
    number = 1 + (cuts[1] - cuts[0] == 1) + 2 * chopped
    title = f"invalid from the {'second piece' if chopped else 'second fragment'} on, {len(second)} bytes of it"
    if chopped:
        return case(f"6.4.{number}", title, do.part_of_text(_TOO_LARGE, 0, cuts[0]), do.silence,
                    do.part_of_text(_TOO_LARGE, *cuts), ending=do.fails_fast(
                        do.part_of_text(_TOO_LARGE, cuts[1], len(_TOO_LARGE))))
    return case(f"6.4.{number}", title, send(Op.TEXT, first, fin=False), do.silence,
                send(Op.CONTINUATION, second, fin=False),
                ending=do.fails_fast(send(Op.CONTINUATION, third)))


_CHAPTER_6 = (
    case("6.1.1", "an empty text", send(Op.TEXT), ending=echoes(text(b""))),
    case("6.1.2", "three empty fragments",
         together((Op.TEXT, b"", False), (Op.CONTINUATION, b"", False), (Op.CONTINUATION, b"", True)),
         ending=echoes(text(b""))),
    case("6.1.3", "an empty, a full and an empty fragment",
         together((Op.TEXT, b"", False), (Op.CONTINUATION, b"middle", False), (Op.CONTINUATION, b"", True)),
         ending=echoes(text(b"middle"))),
    case("6.2.1", "characters beyond ASCII", send(Op.TEXT, _UMLAUTS), ending=echoes(text(_UMLAUTS))),
    case("6.2.2", "characters beyond ASCII in two fragments",
         together((Op.TEXT, _UMLAUTS[:13], False), (Op.CONTINUATION, _UMLAUTS[13:], True)),
         ending=echoes(text(_UMLAUTS))),
    case("6.2.3", "a fragment for every byte", do.message(_UMLAUTS, fragment=1), ending=echoes(text(_UMLAUTS))),
    case("6.2.4", "a fragment for every byte, in Greek", do.message(GREEK, fragment=1), ending=echoes(text(GREEK))),
    case("6.3.1", "a surrogate", send(Op.TEXT, _SURROGATE), ending=_FAILED_TEXT),
    case("6.3.2", "a surrogate, a fragment for every byte", do.message(_SURROGATE, fragment=1), ending=_FAILED_TEXT),
    *(_late(*cuts, chopped=chopped) for chopped in (False, True) for cuts in ((11, 15), (12, 13))),
    *(case(f"6.{section}.{number}", f"{title}: {data[:16].hex()}", send(Op.TEXT, data),
           ending=echoes(text(data)) if is_valid(data) else _FAILED_TEXT)
      for section, (title, sequences) in enumerate(SECTIONS, start=5)
      for number, data in enumerate(sequences, start=1)),
)

_BAD_CLOSE = closes(PROTOCOL_ERROR, clean=False)
_VALID_CODES = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)
_INVALID_CODES = (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999)


def _closing(number: int, title: str, *steps: do.Step, ending: Ending) -> WebSocketCase:
    return case(f"7.3.{number}", title, *steps, ending=ending)


_CHAPTER_7 = (
    case("7.1.1", "a message, then a close", send(Op.TEXT, HELLO), ending=echoes(text(HELLO))),
    case("7.1.2", "two closes", close(), send(Op.CLOSE), ending=closes(1000)),
    case("7.1.3", "a ping after the close", close(), send(Op.PING), ending=closes(1000)),
    case("7.1.4", "a message after the close", close(), send(Op.TEXT, HELLO), ending=closes(1000)),
    case("7.1.5", "a close between two fragments", send(Op.TEXT, b"fragment1", fin=False), close(),
         send(Op.CONTINUATION, b"fragment2"), ending=closes(1000)),
    case("7.1.6", "256 KiB, a message and a close at once", send(Op.TEXT, (b"BAsd7&jh23" * 26215)[:256 << 10]),
         send(Op.TEXT, HELLO), close(), send(Op.PING), ending=do.whatever),
    _closing(1, "an empty close", close(None), ending=closes(1000, 1005)),
    _closing(2, "a close of one byte", send(Op.CLOSE, b"a"), ending=_BAD_CLOSE),
    _closing(3, "a close with a code", close(), ending=closes(1000)),
    _closing(4, "a close with a reason", close(1000, HELLO), ending=closes(1000)),
    _closing(5, "a close with the longest reason", close(1000, b"*" * 123), ending=closes(1000)),
    _closing(6, "a close with a reason too long", close(1000, b"*" * 124), ending=_BAD_CLOSE),
    case("7.5.1", "a close with a reason that is not UTF-8", close(1000, _SURROGATE),
         ending=closes(PROTOCOL_ERROR, INVALID_DATA, clean=False)),
    *(case(f"7.7.{number}", f"a close with {code}", close(code), ending=closes(1000, code))
      for number, code in enumerate(_VALID_CODES, start=1)),
    *(case(f"7.9.{number}", f"a close with {code}, which nobody may send", close(code), ending=_BAD_CLOSE)
      for number, code in enumerate(_INVALID_CODES, start=1)),
    case("7.13.1", "a close with 5000", close(5000), ending=do.whatever),
    case("7.13.2", "a close with 65535", close(65535), ending=do.whatever),
)

_CHAPTER_10 = (
    case("10.1.1", "64 KiB in frames of 1300 bytes", do.message(b"*" * 65536, fragment=1300),
         ending=echoes(text(b"*" * 65536))),
)

PROTOCOL_CASES = (*_CHAPTER_1, *_CHAPTER_2, *_CHAPTER_3, *_CHAPTER_4, *_CHAPTER_5, *_CHAPTER_6, *_CHAPTER_7,
                  *_CHAPTER_10)
