"""h2spec's list for servers, 146 cases by their ids, in words and frames of our own.

A client with the keyboard of `http2_steps` is on the other side of the proxy's HTTP/2 server.
"""

from __future__ import annotations

from tests.conformance import http2_expectations as see
from tests.conformance import http2_steps as do
from tests.conformance.http2_generic_cases import GENERIC_CASES, HPACK_CASES
from tests.conformance.http2_peer import ACK, Code, Setting, Type
from tests.conformance.http2_steps import (
    case,
    continuation,
    data,
    filler,
    headers,
    request,
)

_PROTOCOL = see.connection_error(Code.PROTOCOL_ERROR)
_MALFORMED = see.stream_error(Code.PROTOCOL_ERROR)  # RFC 9113 §8.1.1
_CLOSED = see.stream_error(Code.STREAM_CLOSED)
_OPEN = headers(request("POST"), end_stream=False)

_FRAMES = (
    case("http2/3.5/1", "RFC 9113 §3.4", "the client's preface", do.begin, expect=see.settings_first),
    case("http2/3.5/2", "RFC 9113 §3.4", "something else than the preface",
         do.raw(b"INVALID CONNECTION PREFACE\r\n\r\n"), expect=see.hung_up),

    case("http2/4.1/1", "RFC 9113 §4.1", "a frame of unknown type",
         do.connect, do.unknown_frame(), do.ping(), expect=see.pinged()),
    case("http2/4.1/2", "RFC 9113 §4.1", "undefined flags", do.connect, do.ping(flags=0x16), expect=see.pinged()),
    case("http2/4.1/3", "RFC 9113 §4.1", "the reserved bit",
         do.connect, do.raw(b"\x00\x00\x08\x06\x16\x80\x00\x00\x00" + bytes(8)), expect=see.pinged()),

    case("http2/4.2/1", "RFC 9113 §4.2", "DATA of the largest size allowed",
         do.connect, _OPEN, do.full_frame(), expect=see.answered),
    case("http2/4.2/2", "RFC 9113 §4.2", "DATA larger than allowed",
         do.connect, _OPEN, do.full_frame(excess=1), expect=see.stream_error(Code.FRAME_SIZE_ERROR)),
    case("http2/4.2/3", "RFC 9113 §4.2", "HEADERS larger than allowed",
         do.connect, headers(do.oversized(request())), expect=see.connection_error(Code.FRAME_SIZE_ERROR)),

    case("http2/4.3/1", "RFC 9113 §4.3", "a block that ends within a field",
         do.connect, headers(do.only(), after=b"\x40"), expect=see.connection_error(Code.COMPRESSION_ERROR)),
    case("http2/4.3/2", "RFC 9113 §4.3", "PRIORITY within a block",
         do.connect, headers(request(), end_stream=False, end_headers=False), do.priority(do.depends()),
         continuation(filler()), expect=_PROTOCOL),
    case("http2/4.3/3", "RFC 9113 §4.3", "HEADERS of another stream within a block",
         do.connect, headers(request(), end_stream=False, end_headers=False), headers(request(), stream=3),
         continuation(filler()), expect=_PROTOCOL),
)

