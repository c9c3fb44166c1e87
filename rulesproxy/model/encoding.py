"""Content codings, decoded within bounds: a small body must not unpack into a large memory bill.

Limits follow rule-language 5.2: at most `DECODED_LIMIT` bytes and at most `RATIO_LIMIT` times the coded size.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterable, Iterator

import brotli
import zstandard

DECODED_LIMIT = 100 * 1024 * 1024
RATIO_LIMIT = 200
_RATIO_FLOOR = 64 * 1024  # tiny bodies may legitimately have absurd ratios
_CHUNK = 64 * 1024

#: What `Accept-Encoding` is cut to when a body may have to be read.
DECODABLE = ("gzip", "deflate", "br", "zstd", "identity")


class DecodeError(ValueError):
    """The body is not what its Content-Encoding says, uses a coding we do not know, or unpacks beyond the limits."""


def codings(content_encoding: str | None) -> list[str]:
    """The codings of a Content-Encoding value, in the order they were applied, `identity` left out."""
    names = [part.strip().lower() for part in (content_encoding or "").split(",")]
    return [name for name in names if name not in ("", "identity")]


def decode(raw: bytes, content_encoding: str | None, limit: int = DECODED_LIMIT) -> bytes:
    """Undo all codings. Raises DecodeError. A message without a body may name a coding all the same."""
    out = raw
    if not raw:
        return raw
    for name in reversed(codings(content_encoding)):
        try:
            pieces = _DECODERS[name](out)
        except KeyError:
            raise DecodeError(f"content coding {name!r} is not supported") from None
        out = _bounded(pieces, min(limit, max(len(raw) * RATIO_LIMIT, _RATIO_FLOOR)), name)
    return out


def encode(content: bytes, content_encoding: str | None) -> bytes:
    """Apply all codings. Raises DecodeError for an unknown one."""
    out = content
    for name in codings(content_encoding):
        try:
            out = _ENCODERS[name](out)
        except KeyError:
            raise DecodeError(f"content coding {name!r} is not supported") from None
    return out


def _bounded(pieces: Iterable[bytes], limit: int, name: str) -> bytes:
    out: list[bytes] = []
    size = 0
    try:
        for piece in pieces:
            size += len(piece)
            if size > limit:
                raise DecodeError(f"{name} body unpacks to more than {limit} bytes")
            out.append(piece)
    except (OSError, EOFError, zlib.error, brotli.error, zstandard.ZstdError) as exc:
        raise DecodeError(f"not a {name} body: {exc}") from exc
    return b"".join(out)


def _read_all(stream: io.BufferedIOBase | gzip.GzipFile) -> Iterator[bytes]:
    while piece := stream.read(_CHUNK):
        yield piece


def _inflate_pieces(raw: bytes, wbits: int) -> Iterator[bytes]:
    machine = zlib.decompressobj(wbits)
    data = raw
    while data and not machine.eof:
        yield machine.decompress(data, _CHUNK)
        data = machine.unconsumed_tail
    if not machine.eof:
        raise EOFError("it ends early")


def _deflate(raw: bytes) -> Iterator[bytes]:
    # RFC 9110 §8.4.1.2 means zlib; some servers send bare deflate, and every browser takes it.
    zlib_header = len(raw) >= 2 and raw[0] & 0x0F == 8 and (raw[0] << 8 | raw[1]) % 31 == 0
    return _inflate_pieces(raw, 15 if zlib_header else -15)


def _gunzip(raw: bytes) -> Iterator[bytes]:
    return _read_all(gzip.GzipFile(fileobj=io.BytesIO(raw)))


def _unbrotli(raw: bytes) -> Iterator[bytes]:
    machine = brotli.Decompressor()
    yield machine.process(raw, output_buffer_limit=_CHUNK)
    while not machine.is_finished():
        if machine.can_accept_more_data():
            raise EOFError("it ends early")
        yield machine.process(b"", output_buffer_limit=_CHUNK)


def _unzstd(raw: bytes) -> Iterator[bytes]:
    with zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True) as reader:
        while piece := reader.read(_CHUNK):
            yield piece


_DECODERS: dict[str, Callable[[bytes], Iterable[bytes]]] = {
    "gzip": _gunzip, "x-gzip": _gunzip, "deflate": _deflate, "br": _unbrotli, "zstd": _unzstd,
}
_ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, mtime=0), "x-gzip": lambda data: gzip.compress(data, mtime=0),
    "deflate": zlib.compress, "br": brotli.compress, "zstd": lambda data: zstandard.ZstdCompressor().compress(data),
}
