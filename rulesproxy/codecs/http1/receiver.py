"""One side of an HTTP/1 connection, read incrementally.

In: bytes as they arrive, and the end of input. Out, when asked: heads, pieces of bodies, the end of a body. It serves
one message after the other; what follows a message stays in the buffer (pipelining). It knows nothing of sockets, and
after an error it repeats that error for ever: no message is ever read from a connection that broke framing.

The buffer is the last piece that was fed, as it is, while nothing older is left over; body pieces are then handed
on without a copy. Leftovers are collected in a bytearray, and every search resumes where the last one ended, so a
head that arrives byte by byte costs no more than linear time.
"""

from __future__ import annotations

from typing import Literal

from rulesproxy.codecs.http1.fields import parse_fields
from rulesproxy.codecs.http1.grammar import ANY_REQUEST_LINE, BARE_LF, CHUNK_LINE, LENIENT_HEAD_END
from rulesproxy.codecs.http1.head import parse_odd_response_head, parse_request_head, parse_response_head
from rulesproxy.codecs.http1.messages import (
    END_OF_BODY,
    EndOfBody,
    Framing,
    FramingKind,
    Limits,
    ProtocolError,
    RequestHead,
    ResponseHead,
)

_MAX_EMPTY_LINES = 4  # before a request; RFC 9112 §2.2 asks for at least one
_MAX_BODY = 2**63 - 1


_State = Literal[
    "head",  # between messages, or inside a head
    "end",  # the body is complete, EndOfBody not handed out yet
    "length", "chunk line", "chunk data", "chunk end", "trailers", "until close",  # inside a body
    "raw",  # no longer HTTP: a tunnel or an upgraded connection
    "broken",  # after an error
]

# Looking a member up on its enum costs as much as a call.
_NONE, _LENGTH, _CHUNKED = FramingKind.NONE, FramingKind.LENGTH, FramingKind.CHUNKED


