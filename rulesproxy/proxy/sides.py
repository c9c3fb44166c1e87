"""The two ends of an exchange, whatever version of HTTP each of them speaks.

`Exchange` knows these interfaces only. `http1/` implements them over a connection that carries one exchange at a time,
`http2/` over one stream of a connection that carries many. Each side turns whatever goes wrong on it into its own
exceptions: ProtocolError (the client broke HTTP, or was too slow) and ClientGone here, UpstreamError there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from rulesproxy.codecs.http1 import EndOfBody, Framing, ResponseHead
from rulesproxy.model.headers import Fields
from rulesproxy.model.http import Request, Response
from rulesproxy.net.peek import PeekableStream
from rulesproxy.proxy.framing import Received
from rulesproxy.proxy.upstream.target import UpstreamError
from rulesproxy.proxy.watchdog import Watchdog

if TYPE_CHECKING:
    from rulesproxy.proxy.upstream.connection import UpstreamConnection


class ClientGone(Exception):
    """The client closed or reset its connection (or stream) before the exchange was over."""


class StaleConnection(UpstreamError):
    """The origin ended the connection without a byte of an answer: the request may not have been seen.

    `unseen`: it says that it has not acted on it, so that repeating it does no harm.
    """

    def __init__(self, message: str, *, unseen: bool = False) -> None:
        super().__init__(message)
        self.unseen = unseen


class BodySource(Protocol):
    """Where a body comes from: a side, or a file."""

    def ready_piece(self) -> bytes | EndOfBody | None:
        """What is here already; None: only waiting helps."""
        ...

    async def next_piece(self) -> bytes | EndOfBody: ...

    def consumed(self) -> None:
        """Every piece handed out so far has gone on or is kept: there is room for as many bytes again."""
        ...


class MessageWriter(Protocol):
    """One message on its way out. It is made with its head, which leaves together with the first pieces."""

    async def send(self, pieces: list[bytes]) -> None:
        """Returns when there is room for more. An empty list sends the head alone."""
        ...

    async def finish(self, pieces: list[bytes], trailers: Fields) -> None:
        """The last pieces and the end of the message, in one write where that is possible."""
        ...


class ClientSide(BodySource, Protocol):
    """The client's end of one exchange."""

    #: The watchdog of the task that reads the body, and of the one that answers: the same task, unless a body is
    #: uploaded while the answer comes.
    reading: Watchdog
    writing: Watchdog
    #: True once the end of the request's body was read.
    body_complete: bool

    @property
    def waits_for_continue(self) -> bool:
        """The client wants to be told before it sends the body (RFC 9110 §10.1.1)."""
        ...

    async def say_continue(self) -> None: ...

    async def interim(self, head: ResponseHead) -> None:
        """Pass a 1xx answer on. Raises ClientGone."""
        ...

    def begin(self, response: Response, framing: Framing, received: Received, *, last: bool) -> MessageWriter:
        """A response with this framing; `last`: the connection carries no exchange after this one."""
        ...

    async def switch(self, response: Response) -> PeekableStream:
        """Agree to another protocol (101) or to a tunnel (200 to a CONNECT): the stream on which the client goes on.
        Raises ClientGone."""
        ...

    async def discard_input(self, limit: int, seconds: float) -> None:
        """Read and forget until the client finishes, or for so many bytes or seconds. Never raises its errors."""
        ...

    def was_cut_off(self) -> bool:
        """After the client's side has ended: True if that was no half-close."""
        ...

    async def end(self) -> None:
        """End the exchange without (more of) an answer: close the connection, or reset the stream."""
        ...

    def abort(self) -> None:
        """End it without courtesy, so that nobody takes what was sent for complete."""
        ...


class OriginSide(BodySource, Protocol):
    """The origin's end of one exchange."""

    @property
    def connection(self) -> UpstreamConnection: ...

    reading: Watchdog
    writing: Watchdog
    #: The silence allowed within a body, in seconds.
    patience: float
    #: True once the answer was read to its end.
    complete: bool

    @property
    def reusable(self) -> bool:
        """The connection can carry another exchange."""
        ...

    def begin(self, request: Request, framing: Framing, received: Received, *, host: str | None, drop_expect: bool,
              upgrade: bool) -> MessageWriter:
        """A request with this framing. `host` replaces Host, `upgrade` keeps Upgrade."""
        ...

    async def next_head(self, method: str) -> ResponseHead:
        """The next response head, 1xx included. Raises StaleConnection, UpstreamError."""
        ...

    def switched(self) -> PeekableStream:
        """After a 101: what is spoken from now on."""
        ...

    def abort(self) -> None:
        """Give up: the request, or what is left of it, is not wanted any more."""
        ...
