"""h2spec's list for clients, 57 cases by their ids, in words and frames of our own.

An origin with the keyboard of `http2_steps` is on the other side of the proxy's HTTP/2 client, which sends a request.
"""

from __future__ import annotations

from tests.conformance import http2_expectations as see
from tests.conformance import http2_steps as do
from tests.conformance.http2_peer import ACK, Code, Setting, Type
from tests.conformance.http2_steps import case, continuation, data, filler, headers, response

_PROTOCOL = see.connection_error(Code.PROTOCOL_ERROR)
_FRAME_SIZE = see.connection_error(Code.FRAME_SIZE_ERROR)
_CLOSED = see.stream_error(Code.STREAM_CLOSED)
_OPEN = headers(response(), end_stream=False)
_WHOLE = headers(response())

_START = (
    case("client/1/1", "RFC 9113 §3.4", "the server's preface", do.accept, expect=see.begun),

    case("client/4.1/1", "RFC 9113 §4.1", "a frame of unknown type",
         do.accept, do.unknown_frame(), do.ping(), expect=see.pinged()),
    case("client/4.1/2", "RFC 9113 §4.1", "undefined flags", do.accept, do.ping(flags=0x16), expect=see.pinged()),
    case("client/4.1/3", "RFC 9113 §4.1", "the reserved bit",
         do.accept, do.raw(b"\x00\x00\x08\x06\x16\x80\x00\x00\x00" + bytes(8)), expect=see.pinged()),

    case("client/4.2/1", "RFC 9113 §4.2", "DATA of the largest size allowed",
         do.accept, do.receive_request, _OPEN, do.full_frame(), do.ping(), expect=see.pinged()),
    case("client/4.2/2", "RFC 9113 §4.2", "DATA larger than allowed",
         do.accept, do.receive_request, _OPEN, do.full_frame(excess=1),
         expect=see.stream_error(Code.FRAME_SIZE_ERROR)),
    case("client/4.2/3", "RFC 9113 §4.2", "HEADERS larger than allowed",
         do.accept, do.receive_request, headers(do.oversized(response())), expect=_FRAME_SIZE),
    case("client/4.3/1", "RFC 9113 §4.3", "a block that ends within a field",
         do.accept, do.receive_request, headers(do.only(), after=b"\x40"),
         expect=see.connection_error(Code.COMPRESSION_ERROR)),
)

_STREAMS = (
    case("client/5.1/1", "RFC 9113 §5.1", "DATA on an idle stream",
         do.accept, data(stream=2), expect=_PROTOCOL),
    case("client/5.1/2", "RFC 9113 §5.1", "RST_STREAM on an idle stream",
         do.accept, do.reset(stream=2), expect=_PROTOCOL),
    case("client/5.1/3", "RFC 9113 §5.1", "WINDOW_UPDATE on an idle stream",
         do.accept, do.window_update(100, stream=2), expect=_PROTOCOL),
    case("client/5.1/4", "RFC 9113 §5.1", "CONTINUATION on an idle stream",
         do.accept, continuation(response(), stream=2), expect=_PROTOCOL),
    case("client/5.1/5", "RFC 9113 §5.1", "DATA after RST_STREAM",
         do.accept, do.receive_request, _OPEN, do.reset(), data(), expect=_CLOSED),
    case("client/5.1/6", "RFC 9113 §5.1", "HEADERS after RST_STREAM",
         do.accept, do.receive_request, _OPEN, do.reset(), _WHOLE, expect=_CLOSED),
    case("client/5.1/7", "RFC 9113 §5.1", "CONTINUATION after RST_STREAM",
         do.accept, do.receive_request, _OPEN, do.reset(), continuation(filler()),
         expect=see.stream_error(Code.STREAM_CLOSED, Code.PROTOCOL_ERROR)),
    case("client/5.1/8", "RFC 9113 §5.1", "DATA on a closed stream",
         do.accept, do.receive_request, _WHOLE, data(), expect=see.late_data_refused),
    case("client/5.1/9", "RFC 9113 §5.1", "HEADERS on a closed stream",
         do.accept, do.receive_request, _WHOLE, _WHOLE, expect=see.connection_error(Code.STREAM_CLOSED)),
    case("client/5.1/10", "RFC 9113 §5.1", "CONTINUATION on a closed stream",
         do.accept, do.receive_request, _WHOLE, continuation(filler()),
         expect=see.connection_error(Code.STREAM_CLOSED, Code.PROTOCOL_ERROR)),
    case("client/5.1.1/1", "RFC 9113 §5.1.1", "HEADERS on a stream the client has not opened",
         do.accept, headers(response(), stream=101), expect=_PROTOCOL),

    case("client/5.4.1/1", "RFC 9113 §5.4.1", "the connection ends after an error",
         do.accept, do.any_frame(Type.PING, bytes(8), stream=3), expect=see.hung_up),
    case("client/5.4.1/2", "RFC 9113 §5.4.1", "GOAWAY comes before the end",
         do.accept, do.any_frame(Type.PING, bytes(8), stream=3), expect=see.goaway_with()),
    case("client/5.5/1", "RFC 9113 §5.5", "an extension frame",
         do.accept, do.unknown_frame(), do.ping(), expect=see.pinged()),
)