_STREAMS = (
    case("http2/5.1/1", "RFC 9113 §5.1", "DATA on an idle stream", do.connect, data(), expect=_PROTOCOL),
    case("http2/5.1/2", "RFC 9113 §5.1", "RST_STREAM on an idle stream", do.connect, do.reset(), expect=_PROTOCOL),
    case("http2/5.1/3", "RFC 9113 §5.1", "WINDOW_UPDATE on an idle stream",
         do.connect, do.window_update(100), expect=_PROTOCOL),
    case("http2/5.1/4", "RFC 9113 §5.1", "CONTINUATION on an idle stream",
         do.connect, continuation(request()), expect=_PROTOCOL),
    case("http2/5.1/5", "RFC 9113 §5.1", "DATA on a half-closed (remote) stream",
         do.connect, headers(request()), data(), expect=_CLOSED),
    case("http2/5.1/6", "RFC 9113 §5.1", "HEADERS on a half-closed (remote) stream",
         do.connect, headers(request()), headers(request()), expect=_CLOSED),
    case("http2/5.1/7", "RFC 9113 §5.1", "CONTINUATION on a half-closed (remote) stream",
         do.connect, headers(request()), continuation(request()),
         expect=see.stream_error(Code.STREAM_CLOSED, Code.PROTOCOL_ERROR)),
    case("http2/5.1/8", "RFC 9113 §5.1", "DATA after RST_STREAM",
         do.connect, headers(request(), end_stream=False), do.reset(), data(), expect=_CLOSED),
    case("http2/5.1/9", "RFC 9113 §5.1", "HEADERS after RST_STREAM",
         do.connect, headers(request(), end_stream=False), do.reset(), headers(request()), expect=_CLOSED),
    case("http2/5.1/10", "RFC 9113 §5.1", "CONTINUATION after RST_STREAM",
         do.connect, headers(request(), end_stream=False), do.reset(), continuation(filler()),
         expect=see.stream_error(Code.STREAM_CLOSED, Code.PROTOCOL_ERROR)),
    case("http2/5.1/11", "RFC 9113 §5.1", "DATA on a closed stream",
         do.connect, headers(request()), do.stream_over, data(), expect=_CLOSED),
    case("http2/5.1/12", "RFC 9113 §5.1", "HEADERS on a closed stream",
         do.connect, headers(request()), do.stream_over, headers(request()),
         expect=see.connection_error(Code.STREAM_CLOSED)),
    case("http2/5.1/13", "RFC 9113 §5.1", "CONTINUATION on a closed stream",
         do.connect, headers(request()), do.stream_over, continuation(filler()),
         expect=see.connection_error(Code.STREAM_CLOSED, Code.PROTOCOL_ERROR)),

    case("http2/5.1.1/1", "RFC 9113 §5.1.1", "a request on an even stream",
         do.connect, headers(request(), stream=2), expect=_PROTOCOL),
    case("http2/5.1.1/2", "RFC 9113 §5.1.1", "a request on a lower stream than the last",
         do.connect, headers(request(), stream=5), headers(request(), stream=3), expect=_PROTOCOL),
    case("http2/5.1.2/1", "RFC 9113 §5.1.2", "one stream more than the limit",
         do.connect, do.settings((Setting.INITIAL_WINDOW_SIZE, 0)), do.too_many_requests,
         expect=see.stream_error(Code.PROTOCOL_ERROR, Code.REFUSED_STREAM)),

    case("http2/5.3.1/1", "RFC 7540 §5.3.1", "HEADERS that depend on their own stream",
         do.connect, headers(request(), priority=do.depends(1)), expect=_MALFORMED),
    case("http2/5.3.1/2", "RFC 7540 §5.3.1", "PRIORITY that depends on its own stream",
         do.connect, do.priority(do.depends(1)), expect=_MALFORMED),

    case("http2/5.4.1/1", "RFC 9113 §5.4.1", "the connection ends after an error",
         do.connect, do.any_frame(Type.PING, bytes(8), stream=3), expect=see.hung_up),
    case("http2/5.4.1/2", "RFC 9113 §5.4.1", "GOAWAY comes before the end",
         do.connect, do.any_frame(Type.PING, bytes(8), stream=3), expect=see.goaway_with()),

    case("http2/5.5/1", "RFC 9113 §5.5", "an extension frame",
         do.connect, do.unknown_frame(), do.ping(), expect=see.pinged()),
    case("http2/5.5/2", "RFC 9113 §5.5", "an extension frame within a block",
         do.connect, headers(request(), end_headers=False), do.unknown_frame(), expect=_PROTOCOL),
)

