"""What the HTTP/2 codec raises, and the names of error codes."""

from __future__ import annotations

from h2.errors import ErrorCodes

from rulesproxy.codecs.http1 import ProtocolError


class MalformedMessage(ProtocolError):
    """RFC 9113 §8.1.1: the stream is reset with PROTOCOL_ERROR, the connection goes on. `message` is fixed text."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(status, message)


def code_name(code: int) -> str:
    """`CANCEL` and the like; the number for codes nobody knows."""
    try:
        return ErrorCodes(code).name
    except ValueError:
        return f"error {code}"
