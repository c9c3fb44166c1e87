"""Answer from a file: carries out `flow.local_file`.

In: a `LocalFile` (a root folder and a path below it, neither trusted to be what it was a moment ago) and the request.
Out: a `Response` without a body and the pieces of the body, read in a thread as they are asked for.

The path is resolved, must lie below the resolved root, and is then opened step by step without following links: a
link swapped in between makes the open fail instead of leading out. Only regular files are served.
"""

from __future__ import annotations

import asyncio
import errno
import mimetypes
import os
import re
import stat
from dataclasses import dataclass
from email.utils import formatdate
from typing import Self

from rulesproxy.model.effects import LocalFile
from rulesproxy.model.headers import Field, Headers
from rulesproxy.model.http import Request, Response, reason_phrase
from rulesproxy.model.pages import error_response

PIECE = 256 * 1024
INDEX = "index.html"

_TYPES = mimetypes.MimeTypes()  # the built-in table: the same answer on every machine
for _type, _extension in (("text/javascript", ".js"), ("text/javascript", ".mjs"), ("application/wasm", ".wasm"),
                          ("font/woff", ".woff"), ("font/woff2", ".woff2"), ("image/webp", ".webp"),
                          ("image/avif", ".avif"), ("application/json", ".map"), ("text/markdown", ".md"),
                          ("application/yaml", ".yaml"), ("application/yaml", ".yml"), ("text/csv", ".csv")):
    _TYPES.add_type(_type, _extension)
_COMPRESSED = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}

# RFC 9110 §14.1.2, one range only: several would need multipart answers, and may be ignored.
_RANGE = re.compile(r"bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))\Z")

# O_NONBLOCK: opening a FIFO must not wait for a writer. O_CLOEXEC is Python's default.
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_OPEN_FOLDER = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY


class FilePieces:
    """The body, piece by piece; `aclose` when it is not wanted to the end. Raises OSError when the file got shorter."""

    __slots__ = ("_descriptor", "_first", "_left", "_offset")

    def __init__(self, descriptor: int, offset: int, length: int, first: bytes) -> None:
        self._descriptor: int | None = descriptor
        self._offset = offset
        self._left = length
        self._first = first
        if len(first) == length:
            self._close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        piece, self._first = self._first, b""
        if not piece:
            if not self._left:
                raise StopAsyncIteration
            if self._descriptor is None:
                raise OSError(errno.EBADF, "the file was closed")
            piece = await asyncio.to_thread(os.pread, self._descriptor, min(PIECE, self._left), self._offset)
            if not piece:
                self._close()
                raise OSError(errno.EIO, "the file became shorter while it was sent")
        self._offset += len(piece)
        self._left -= len(piece)
        if not self._left:
            self._close()
        return piece

    async def aclose(self) -> None:
        self._close()

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class NoPieces:
    """The body of an answer that has none beyond `response.content`."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True, slots=True)
class LocalAnswer:
    """`response.raw_content` is None when the body is in `pieces`, which must be read to the end or closed."""

    response: Response
    pieces: FilePieces | NoPieces


async def open_local_file(local: LocalFile, request: Request) -> LocalAnswer:
    """The answer to `request` from a file: 200 or the rule's status, 206, 416, or a 404 page naming the rule."""
    try:
        opened = await asyncio.to_thread(_open, local.root, local.path)
    except (OSError, ValueError):  # ValueError: NUL in the path
        page = error_response(404, "No such file", f"{request.path.partition('?')[0]} is answered from files, and "
                              "there is none for it.", request=request, rule=local.rule)
        return LocalAnswer(page, NoPieces())
    return _answer(local, request, opened)


class LocalFiles:
    """What rules may ask of the file system (`fallthrough`): a file that would be served exists."""

    def exists(self, root: str, path: str) -> bool:
        try:
            descriptor, _ = _descriptor(root, path)
        except (OSError, ValueError):
            return False
        os.close(descriptor)
        return True


# --- finding and opening, in a thread ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Opened:
    descriptor: int
    name: str
    size: int
    modified: float
    first: bytes


def _open(root: str, path: str) -> _Opened:
    """Open the file, or `index.html` of the folder, and begin to read. Raises as `_descriptor` does."""
    descriptor, name = _descriptor(root, path)
    try:
        status = os.fstat(descriptor)
        return _Opened(descriptor, name, status.st_size, status.st_mtime,
                       os.pread(descriptor, min(PIECE, status.st_size), 0))
    except BaseException:
        os.close(descriptor)
        raise