_FRAME_TYPES = (
    case("http2/6.1/1", "RFC 9113 §6.1", "DATA on stream 0", do.connect, data(stream=0), expect=_PROTOCOL),
    case("http2/6.1/2", "RFC 9113 §6.1", "DATA after the end of the request",
         do.connect, headers(request("POST")), data(), expect=_CLOSED),
    case("http2/6.1/3", "RFC 9113 §6.1", "DATA with more padding than payload",
         do.connect, headers(request("POST", ("content-length", "4")), end_stream=False),
         do.any_frame(Type.DATA, b"\x06test", stream=1, flags=0x9), expect=_PROTOCOL),

    case("http2/6.2/1", "RFC 9113 §6.2", "PRIORITY instead of CONTINUATION",
         do.connect, headers(request(), end_stream=False, end_headers=False), do.priority(do.depends()),
         continuation(filler()), expect=_PROTOCOL),
    case("http2/6.2/2", "RFC 9113 §6.2", "HEADERS of another stream instead of CONTINUATION",
         do.connect, headers(request(), end_stream=False, end_headers=False), headers(request(), stream=3),
         continuation(filler()), expect=_PROTOCOL),
    case("http2/6.2/3", "RFC 9113 §6.2", "HEADERS on stream 0",
         do.connect, headers(request(), stream=0), expect=_PROTOCOL),
    case("http2/6.2/4", "RFC 9113 §6.2", "HEADERS with more padding than payload",
         do.connect, do.bad_padding_headers(request()), expect=_MALFORMED),

    case("http2/6.3/1", "RFC 9113 §6.3", "PRIORITY on stream 0",
         do.connect, do.priority(do.depends(), stream=0), expect=_PROTOCOL),
    case("http2/6.3/2", "RFC 9113 §6.3", "PRIORITY of 4 bytes",
         do.connect, headers(request()), do.priority(b"\x80\x00\x00\x01"),
         expect=see.stream_error(Code.FRAME_SIZE_ERROR)),

    case("http2/6.4/1", "RFC 9113 §6.4", "RST_STREAM on stream 0",
         do.connect, do.reset(stream=0), expect=_PROTOCOL),
    case("http2/6.4/2", "RFC 9113 §6.4", "RST_STREAM on an idle stream", do.connect, do.reset(), expect=_PROTOCOL),
    case("http2/6.4/3", "RFC 9113 §6.4", "RST_STREAM of 3 bytes",
         do.connect, headers(request()), do.any_frame(Type.RST_STREAM, bytes(3), stream=1),
         expect=see.stream_error(Code.FRAME_SIZE_ERROR)),

    case("http2/6.5/1", "RFC 9113 §6.5", "SETTINGS with ACK and a payload",
         do.connect, do.any_frame(Type.SETTINGS, b"\x00", flags=ACK),
         expect=see.connection_error(Code.FRAME_SIZE_ERROR)),
    case("http2/6.5/2", "RFC 9113 §6.5", "SETTINGS on a stream",
         do.connect, do.any_frame(Type.SETTINGS, b"\x00\x03\x00\x00\x00\x64", stream=1), expect=_PROTOCOL),
    case("http2/6.5/3", "RFC 9113 §6.5", "SETTINGS of 3 bytes",
         do.connect, do.any_frame(Type.SETTINGS, b"\x00\x03\x00"),
         expect=see.stream_error(Code.PROTOCOL_ERROR, Code.FRAME_SIZE_ERROR)),

    case("http2/6.5.2/1", "RFC 9113 §6.5.2", "ENABLE_PUSH of 2",
         do.connect, do.settings((Setting.ENABLE_PUSH, 2)), expect=_PROTOCOL),
    case("http2/6.5.2/2", "RFC 9113 §6.5.2", "INITIAL_WINDOW_SIZE of 2^31",
         do.connect, do.settings((Setting.INITIAL_WINDOW_SIZE, 2**31)),
         expect=see.connection_error(Code.FLOW_CONTROL_ERROR)),
    case("http2/6.5.2/3", "RFC 9113 §6.5.2", "MAX_FRAME_SIZE of 2^14 - 1",
         do.connect, do.settings((Setting.MAX_FRAME_SIZE, 2**14 - 1)), expect=_PROTOCOL),
    case("http2/6.5.2/4", "RFC 9113 §6.5.2", "MAX_FRAME_SIZE of 2^24",
         do.connect, do.settings((Setting.MAX_FRAME_SIZE, 2**24)), expect=_PROTOCOL),
    case("http2/6.5.2/5", "RFC 9113 §6.5.2", "an unknown parameter",
         do.connect, do.settings((0xFF, 1)), do.ping(), expect=see.pinged()),

    case("http2/6.5.3/1", "RFC 9113 §6.5.3", "the same parameter twice: the last holds",
         do.connect, do.settings((Setting.INITIAL_WINDOW_SIZE, 100), (Setting.INITIAL_WINDOW_SIZE, 1)),
         do.acknowledged, headers(request()), expect=see.one_byte_of_data),
    case("http2/6.5.3/2", "RFC 9113 §6.5.3", "SETTINGS are acknowledged",
         do.connect, do.settings((Setting.ENABLE_PUSH, 0)), expect=see.settings_acknowledged),

    case("http2/6.7/1", "RFC 9113 §6.7", "PING", do.connect, do.ping(b"h2spec\0\0"), expect=see.pinged(b"h2spec\0\0")),
    case("http2/6.7/2", "RFC 9113 §6.7", "PING with ACK is not answered",
         do.connect, do.ping(b"invalid\0", flags=ACK), do.ping(b"h2spec\0\0"), expect=see.pinged(b"h2spec\0\0")),
    case("http2/6.7/3", "RFC 9113 §6.7", "PING on a stream",
         do.connect, do.any_frame(Type.PING, bytes(8), stream=1), expect=_PROTOCOL),
    case("http2/6.7/4", "RFC 9113 §6.7", "PING of 6 bytes",
         do.connect, do.ping(bytes(6)), expect=see.connection_error(Code.FRAME_SIZE_ERROR)),

    case("http2/6.8/1", "RFC 9113 §6.8", "GOAWAY on a stream",
         do.connect, do.any_frame(Type.GOAWAY, bytes(8), stream=1), expect=_PROTOCOL),

    case("http2/6.9/1", "RFC 9113 §6.9", "WINDOW_UPDATE by 0 for the connection",
         do.connect, do.window_update(0, stream=0), expect=_PROTOCOL),
    case("http2/6.9/2", "RFC 9113 §6.9", "WINDOW_UPDATE by 0 for a stream",
         do.connect, headers(request(), end_stream=False), do.window_update(0), expect=_MALFORMED),
    case("http2/6.9/3", "RFC 9113 §6.9", "WINDOW_UPDATE of 3 bytes",
         do.connect, do.any_frame(Type.WINDOW_UPDATE, b"\x00\x00\x01"),
         expect=see.connection_error(Code.FRAME_SIZE_ERROR)),

    case("http2/6.9.1/1", "RFC 9113 §6.9.1", "no more DATA than the window has room for",
         do.connect, do.settings((Setting.INITIAL_WINDOW_SIZE, 1)), do.acknowledged, headers(request()),
         expect=see.one_byte_of_data),
    case("http2/6.9.1/2", "RFC 9113 §6.9.1", "the connection's window above 2^31 - 1",
         do.connect, do.window_update(do.LARGEST_WINDOW, stream=0), do.window_update(do.LARGEST_WINDOW, stream=0),
         expect=see.goaway_with(Code.FLOW_CONTROL_ERROR)),
    case("http2/6.9.1/3", "RFC 9113 §6.9.1", "a stream's window above 2^31 - 1",
         do.connect, headers(request(), end_stream=False), do.window_update(do.LARGEST_WINDOW),
         do.window_update(do.LARGEST_WINDOW), expect=see.reset_with(Code.FLOW_CONTROL_ERROR)),

    case("http2/6.9.2/1", "RFC 9113 §6.9.2", "INITIAL_WINDOW_SIZE changes the windows of open streams",
         do.connect, do.settings((Setting.INITIAL_WINDOW_SIZE, 0)), do.acknowledged, headers(request()),
         do.settings((Setting.INITIAL_WINDOW_SIZE, 1)), do.acknowledged, expect=see.one_byte_of_data),
    case("http2/6.9.2/2", "RFC 9113 §6.9.2", "a window may become negative",
         do.connect, do.settings((Setting.INITIAL_WINDOW_SIZE, 3)), do.acknowledged, headers(request()), do.some_data,
         do.settings((Setting.INITIAL_WINDOW_SIZE, 2)), do.acknowledged, do.window_update(2),
         expect=see.one_byte_of_data),
    case("http2/6.9.2/3", "RFC 9113 §6.9.2", "an initial window above 2^31 - 1",
         do.connect, do.settings((Setting.INITIAL_WINDOW_SIZE, 2**31)),
         expect=see.connection_error(Code.FLOW_CONTROL_ERROR)),
)

