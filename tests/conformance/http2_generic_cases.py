"""The `generic` and `hpack` parts of h2spec's list for servers: what must work, and what no HPACK decoder may take."""

from __future__ import annotations

from tests.conformance import http2_expectations as see
from tests.conformance import http2_steps as do
from tests.conformance.http2_peer import Code, Setting
from tests.conformance.http2_steps import case, headers, request

#: user-agent: h2spec, x-test: h2spec, in the ways RFC 7541 §6.2 has of writing a field.
_AGENT = b"\x0auser-agent\x06h2spec"
_AGENT_HUFFMAN = b"\x87\xb5\x05\xb1\x61\xcc\x5a\x93\x84\x9c\x48\xac\xa4"
_NEW = b"\x06x-test\x06h2spec"
_NEW_HUFFMAN = b"\x85\xf2\xb2\x4a\x84\xff\x84\x9c\x48\xac\xa4"
_INDEXED, _NOT_INDEXED, _NEVER_INDEXED = b"\x40", b"\x00", b"\x10"
_GARBLED = b"\x00\x85\xf2\xb2\x4a\x84\xff"  # a literal named x-test; the value is up to the case

GENERIC_CASES = (
    case("generic/1/1", "RFC 9113 §3.4", "the client's preface", do.begin, expect=see.settings_first),

    case("generic/2/1", "RFC 9113 §5.1", "PRIORITY on an idle stream",
         do.connect, do.priority(do.depends()), do.ping(), expect=see.pinged()),
    case("generic/2/2", "RFC 9113 §5.1", "WINDOW_UPDATE on a half-closed (remote) stream",
         do.connect, do.settings((Setting.INITIAL_WINDOW_SIZE, 0)), headers(request()), do.window_update(1),
         expect=see.data_arrives),
    case("generic/2/3", "RFC 9113 §5.1", "PRIORITY on a half-closed (remote) stream",
         do.connect, do.settings((Setting.INITIAL_WINDOW_SIZE, 0)), headers(request()), do.priority(do.depends()),
         do.window_update(1), expect=see.data_arrives),
    case("generic/2/4", "RFC 9113 §5.1", "RST_STREAM on a half-closed (remote) stream",
         do.connect, headers(request()), do.reset(), do.ping(), expect=see.pinged()),
    case("generic/2/5", "RFC 9113 §5.1", "PRIORITY on a closed stream",
         do.connect, headers(request()), do.stream_over, do.priority(do.depends()), do.ping(), expect=see.pinged()),

    case("generic/3.1/1", "RFC 9113 §6.1", "a body in one DATA frame",
         do.connect, headers(request("POST"), end_stream=False), do.data(), expect=see.answered),
    case("generic/3.1/2", "RFC 9113 §6.1", "a body in two DATA frames",
         do.connect, headers(request("POST"), end_stream=False), do.data(end_stream=False), do.data(),
         expect=see.answered),
    case("generic/3.1/3", "RFC 9113 §6.1", "a padded DATA frame",
         do.connect, headers(request("POST"), end_stream=False), do.data(padding=5), expect=see.answered),

    case("generic/3.2/1", "RFC 9113 §6.2", "a HEADERS frame", do.connect, headers(request()), expect=see.answered),
    case("generic/3.2/2", "RFC 9113 §6.2", "a padded HEADERS frame",
         do.connect, headers(request(), padding=8), expect=see.answered),
    case("generic/3.2/3", "RFC 9113 §6.2", "a HEADERS frame with priority",
         do.connect, headers(request(), priority=do.depends()), expect=see.answered),

    case("generic/3.3/1", "RFC 9113 §6.3", "PRIORITY with weight 1",
         do.connect, do.priority(do.depends(weight=0)), headers(request()), expect=see.answered),
    case("generic/3.3/2", "RFC 9113 §6.3", "PRIORITY with weight 256",
         do.connect, do.priority(do.depends(weight=255)), headers(request()), expect=see.answered),
    case("generic/3.3/3", "RFC 9113 §6.3", "PRIORITY that depends on another stream",
         do.connect, do.priority(do.depends(1, weight=0), stream=3), headers(request()), expect=see.answered),
    case("generic/3.3/4", "RFC 9113 §6.3", "an exclusive PRIORITY",
         do.connect, do.priority(do.depends(exclusive=True, weight=0)), headers(request()), expect=see.answered),
    case("generic/3.3/5", "RFC 9113 §6.3", "PRIORITY on a stream after the one that is then opened",
         do.connect, do.priority(do.depends(), stream=3), headers(request()), expect=see.answered),

    case("generic/3.4/1", "RFC 9113 §6.4", "RST_STREAM during a request",
         do.connect, headers(request(), end_stream=False), do.reset(), do.ping(), expect=see.pinged()),
    case("generic/3.5/1", "RFC 9113 §6.5", "SETTINGS with every defined parameter",
         do.connect,
         do.settings((Setting.HEADER_TABLE_SIZE, 4096), (Setting.ENABLE_PUSH, 1), (Setting.MAX_CONCURRENT_STREAMS, 100),
                     (Setting.INITIAL_WINDOW_SIZE, 65535), (Setting.MAX_FRAME_SIZE, 16384),
                     (Setting.MAX_HEADER_LIST_SIZE, 100)),
         expect=see.settings_acknowledged),
    case("generic/3.7/1", "RFC 9113 §6.7", "PING",
         do.connect, do.ping(b"h2spec\0\0"), expect=see.pinged(b"h2spec\0\0")),
    case("generic/3.8/1", "RFC 9113 §6.8", "GOAWAY",
         do.connect, do.goaway(text=b"h2spec"), do.ping(), expect=see.ping_or_close),
    case("generic/3.9/1", "RFC 9113 §6.9", "WINDOW_UPDATE for the connection",
         do.connect, do.window_update(1, stream=0), do.ping(), expect=see.pinged()),
    case("generic/3.9/2", "RFC 9113 §6.9", "WINDOW_UPDATE for a stream",
         do.connect, headers(request()), do.window_update(1), expect=see.answered),
    case("generic/3.10/1", "RFC 9113 §6.10", "a block in HEADERS and CONTINUATION",
         do.connect, do.split_headers(request(), 5), expect=see.answered),
    case("generic/3.10/2", "RFC 9113 §6.10", "a block in HEADERS and two CONTINUATION frames",
         do.connect, do.split_headers(request(), 5, 10), expect=see.answered),

    case("generic/4/1", "RFC 9113 §8.1", "GET", do.connect, headers(request()), expect=see.answered),
    case("generic/4/2", "RFC 9113 §8.1", "HEAD", do.connect, headers(request("HEAD")), expect=see.answered),
    case("generic/4/3", "RFC 9113 §8.1", "POST",
         do.connect, headers(request("POST"), end_stream=False), do.data(), expect=see.answered),
    case("generic/4/4", "RFC 9113 §8.1", "POST with trailers",
         do.connect, headers(request("POST", ("trailer", "x-test")), end_stream=False), do.data(end_stream=False),
         headers(do.only(("x-test", "ok"))), expect=see.answered),

    *(case(f"generic/5/{number}", clause, title, do.connect, headers(request(), after=field), expect=see.answered)
      for number, (clause, title, field) in enumerate((
          ("RFC 7541 §6.1", "an indexed field", b"\xba"),  # 58 of the static table: user-agent, empty
          ("RFC 7541 §6.2.1", "an indexed literal, known name", _INDEXED + _AGENT_HUFFMAN),
          ("RFC 7541 §6.2.1", "an indexed literal, known name, plain", _INDEXED + _AGENT),
          ("RFC 7541 §6.2.1", "an indexed literal, new name", _INDEXED + _NEW),
          ("RFC 7541 §6.2.1", "an indexed literal, new name, Huffman", _INDEXED + _NEW_HUFFMAN),
          ("RFC 7541 §6.2.2", "a literal not indexed, known name", _NOT_INDEXED + _AGENT),
          ("RFC 7541 §6.2.2", "a literal not indexed, known name, Huffman", _NOT_INDEXED + _AGENT_HUFFMAN),
          ("RFC 7541 §6.2.2", "a literal not indexed, new name", _NOT_INDEXED + _NEW),
          ("RFC 7541 §6.2.2", "a literal not indexed, new name, Huffman", _NOT_INDEXED + _NEW_HUFFMAN),
          ("RFC 7541 §6.2.3", "a literal never indexed, known name", _NEVER_INDEXED + _AGENT),
          ("RFC 7541 §6.2.3", "a literal never indexed, known name, Huffman", _NEVER_INDEXED + _AGENT_HUFFMAN),
          ("RFC 7541 §6.2.3", "a literal never indexed, new name", _NEVER_INDEXED + _NEW),
          ("RFC 7541 §6.2.3", "a literal never indexed, new name, Huffman", _NEVER_INDEXED + _NEW_HUFFMAN),
      ), start=1)),
    case("generic/5/14", "RFC 7541 §6.3", "an update of the table's size",
         do.connect, do.table_size(128), headers(request()), expect=see.answered),
    case("generic/5/15", "RFC 7541 §4.2", "two updates of the table's size",
         do.connect, headers(request(), before=b"\x3f\x61\x3f\xe1\x1f"), expect=see.answered),
)