def _descriptor(root: str, path: str) -> tuple[int, str]:
    """The opened file and its name. Raises OSError for everything that may not be served, ValueError for NUL."""
    base = os.path.realpath(root, strict=True)
    below = _segments(path) if os.path.isdir(base) else ()  # a root that is a file is the answer itself
    found = os.path.realpath(os.path.join(base, *below), strict=True)
    if os.path.isdir(found):
        found = os.path.realpath(os.path.join(found, INDEX), strict=True)
    if found != base and not found.startswith(base.rstrip("/") + "/"):
        raise PermissionError(errno.EACCES, "outside the root", path)
    descriptor = _open_below(base, os.path.relpath(found, base) if found != base else "")
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise PermissionError(errno.EACCES, "not a regular file", path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, os.path.basename(found)


def _segments(path: str) -> list[str]:
    segments = [segment for segment in path.split("/") if segment not in ("", ".")]
    if ".." in segments:
        raise PermissionError(errno.EACCES, "the path leaves its folder", path)
    return segments


def _open_below(base: str, relative: str) -> int:
    """Open `relative` below `base` step by step, following no link: both were resolved a moment ago."""
    if not relative:
        return _open_regular(base, None)
    *folders, name = relative.split("/")
    folder = os.open(base, _OPEN_FOLDER)
    try:
        for segment in folders:
            inner = os.open(segment, _OPEN_FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        return _open_regular(name, folder)
    finally:
        os.close(folder)


def _open_regular(name: str, folder: int | None) -> int:
    # Looked at first because opening a device can have effects; what was opened is looked at again.
    if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        raise PermissionError(errno.EACCES, "not a regular file", name)
    return os.open(name, _OPEN_FILE, dir_fd=folder)


# --- the answer -------------------------------------------------------------------------------------------------


def _answer(local: LocalFile, request: Request, opened: _Opened) -> LocalAnswer:
    fields: list[Field] = [(b"Content-Type", _content_type(opened.name).encode("ascii")),
                           (b"Last-Modified", formatdate(opened.modified, usegmt=True).encode("ascii"))]
    status, offset, length = local.status, 0, opened.size
    if status == 200 and request.method == "GET":
        fields.append((b"Accept-Ranges", b"bytes"))
        wanted = _wanted_range(request, opened.size)
        if wanted is not None:
            status, (offset, length) = 206, wanted
            if not length:  # RFC 9110 §15.5.17
                os.close(opened.descriptor)
                response = error_response(416, "Range not satisfiable", f"The file has {opened.size} bytes.",
                                          request=request, rule=local.rule)
                response.headers.add("Content-Range", f"bytes */{opened.size}")
                return LocalAnswer(response, NoPieces())
            fields.append((b"Content-Range", b"bytes %d-%d/%d" % (offset, offset + length - 1, opened.size)))
    fields.append((b"Content-Length", b"%d" % length))
    response = Response(status, reason_phrase(status), Headers(_with(fields, local.headers)))
    pieces = FilePieces(opened.descriptor, offset, length, opened.first[offset:offset + length])
    return LocalAnswer(response, pieces)


def _with(fields: list[Field], replacing: tuple[Field, ...]) -> list[Field]:
    """The rule's own fields stand in place of ours of the same name."""
    names = {name.lower() for name, _ in replacing}
    return [field for field in fields if field[0].lower() not in names] + list(replacing)


def _content_type(name: str) -> str:
    guessed, compression = _TYPES.guess_type(name)
    if compression is not None:
        return _COMPRESSED.get(compression, "application/octet-stream")
    if guessed is None:
        return "application/octet-stream"
    textual = guessed.startswith("text/") or guessed in ("application/json", "application/yaml", "image/svg+xml")
    return f"{guessed}; charset=utf-8" if textual else guessed


def _wanted_range(request: Request, size: int) -> tuple[int, int] | None:
    """(offset, length) of the one range asked for, length 0 when it cannot be satisfied; None: the whole file."""
    if "if-range" in request.headers:  # no validator here is strong enough to compare with
        return None
    match = _RANGE.match(request.headers.get("range", ""))
    if match is None:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        length = min(int(suffix), size)
        return size - length, length
    start = int(first)
    end = min(int(last), size - 1) if last else size - 1
    if last and int(last) < start:
        return None  # RFC 9110 §14.1.1: invalid, so ignored
    return start, max(end - start + 1, 0)