_FRAME_TYPES = (
    case("client/6.1/1", "RFC 9113 §6.1", "DATA on stream 0", do.accept, data(stream=0), expect=_PROTOCOL),
    case("client/6.1/2", "RFC 9113 §6.1", "DATA after the end of the response",
         do.accept, do.receive_request, _WHOLE, data(), expect=_CLOSED),
    case("client/6.1/3", "RFC 9113 §6.1", "DATA with more padding than payload",
         do.accept, do.receive_request, headers(response(("content-length", "4")), end_stream=False),
         do.any_frame(Type.DATA, b"\x06test", stream=do.THE_REQUEST, flags=0x9), expect=_PROTOCOL),

    case("client/6.2/1", "RFC 9113 §6.2", "PRIORITY instead of CONTINUATION",
         do.accept, do.receive_request, headers(response(), end_stream=False, end_headers=False),
         do.priority(do.depends()), continuation(filler()), expect=_PROTOCOL),
    case("client/6.2/2", "RFC 9113 §6.2", "HEADERS on stream 0",
         do.accept, headers(response(), stream=0), expect=_PROTOCOL),
    case("client/6.2/3", "RFC 9113 §6.2", "HEADERS with more padding than payload",
         do.accept, do.receive_request, do.bad_padding_headers(response()),
         expect=see.stream_error(Code.PROTOCOL_ERROR)),

    case("client/6.3/1", "RFC 9113 §6.3", "PRIORITY on stream 0",
         do.accept, do.priority(do.depends(), stream=0), expect=_PROTOCOL),
    case("client/6.3/2", "RFC 9113 §6.3", "PRIORITY of 4 bytes",
         do.accept, do.receive_request, _WHOLE, do.priority(b"\x80\x00\x00\x01"),
         expect=see.stream_error(Code.FRAME_SIZE_ERROR)),

    case("client/6.4/1", "RFC 9113 §6.4", "RST_STREAM on stream 0",
         do.accept, do.reset(stream=0), expect=_PROTOCOL),
    case("client/6.4/2", "RFC 9113 §6.4", "RST_STREAM on an idle stream",
         do.accept, do.reset(stream=2), expect=_PROTOCOL),
    case("client/6.4/3", "RFC 9113 §6.4", "RST_STREAM of 3 bytes",
         do.accept, do.receive_request, _WHOLE, do.any_frame(Type.RST_STREAM, bytes(3), stream=do.THE_REQUEST),
         expect=see.stream_error(Code.FRAME_SIZE_ERROR)),

    case("client/6.5/1", "RFC 9113 §6.5", "SETTINGS with ACK and a payload",
         do.preface, do.any_frame(Type.SETTINGS, b"\x00", flags=ACK), expect=_FRAME_SIZE),
    case("client/6.5/2", "RFC 9113 §6.5", "SETTINGS on a stream",
         do.preface, do.any_frame(Type.SETTINGS, b"\x00\x03\x00\x00\x00\x64", stream=1), expect=_PROTOCOL),
    case("client/6.5/3", "RFC 9113 §6.5", "SETTINGS of 3 bytes",
         do.preface, do.any_frame(Type.SETTINGS, b"\x00\x03\x00"),
         expect=see.stream_error(Code.PROTOCOL_ERROR, Code.FRAME_SIZE_ERROR)),
    case("client/6.5.2/1", "RFC 9113 §6.5.2", "INITIAL_WINDOW_SIZE of 2^31",
         do.preface, do.settings((Setting.INITIAL_WINDOW_SIZE, 2**31)),
         expect=see.connection_error(Code.FLOW_CONTROL_ERROR)),
    case("client/6.5.2/2", "RFC 9113 §6.5.2", "MAX_FRAME_SIZE of 2^14 - 1",
         do.preface, do.settings((Setting.MAX_FRAME_SIZE, 2**14 - 1)), expect=_PROTOCOL),
    case("client/6.5.2/3", "RFC 9113 §6.5.2", "MAX_FRAME_SIZE of 2^24",
         do.preface, do.settings((Setting.MAX_FRAME_SIZE, 2**24)), expect=_PROTOCOL),
    case("client/6.5.2/4", "RFC 9113 §6.5.2", "an unknown parameter",
         do.preface, do.settings((0xFF, 1)), do.ping(), expect=see.pinged()),
    case("client/6.5.3/1", "RFC 9113 §6.5.3", "SETTINGS are acknowledged",
         do.preface, do.settings((Setting.MAX_CONCURRENT_STREAMS, 100)), expect=see.settings_acknowledged),

    case("client/6.7/1", "RFC 9113 §6.7", "PING",
         do.accept, do.ping(b"h2spec\0\0"), expect=see.pinged(b"h2spec\0\0")),
    case("client/6.7/2", "RFC 9113 §6.7", "PING with ACK is not answered",
         do.accept, do.ping(b"invalid\0", flags=ACK), do.ping(b"h2spec\0\0"), expect=see.pinged(b"h2spec\0\0")),
    case("client/6.7/3", "RFC 9113 §6.7", "PING on a stream",
         do.accept, do.any_frame(Type.PING, bytes(8), stream=1), expect=_PROTOCOL),
    case("client/6.7/4", "RFC 9113 §6.7", "PING of 6 bytes", do.accept, do.ping(bytes(6)), expect=_FRAME_SIZE),

    case("client/6.8/1", "RFC 9113 §6.8", "GOAWAY on a stream",
         do.accept, do.any_frame(Type.GOAWAY, bytes(8), stream=1), expect=_PROTOCOL),

    case("client/6.9/1", "RFC 9113 §6.9", "WINDOW_UPDATE by 0 for the connection",
         do.accept, do.window_update(0, stream=0), expect=_PROTOCOL),
    case("client/6.9/2", "RFC 9113 §6.9", "WINDOW_UPDATE by 0 for a stream",
         do.accept, do.receive_request, _OPEN, do.window_update(0), expect=see.stream_error(Code.PROTOCOL_ERROR)),
    case("client/6.9/3", "RFC 9113 §6.9", "WINDOW_UPDATE of 3 bytes",
         do.accept, do.any_frame(Type.WINDOW_UPDATE, b"\x00\x00\x01"), expect=_FRAME_SIZE),
    case("client/6.9.1/1", "RFC 9113 §6.9.1", "the connection's window above 2^31 - 1",
         do.accept, do.window_update(do.LARGEST_WINDOW, stream=0), do.window_update(do.LARGEST_WINDOW, stream=0),
         expect=see.goaway_with(Code.FLOW_CONTROL_ERROR)),
    case("client/6.9.1/2", "RFC 9113 §6.9.1", "a stream's window above 2^31 - 1",
         do.accept, do.receive_request, _OPEN, do.window_update(do.LARGEST_WINDOW),
         do.window_update(do.LARGEST_WINDOW), expect=see.reset_with(Code.FLOW_CONTROL_ERROR)),
)

