"""Bytes as rule files write them: pairs of hexadecimal digits, or `base64:` and its text."""

from __future__ import annotations

import base64
import binascii
import re

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.source import Scalar

DESCRIPTION = "bytes as hexadecimal digits (de ad be ef), or base64:… ."
_GAPS = re.compile(r"[\s:]+")
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2})*")


def read_bytes(text: str) -> bytes:
    """Raises ValueError with what is wrong."""
    kind, colon, rest = text.strip().partition(":")
    if colon and kind.lower() == "base64":
        try:
            return base64.b64decode(rest.strip(), validate=True)
        except binascii.Error:
            raise ValueError("this is not base64") from None
    digits = _GAPS.sub("", text.strip().removeprefix("0x"))
    if not _HEX.fullmatch(digits):
        raise ValueError(f'"{text[:40]}" is neither hexadecimal digits in pairs nor base64:…')
    return bytes.fromhex(digits)


def bytes_of(node: Scalar, context: Context) -> bytes | None:
    """The bytes of a scalar by its source text, so that 0500 needs no quotes; None after an error."""
    try:
        return read_bytes(context.match_text(node))
    except ValueError as exc:
        context.error(node, str(exc), code="bad-bytes", help='as "de ad be ef" or base64:3q2+7w==; or use text')
        return None
