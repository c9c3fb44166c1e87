"""`Stream`: the one interface between the network and everything above it.

TCP, TLS, peekable and in-memory streams implement it and pass the same conformance kit, so a tunnel inside a tunnel
is nothing special: unwrap, then serve the inner stream.

Contract:
* `read` answers at least one byte, or `b""` once the peer has finished sending, and then `b""` for ever.
* `write` returns when the bytes are accepted and the send buffer is below its high-water mark: awaiting it is
  back-pressure.
* `write_eof` says "no more from here" and leaves reading open (half-close).
* `aclose` may be called at any time, any number of times; a blocked `read` then ends with `b""`, a blocked `write`
  with ConnectionClosed. `abort` is the same without courtesy: RST where the medium has one.
* Errors of the medium surface as ConnectionClosed from `write`, and as ConnectionClosed or `b""` from `read`:
  `b""` only for an orderly end.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol

from rulesproxy.model.connection import Address


class ConnectionClosed(OSError):
    """The peer reset the connection, or it was used after it ended."""


class Stream(Protocol):
    #: Where the medium's other end and this end are; None for in-memory streams.
    peername: Address | None
    sockname: Address | None

    def read(self, limit: int = 65536) -> Coroutine[Any, Any, bytes]:
        """At most `limit` bytes, `b""` at the end. Raises ConnectionClosed."""
        ...

    async def write(self, data: bytes) -> None:
        """Raises ConnectionClosed."""
        ...

    async def write_eof(self) -> None: ...

    async def aclose(self) -> None: ...

    def abort(self) -> None: ...

    @property
    def pending(self) -> bool:
        """True when something has arrived that was not read: the next `read` has work to do before it waits."""
        ...

    @property
    def closing(self) -> bool:
        """True once the stream can no longer be used for a new exchange: closed here, or the peer has finished."""
        ...


def read_at_once(stream: Stream) -> bytes | None:
    """What `read` hands out without waiting; None: nothing has arrived. Raises ConnectionClosed.

    One step of `read` tells, for every kind of stream: it suspends exactly when there is nothing to hand out. (TLS
    takes session tickets from the medium on the way and goes on waiting.) Streams bear a read that is given up.
    """
    reading = stream.read()
    try:
        reading.send(None)
    except StopIteration as done:
        data: bytes = done.value
        return data
    reading.close()
    return None