_CONTINUATION = (
    case("http2/6.10/1", "RFC 9113 §6.10", "HEADERS and two CONTINUATION frames",
         do.connect, headers(request(), end_headers=False), continuation(filler(), end_headers=False),
         continuation(filler()), expect=see.answered),
    case("http2/6.10/2", "RFC 9113 §6.10", "DATA within a block",
         do.connect, headers(request("POST"), end_stream=False, end_headers=False),
         continuation(filler(), end_headers=False), data(), expect=_PROTOCOL),
    case("http2/6.10/3", "RFC 9113 §6.10", "CONTINUATION on stream 0",
         do.connect, headers(request(), end_headers=False), continuation(filler(), stream=0), expect=_PROTOCOL),
    case("http2/6.10/4", "RFC 9113 §6.10", "CONTINUATION after a whole HEADERS frame",
         do.connect, headers(request()), continuation(filler()), expect=_PROTOCOL),
    case("http2/6.10/5", "RFC 9113 §6.10", "CONTINUATION after the last CONTINUATION",
         do.connect, headers(request(), end_headers=False), continuation(filler()), continuation(filler()),
         expect=_PROTOCOL),
    case("http2/6.10/6", "RFC 9113 §6.10", "CONTINUATION after DATA",
         do.connect, headers(request("POST"), end_stream=False, end_headers=False), data(),
         continuation(filler(), end_headers=False), continuation(filler(), stream=0), expect=_PROTOCOL),
)

