"""What the HTTP/1 codec hands out: heads, framing, limits, and the one error it raises."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple

from rulesproxy.model.headers import Fields


class ProtocolError(Exception):
    """The peer (or, when serializing, our own side) broke HTTP/1.

    `status` is what to answer: 400, 413, 414, 431, 501 or 505 for a request, 502 for a response, 500 for a message
    of our own that must not go out. `message` is fixed text, safe to show: it never contains what was received.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message

    def __repr__(self) -> str:
        return f"ProtocolError({self.status}, {self.message!r})"


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes (`fields` is a count). Exactly at the limit is accepted, one more is refused."""

    request_line: int = 16 * 1024
    head: int = 64 * 1024
    fields: int = 200
    chunk_line: int = 256
    chunk_extensions: int = 16 * 1024  # all chunk extensions of one message together
    trailers: int = 16 * 1024


class FramingKind(enum.Enum):
    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    UNTIL_CLOSE = "until close"


class Framing(NamedTuple):
    """How the body ends (RFC 9112 §6.3). `length` is meaningful for LENGTH only."""

    kind: FramingKind
    length: int


NO_BODY = Framing(FramingKind.NONE, 0)
CHUNKED_BODY = Framing(FramingKind.CHUNKED, 0)
BODY_UNTIL_CLOSE = Framing(FramingKind.UNTIL_CLOSE, 0)


@dataclass(slots=True)
class RequestHead:
    """A request without its body. `fields` keep case and order, with the whitespace around values stripped.

    `host` is the value of the single Host field, `connection` those of all Connection fields, joined. `keep_alive`
    says whether the client wants another exchange.
    """

    method: str
    target: str
    version: str
    fields: Fields
    framing: Framing
    keep_alive: bool
    expect_continue: bool
    host: bytes | None = None
    connection: bytes | None = None

    @property
    def is_http10(self) -> bool:
        return self.version == "HTTP/1.0"

    @property
    def is_http2(self) -> bool:
        return self.version == "HTTP/2.0"


@dataclass(slots=True)
class ResponseHead:
    """A response without its body; 1xx included. `reason` is text with `surrogateescape`, `connection` all Connection
    fields, joined."""

    status: int
    reason: str
    version: str
    fields: Fields
    framing: Framing
    keep_alive: bool
    connection: bytes | None = None


@dataclass(frozen=True, slots=True)
class EndOfBody:
    """The body is complete. `trailers` are as received: pass them through `safe_trailers` before sending them on."""

    trailers: Fields = ()


END_OF_BODY = EndOfBody()