_COMPRESSION = see.connection_error(Code.COMPRESSION_ERROR)

HPACK_CASES = (
    case("hpack/2.3.3/1", "RFC 7541 §2.3.3", "an index beyond both tables",
         do.connect, headers(request(), after=b"\xc6"), expect=_COMPRESSION),
    case("hpack/4.2/1", "RFC 7541 §4.2", "an update of the table's size at the end of a block",
         do.connect, headers(request(), after=b"\x21"), expect=_COMPRESSION),
    case("hpack/5.2/1", "RFC 7541 §5.2", "a Huffman string padded with more than 7 bits",
         do.connect, headers(request(), after=_GARBLED + b"\x84\x49\x50\x9f\xff"), expect=_COMPRESSION),
    case("hpack/5.2/2", "RFC 7541 §5.2", "a Huffman string padded with zeros",
         do.connect, headers(request(), after=_GARBLED + b"\x83\x49\x50\x90"), expect=_COMPRESSION),
    case("hpack/5.2/3", "RFC 7541 §5.2", "a Huffman string with EOS in it",
         do.connect, headers(request(), after=b"\x00\x85\xf2\xb2\x4a\x87\xff\xff\xff\xfd\x25\x42\x7f"),
         expect=_COMPRESSION),
    case("hpack/6.1/1", "RFC 7541 §6.1", "index 0",
         do.connect, headers(request(), after=b"\x80"), expect=_COMPRESSION),
    case("hpack/6.3/1", "RFC 7541 §6.3", "a table larger than the decoder allows",
         do.connect, do.oversized_table(request()), expect=_COMPRESSION),
)
