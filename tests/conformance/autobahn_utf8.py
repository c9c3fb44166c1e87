"""Valid and invalid UTF-8, as chapter 6 of Autobahn's list has it: after Markus Kuhn's decoder stress test.

Sections 6.5 to 6.23, in order; each sequence is one case. Which are valid, Python's strict decoder says.
"""

from __future__ import annotations

GREEK = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"  # kosme, with an oxia

_CUT = (b"\xc0", b"\xe0\x80", b"\xf0\x80\x80", b"\xf8\x80\x80\x80", b"\xfc\x80\x80\x80\x80",
        b"\xdf", b"\xef\xbf", b"\xf7\xbf\xbf", b"\xfb\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf")
_SURROGATES = tuple(high + low for high in (b"\xed\xa0\x80", b"\xed\xad\xbf", b"\xed\xae\x80", b"\xed\xaf\xbf")
                    for low in (b"\xed\xb0\x80", b"\xed\xbf\xbf"))
_NONCHARACTERS = tuple(chr(plane << 16 | last).encode() for plane in range(17) for last in (0xFFFE, 0xFFFF))


def _lonely(first: int, last: int) -> bytes:
    return b"".join(bytes([start, 0x20]) for start in range(first, last + 1))


SECTIONS: tuple[tuple[str, tuple[bytes, ...]], ...] = (
    ("characters of 1 to 4 bytes", (b"hello$world", "hello¢world".encode(), "hello€world".encode(),
                                    "hello\U00024b62world".encode(), GREEK)),
    ("every prefix of a text", tuple(GREEK[:size] for size in range(1, len(GREEK) + 1))),
    ("the first of each length", (b"\x00", b"\xc2\x80", b"\xe0\xa0\x80", b"\xf0\x90\x80\x80")),
    ("the first of lengths 5 and 6", (b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80")),
    ("the last of each length", (b"\x7f", b"\xdf\xbf", b"\xef\xbf\xbf", b"\xf4\x8f\xbf\xbf")),
    ("the last of lengths 4 to 6", (b"\xf7\xbf\xbf\xbf", b"\xfb\xbf\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf\xbf")),
    ("other boundaries", (b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xef\xbf\xbd", b"\xf4\x8f\xbf\xbf",
                          b"\xf4\x90\x80\x80")),
    ("continuation bytes alone", (b"\x80", b"\xbf", *((b"\x80\xbf" * 3)[:size] for size in range(2, 7)),
                                  bytes(range(0x80, 0xBF)))),
    ("start bytes alone", (_lonely(0xC0, 0xDF), _lonely(0xE0, 0xEF), _lonely(0xF0, 0xF7), _lonely(0xF8, 0xFB),
                           _lonely(0xFC, 0xFD))),
    ("the last byte missing", _CUT),
    ("many incomplete sequences", (b"".join(_CUT),)),
    ("impossible bytes", (b"\xfe", b"\xff", b"\xfe\xfe\xff\xff")),
    ("an overlong slash", (b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xf8\x80\x80\x80\xaf",
                           b"\xfc\x80\x80\x80\x80\xaf")),
    ("the largest overlong sequences", (b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xf8\x87\xbf\xbf\xbf",
                                        b"\xfc\x83\xbf\xbf\xbf\xbf")),
    ("an overlong NUL", (b"\xc0\x80", b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"\xf8\x80\x80\x80\x80",
                         b"\xfc\x80\x80\x80\x80\x80")),
    ("single surrogates", (b"\xed\xa0\x80", b"\xed\xad\xbf", b"\xed\xae\x80", b"\xed\xaf\xbf", b"\xed\xb0\x80",
                           b"\xed\xbe\x80", b"\xed\xbf\xbf")),
    ("paired surrogates", _SURROGATES),
    ("noncharacters", _NONCHARACTERS),
    ("specials", tuple(chr(code).encode() for code in range(0xFFF9, 0x10000))),
)


def is_valid(data: bytes) -> bool:
    """RFC 3629."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