_MESSAGES = (
    case("http2/7/1", "RFC 9113 §7", "GOAWAY with an unknown code",
         do.connect, do.goaway(0xFF), do.ping(b"h2spec\0\0"), expect=see.ping_or_close),
    case("http2/7/2", "RFC 9113 §7", "RST_STREAM with an unknown code",
         do.connect, _OPEN, do.reset(0xFF), do.ping(), expect=see.pinged()),

    case("http2/8.1/1", "RFC 9113 §8.1", "trailers that do not end the stream",
         do.connect, _OPEN, data(end_stream=False), headers(do.only(("x-test", "ok")), end_stream=False),
         expect=_MALFORMED),
    case("http2/8.1.2/1", "RFC 9113 §8.2.1", "a field name in upper case",
         do.connect, headers(request("GET", ("X-TEST", "ok"))), expect=_MALFORMED),
    case("http2/8.1.2.1/1", "RFC 9113 §8.3", "an unknown pseudo-header field",
         do.connect, headers(request("GET", (":test", "ok"))), expect=_MALFORMED),
    case("http2/8.1.2.1/2", "RFC 9113 §8.3", "a response's pseudo-header field",
         do.connect, headers(request("GET", (":status", "200"))), expect=_MALFORMED),
    case("http2/8.1.2.1/3", "RFC 9113 §8.3", "a pseudo-header field in trailers",
         do.connect, _OPEN, data(end_stream=False), headers(do.only((":method", "POST")), end_stream=False),
         expect=_MALFORMED),
    case("http2/8.1.2.1/4", "RFC 9113 §8.3", "a pseudo-header field after a regular one",
         do.connect, headers(do.regular_first(request())), expect=_MALFORMED),
    case("http2/8.1.2.2/1", "RFC 9113 §8.2.2", "a Connection field",
         do.connect, headers(request("GET", ("connection", "keep-alive"))), expect=_MALFORMED),
    case("http2/8.1.2.2/2", "RFC 9113 §8.2.2", "TE with more than trailers",
         do.connect, headers(request("GET", ("trailers", "test"), ("te", "trailers, deflate"))), expect=_MALFORMED),
    case("http2/8.1.2.3/1", "RFC 9113 §8.3.1", "an empty :path",
         do.connect, headers(request(path="")), expect=_MALFORMED),
    case("http2/8.1.2.3/2", "RFC 9113 §8.3.1", "no :method",
         do.connect, headers(request(without=":method")), expect=_MALFORMED),
    case("http2/8.1.2.3/3", "RFC 9113 §8.3.1", "no :scheme",
         do.connect, headers(request(without=":scheme")), expect=_MALFORMED),
    case("http2/8.1.2.3/4", "RFC 9113 §8.3.1", "no :path",
         do.connect, headers(request(without=":path")), expect=_MALFORMED),
    case("http2/8.1.2.3/5", "RFC 9113 §8.3.1", ":method twice",
         do.connect, headers(request("GET", (":method", "GET"))), expect=_MALFORMED),
    case("http2/8.1.2.3/6", "RFC 9113 §8.3.1", ":scheme twice",
         do.connect, headers(request("GET", (":scheme", "http"))), expect=_MALFORMED),
    case("http2/8.1.2.3/7", "RFC 9113 §8.3.1", ":path twice",
         do.connect, headers(request("GET", (":path", "/"))), expect=_MALFORMED),
    case("http2/8.1.2.6/1", "RFC 9113 §8.1.1", "a Content-Length that is not the length of the DATA frame",
         do.connect, headers(request("POST", ("content-length", "1")), end_stream=False), data(), expect=_MALFORMED),
    case("http2/8.1.2.6/2", "RFC 9113 §8.1.1", "a Content-Length that is not the sum of the DATA frames",
         do.connect, headers(request("POST", ("content-length", "1")), end_stream=False), data(end_stream=False),
         data(), expect=_MALFORMED),
    case("http2/8.2/1", "RFC 9113 §8.4", "PUSH_PROMISE from a client",
         do.connect, do.promise(request()), expect=_PROTOCOL),
)

SERVER_CASES = (*GENERIC_CASES, *_FRAMES, *_STREAMS, *_FRAME_TYPES, *_CONTINUATION, *_MESSAGES, *HPACK_CASES)
