"""`Abuse`: how much trouble the peer of an HTTP/2 connection made lately.

Each frame that costs us more than it is worth adds to a score; data that moved, exchanges that ended well and time
that passed take from it. Beyond `LIMIT` the connection ends with ENHANCE_YOUR_CALM. What a limit of its own bounds
(header lists, CONTINUATION, open streams, windows) is not counted here.
"""

from __future__ import annotations

from h2.exceptions import DenialOfServiceError
from hyperframe.frame import (
    AltSvcFrame,
    DataFrame,
    ExtensionFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

LIMIT = 500.0
#: Points forgiven for each second, each exchange that ended well, and each byte of data, received or sent.
PER_SECOND = 20.0
PER_EXCHANGE = 1.0
PER_BYTE = 1 / 2048
#: Also for each frame of data, however small: conversations of many small messages (gRPC) come with a PING for each
#: that is sent, and with a WINDOW_UPDATE for the stream and one for the connection for each that is received.
PER_RECEIVED = 1.0
PER_SENT = 2.0

_COSTS: dict[type[Frame], float] = {
    SettingsFrame: 2.0, PingFrame: 1.0, PriorityFrame: 1.0, RstStreamFrame: 1.0, ExtensionFrame: 1.0,
    WindowUpdateFrame: 1.0, GoAwayFrame: 1.0, AltSvcFrame: 1.0,
}
#: Data for a stream that is closed makes h2 reset it again. Much of it was on its way, small pieces are for that.
_LATE = 1024


class Abuse:
    __slots__ = ("_last", "score")

    def __init__(self) -> None:
        self.score = 0.0
        self._last: float | None = None

    def at(self, now: float) -> None:
        """The time, by any clock that goes on: what was long ago is forgiven."""
        if self._last is not None and self.score:
            self.forgive((now - self._last) * PER_SECOND)
        self._last = now

    def received(self, frame: Frame) -> None:
        """Raises DenialOfServiceError, which h2 turns into the GOAWAY."""
        if isinstance(frame, DataFrame):
            if frame.data:
                self.forgive(PER_RECEIVED + len(frame.data) * PER_BYTE)
            elif "END_STREAM" not in frame.flags:
                self.charge(1.0)
        elif isinstance(frame, HeadersFrame):
            if "PRIORITY" in frame.flags:
                self.charge(0.1)
        else:
            self.charge(_COSTS.get(type(frame), 0.0))

    def late(self, size: int) -> None:
        """Data came for a closed stream. Raises DenialOfServiceError."""
        if size < _LATE:
            self.charge(1.0 + PER_RECEIVED)  # what `received` has forgiven

    def charge(self, points: float) -> None:
        """Raises DenialOfServiceError."""
        self.score += points
        if self.score > LIMIT:
            raise DenialOfServiceError("too many frames without a purpose")

    def sent(self, size: int, *, whole: bool) -> None:
        """Data was sent; not `whole`, it was as much as a window allowed, and tiny windows are a way to cause work."""
        self.forgive(size * PER_BYTE + (PER_SENT if whole else 0.0))

    def forgive(self, points: float) -> None:
        self.score = max(0.0, self.score - points)