class Receiver:
    """Feed it, then ask until it answers None (more data needed).

    Per message: `next_request` or `next_response` once, then `next_body` until EndOfBody. Without a body
    (framing NONE, or LENGTH of 0) `next_body` may be left out. Everything that returns messages raises ProtocolError.
    """

    __slots__ = ("_buf", "_empty_lines", "_eof", "_error", "_extensions", "_left", "_limits", "_line_seen", "_pos",
                 "_scan", "_state", "_status")

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._buf: bytes | bytearray = b""
        self._pos = 0  # start of what is not parsed yet
        self._scan = 0  # up to here there is no end of head
        self._eof = False
        self._state: _State = "head"
        self._status = 400  # of an error in what is being read
        self._error: ProtocolError | None = None
        self._line_seen = False
        self._empty_lines = 0
        self._left = 0  # of the body or chunk
        self._extensions = 0

    # --- input -----------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        buf = self._buf
        if self._pos == len(buf):
            self._buf = data
            self._scan = self._pos = 0
            return
        if not isinstance(buf, bytearray):
            buf = self._buf = bytearray(memoryview(buf)[self._pos:])
        elif self._pos:
            del buf[:self._pos]
        buf += data
        self._scan = max(self._scan - self._pos, 0)
        self._pos = 0

    def feed_eof(self) -> None:
        self._eof = True

    @property
    def at_eof(self) -> bool:
        """The peer has finished and nothing is left to read."""
        return self._eof and self._pos == len(self._buf)

    @property
    def has_data(self) -> bool:
        return self._pos < len(self._buf)

    def take_rest(self) -> bytes:
        """Everything not parsed yet, after CONNECT or an upgrade. The receiver reads no further messages."""
        rest = self._slice(self._pos, len(self._buf))
        self._buf = b""
        self._pos = self._scan = 0
        self._state = "raw"
        return rest

    # --- heads -----------------------------------------------------------------------------------------------

    def next_request(self) -> RequestHead | None:
        """The next request head; None needs more data, or nothing more comes if `at_eof`."""
        self._begin_head(400)
        try:
            if self._buf.startswith(b"\r\n", self._pos):
                self._skip_empty_lines()
            start, seen = self._pos, self._scan - 3
            end = self._buf.find(b"\r\n\r\n", seen if seen > start else start) + 4
            if end == 3:
                self._partial_request(start)
                return None
            head = parse_request_head(self._buf, start, end, self._limits)
        except ProtocolError as exc:
            self._break(exc)
            raise
        self._begin_body(end, head.framing)
        return head

    def next_response(self, request_method: str) -> ResponseHead | None:
        """The next response head, 1xx included: after those call again. 101 ends HTTP, see `take_rest`."""
        self._begin_head(502)
        start, seen = self._pos, self._scan - 3
        try:
            end = self._buf.find(b"\r\n\r\n", seen if seen > start else start) + 4
            if end - start > self._limits.head:
                raise ProtocolError(502, "the response head is too large")
            head = None if end == 3 else parse_response_head(self._buf, start, end, request_method, self._limits)
            if head is None:
                lenient = LENIENT_HEAD_END.search(self._buf, start if end > 3 else max(self._scan - 2, start))
                if lenient is None:
                    self._partial_response(start)
                    return None
                end = lenient.end()
                if end - start > self._limits.head:
                    raise ProtocolError(502, "the response head is too large")
                head = parse_odd_response_head(self._slice(start, end), request_method, self._limits)
        except ProtocolError as exc:
            self._break(exc)
            raise
        self._begin_body(end, head.framing)
        if head.status == 101 or (request_method == "CONNECT" and 200 <= head.status < 300):
            self._state = "raw"
        return head

    def _begin_head(self, status: int) -> None:
        state = self._state
        if state != "head":
            if self._error is not None:
                raise self._error
            if state != "end":
                raise RuntimeError(f"a head was asked for in state {state!r}")
            self._state = "head"
        self._status = status

    def _break(self, error: ProtocolError) -> None:
        self._error = error
        self._state = "broken"

    def _begin_body(self, end: int, framing: Framing) -> None:
        self._pos = self._scan = end
        self._line_seen = False
        self._empty_lines = 0
        self._left = framing.length
        self._extensions = 0
        kind = framing.kind
        if kind is _NONE:
            self._state = "end"
        elif kind is _LENGTH:
            self._state = "length" if framing.length else "end"
        elif kind is _CHUNKED:
            self._state = "chunk line"
        else:
            self._state = "until close"

    def _skip_empty_lines(self) -> None:
        # RFC 9112 §2.2
        while self._buf.startswith(b"\r\n", self._pos):
            self._pos += 2
            self._empty_lines += 1
            if self._empty_lines > _MAX_EMPTY_LINES:
                raise ProtocolError(400, "too many empty lines before a request")

    def _partial_request(self, start: int) -> None:
        """Refuse what can never become a request, so that nobody waits for its end."""
        buf = self._buf
        size = len(buf) - start
        if BARE_LF.search(buf, max(self._scan, start)):
            raise ProtocolError(400, "a line that does not end in CRLF")
        if not self._line_seen:
            line_end = buf.find(b"\n", max(self._scan, start))
            if (line_end if line_end >= 0 else len(buf)) - 1 - start > self._limits.request_line:
                raise ProtocolError(414, "the request line is too long")
            if line_end >= 0:
                self._line_seen = True
                if not ANY_REQUEST_LINE.match(buf, start):
                    raise ProtocolError(400, "not an HTTP/1 request line")
        if size > self._limits.head:
            raise ProtocolError(431, "the request head is too large")
        if self._eof and size:
            raise ProtocolError(400, "the connection ended inside a request head")
        self._scan = len(buf)

    def _partial_response(self, start: int) -> None:
        size = len(self._buf) - start
        if size > self._limits.head:
            raise ProtocolError(502, "the response head is too large")
        if self._eof and size:
            raise ProtocolError(502, "the connection ended inside a response head")
        self._scan = len(self._buf)

    # --- bodies ----------------------------------------------------------------------------------------------

    def next_body(self) -> bytes | EndOfBody | None:
        """The next piece of the body, then EndOfBody once; None needs more data."""
        try:
            while True:
                match self._state:
                    case "length" | "chunk data" if self._left:
                        return self._counted_data()
                    case "length" | "end":
                        return self._end(END_OF_BODY)
                    case "chunk data":
                        self._state = "chunk end"
                    case "chunk line":
                        if not self._chunk_line():
                            return None
                    case "chunk end":
                        if not self._chunk_end():
                            return None
                    case "trailers":
                        return self._trailers()
                    case "until close":
                        return self._rest_of_connection()
                    case "head" | "raw":
                        raise RuntimeError("no message is being read")
                    case "broken":
                        raise self._error or RuntimeError("broken without an error")
        except ProtocolError as exc:
            self._break(exc)
            raise

    def _end(self, end: EndOfBody) -> EndOfBody:
        self._state = "head"
        return end

    def _slice(self, start: int, end: int) -> bytes:
        buf = self._buf
        if isinstance(buf, bytearray):
            return bytes(memoryview(buf)[start:end])
        return buf[start:end]  # the object itself if this is all of it

    def _counted_data(self) -> bytes | None:
        start = self._pos
        end = min(len(self._buf), start + self._left)
        if start == end:
            self._starved()
            return None
        self._left -= end - start
        self._pos = self._scan = end
        return self._slice(start, end)

    def _rest_of_connection(self) -> bytes | EndOfBody | None:
        start, end = self._pos, len(self._buf)
        if start < end:
            self._pos = self._scan = end
            return self._slice(start, end)
        return self._end(END_OF_BODY) if self._eof else None

    def _starved(self) -> None:
        if self._eof:
            raise ProtocolError(self._status, "body ended early")  # RFC 9112 §8

    def _fail(self, message: str) -> ProtocolError:
        return ProtocolError(self._status, message)

    # --- the chunked coding, RFC 9112 §7.1 -------------------------------------------------------------------

    def _chunk_line(self) -> bool:
        buf, start = self._buf, self._pos
        longest = start + self._limits.chunk_line
        line_end = buf.find(b"\n", start, longest + 1)
        if line_end < 0:
            if len(buf) > longest:
                raise self._fail("a chunk size line is too long")
            self._starved()
            return False
        line = CHUNK_LINE.match(buf, start, line_end + 1)
        if line is None:
            raise self._fail("not a chunk size line")
        size = int(line[1], 16)
        self._extensions += line.end(2) - line.start(2)
        if size > _MAX_BODY or self._extensions > self._limits.chunk_extensions:
            raise self._fail("a chunk is too large")
        self._pos = self._scan = line_end + 1
        self._left = size
        self._state = "chunk data" if size else "trailers"
        return True

    def _chunk_end(self) -> bool:
        ending = self._slice(self._pos, self._pos + 2)
        if ending == b"\r\n":
            self._pos += 2
            self._state = "chunk line"
            return True
        if ending not in (b"", b"\r"):
            raise self._fail("chunk data does not end in CRLF")
        self._starved()
        return False

    def _trailers(self) -> EndOfBody | None:
        buf, start = self._buf, self._pos
        if buf.startswith(b"\r\n", start):
            self._pos = start + 2
            return self._end(END_OF_BODY)
        end = buf.find(b"\r\n\r\n", max(self._scan - 3, start)) + 4
        size = (end if end > 3 else len(buf)) - start
        if size > self._limits.trailers:
            raise ProtocolError(431 if self._status == 400 else 502, "the trailers are too large")
        if BARE_LF.search(buf, max(self._scan, start), end if end > 3 else len(buf)):
            raise self._fail("a trailer line that does not end in CRLF")
        if end == 3:
            self._starved()
            self._scan = len(buf)
            return None
        fields = parse_fields(buf, start, end - 2)
        if fields is None:
            raise self._fail("not a trailer field line")
        if len(fields) > self._limits.fields:
            raise ProtocolError(431 if self._status == 400 else 502, "too many trailer fields")
        self._pos = self._scan = end
        return self._end(EndOfBody(fields))
