"""Blocks of field lines, in heads and trailers, read and checked in one pass.

Each match of the grammar starts a line and holds exactly one LF; as many matches as LFs means that every line is
strictly valid and none was skipped.
"""

from __future__ import annotations

from rulesproxy.codecs.http1.grammar import FIELD, FIELD_PADDED
from rulesproxy.model.headers import Fields


def parse_fields(buf: bytes | bytearray, start: int, end: int) -> Fields | None:
    """The fields of a block of CRLF-ended lines without the blank line; None if any line is not strictly valid."""
    lines = buf.count(b"\n", start, end)
    fields = FIELD.findall(buf, start, end)
    if len(fields) == lines:
        return tuple(fields)
    fields = FIELD_PADDED.findall(buf, start, end)  # whitespace after a value is legal, only rare
    if len(fields) == lines:
        return tuple([(name, value.strip(b" \t")) for name, value in fields])
    return None
