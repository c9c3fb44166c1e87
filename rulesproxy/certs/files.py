"""Secrets on disk: private from the first moment, written whole or not at all, refused when others can read them."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_HAS_MEMORY_FILES = hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd")


class CertificateError(Exception):
    """A key, certificate or their folder cannot be used; the message says what to do about it."""


def ensure_private_folder(folder: Path) -> None:
    """Create `folder` with mode 0700, or check that it has it. Raises CertificateError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = folder.stat().st_mode
    except OSError as exc:
        raise CertificateError(f"cannot create the folder {folder}: {_text(exc)}") from exc
    if mode & _OTHERS:
        raise CertificateError(f"{folder} holds private keys but is open to other users (mode {mode & 0o777:04o}); "
                               f"run: chmod 700 {folder}")


def read_file(path: Path, *, secret: bool) -> bytes | None:
    """The content, None when there is no such file. Symbolic links, and secrets that others may read, are refused."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as exc:
        if exc.errno in (errno.ELOOP, errno.EMLINK):  # what O_NOFOLLOW says of a link
            raise CertificateError(f"{path} is a symbolic link, which is refused; put the file itself there") from exc
        raise CertificateError(f"cannot read {path}: {_text(exc)}") from exc
    with open(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise CertificateError(f"{path} is not a regular file")
        if secret and mode & _OTHERS:
            raise CertificateError(f"{path} is a private key that other users may read (mode {mode & 0o777:04o}); "
                                   f"run: chmod 600 {path}, and consider making a new one")
        return file.read()


def publish(path: Path, content: bytes, mode: int) -> None:
    """Make `path` with `content` appear at once and whole, unless it exists: then nothing changes."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            with open(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            os.link(temporary, path)  # fails when another process was first
        except FileExistsError:
            pass  # the caller reads what the other process wrote
        finally:
            os.unlink(temporary)
    except OSError as exc:
        raise CertificateError(f"cannot write {path}: {_text(exc)}") from exc


@contextmanager
def private_file(content: bytes) -> Iterator[str]:
    """A path under which `content` can be read while the block runs, by this process alone.

    The ssl module takes keys from files only. Where the system has files in memory the key never reaches a disk.
    """
    if _HAS_MEMORY_FILES:
        descriptor = os.memfd_create("rulesproxy", os.MFD_CLOEXEC)
        with open(descriptor, "wb", buffering=0) as file:
            file.write(content)
            yield f"/proc/self/fd/{descriptor}"
        return
    with tempfile.TemporaryDirectory(prefix="rulesproxy-") as folder:  # mode 0700
        path = os.path.join(folder, "chain.pem")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
        yield path


def _text(exc: OSError) -> str:
    return (exc.strerror or str(exc)).lower()
