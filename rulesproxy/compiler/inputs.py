"""What a set of rules is read from: every file with its digest, every folder to watch, through one small reader.

The reader can be replaced, so tests build from memory. A file is read once per build; whoever asks again gets the same
bytes, so one build never mixes two states of a file.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import stat
from typing import Protocol


class FileReader(Protocol):
    """Where files come from. Paths use `/` and may be relative to the working directory."""

    def read(self, path: str) -> bytes:
        """The content; OSError when it cannot be read."""

    def glob(self, pattern: str) -> list[str]:
        """Existing files that match, in any order."""

    def is_dir(self, path: str) -> bool: ...


class Disk:
    """Files on disk."""

    def read(self, path: str) -> bytes:
        try:
            with open(path, "rb", opener=_open_at_once) as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise OSError(errno.EINVAL, "not a regular file", path)
                return file.read()
        except ValueError:  # NUL or a lone surrogate: no file has such a name
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None

    def glob(self, pattern: str) -> list[str]:
        return [path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path)]

    def is_dir(self, path: str) -> bool:
        return os.path.isdir(path)


def _open_at_once(path: str, flags: int) -> int:
    """Opening a FIFO without a writer would block."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def digest(data: bytes) -> str:
    """The name of a content."""
    return hashlib.sha256(data).hexdigest()


class Inputs:
    """Reads through a `FileReader` and remembers what was read."""

    def __init__(self, reader: FileReader) -> None:
        self._reader = reader
        #: path → content of everything read
        self.contents: dict[str, bytes] = {}
        #: path → digest of everything read
        self.digests: dict[str, str] = {}
        #: folders whose changes may change the rules, also those where a file was missed
        self.watched: set[str] = set()

    def read(self, path: str) -> bytes:
        """The content of a file; OSError when it cannot be read (its folder is watched all the same)."""
        if path not in self.contents:
            self.watched.add(os.path.dirname(path) or ".")
            data = self._reader.read(path)
            self.contents[path] = data
            self.digests[path] = digest(data)
        return self.contents[path]

    def glob(self, pattern: str) -> list[str]:
        """Matching files in lexical order; the pattern's fixed folder is watched for new ones."""
        self.watched.add(_fixed_folder(pattern))
        return sorted(os.path.normpath(path) for path in self._reader.glob(pattern))

    def is_dir(self, path: str) -> bool:
        return self._reader.is_dir(path)

    def neighbours(self, path: str) -> list[str]:
        """Files in the same folder, for "did you mean"."""
        return self._reader.glob(os.path.join(glob.escape(os.path.dirname(path)), "*"))

    def folder(self, path: str) -> list[str]:
        """The rule files of a folder: `*.yaml` and `*.yml`, lexically."""
        self.watched.add(path)
        escaped = glob.escape(path)
        found = self._reader.glob(f"{escaped}/*.yaml") + self._reader.glob(f"{escaped}/*.yml")
        return sorted(os.path.normpath(name) for name in found)


def is_glob(text: str) -> bool:
    return any(char in text for char in "*?[")


def _fixed_folder(pattern: str) -> str:
    """The folder in front of the first wildcard."""
    fixed = pattern
    while is_glob(fixed):
        fixed = os.path.dirname(fixed)
    return fixed if fixed != pattern and fixed else os.path.dirname(pattern) or "."


def relative_to(file: str, name: str) -> str:
    """The path of `name` as written in `file`: relative names start at the file's folder."""
    return os.path.normpath(os.path.join(os.path.dirname(file), os.path.expanduser(name)))


def reason(error: OSError) -> str:
    """Why a file could not be read, in plain words."""
    match error:
        case FileNotFoundError():
            return "no such file"
        case IsADirectoryError():
            return "it is a folder"
        case PermissionError():
            return "permission denied"
    return error.strerror or type(error).__name__