_CONTINUATION = (
    case("client/6.10/1", "RFC 9113 §6.10", "HEADERS and two CONTINUATION frames",
         do.accept, do.receive_request, headers(response(), end_headers=False),
         continuation(filler(), end_headers=False), continuation(filler()), do.ping(), expect=see.pinged()),
    case("client/6.10/2", "RFC 9113 §6.10", "DATA within a block",
         do.accept, do.receive_request, headers(response(), end_stream=False, end_headers=False),
         continuation(filler(), end_headers=False), data(), expect=_PROTOCOL),
    case("client/6.10/3", "RFC 9113 §6.10", "CONTINUATION on stream 0",
         do.accept, do.receive_request, headers(response(), end_headers=False), continuation(filler(), stream=0),
         expect=_PROTOCOL),
    case("client/6.10/4", "RFC 9113 §6.10", "CONTINUATION after a whole HEADERS frame",
         do.accept, do.receive_request, _WHOLE, continuation(filler()), expect=_PROTOCOL),
    case("client/6.10/5", "RFC 9113 §6.10", "CONTINUATION after the last CONTINUATION",
         do.accept, do.receive_request, headers(response(), end_headers=False), continuation(filler()),
         continuation(filler()), expect=_PROTOCOL),
    case("client/6.10/6", "RFC 9113 §6.10", "CONTINUATION after DATA",
         do.accept, do.receive_request, headers(response(), end_stream=False, end_headers=False), data(),
         continuation(filler(), end_headers=False), continuation(filler(), stream=0), expect=_PROTOCOL),
)

CLIENT_CASES = (*_START, *_STREAMS, *_FRAME_TYPES, *_CONTINUATION)
