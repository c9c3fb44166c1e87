"""Who may use the proxy: the option `proxy_auth`, turned into a `Verifier`.

In: a user and a password as a client sent them. Out: yes or no, taking the same time for every wrong password. Three
kinds: one fixed user, anybody who names himself (`any`), and the users of an htpasswd file, which is read again when
it has changed. Of the formats htpasswd writes bcrypt (`-B`), apr1 (its default) and {SHA} (`-s`) are known; plain text
and the crypt of old are refused. bcrypt is meant to be slow: it runs in a thread, and what it accepted is remembered.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import logging
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

log = logging.getLogger("rulesproxy")

_ITOA64 = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_APR1_ROUNDS = 1000
_FILE_LIMIT = 4 << 20  # bytes
_REMEMBERED = 1024
_BCRYPT = ("$2y$", "$2b$", "$2a$")
_BCRYPT_BYTES = 72  # what bcrypt takes into account
_LONGEST = 255  # bytes of a password: as long as SOCKS allows
_MISSING = "needs the bcrypt package (pip install bcrypt)"


class Verifier(Protocol):
    """Judges credentials. Never raises."""

    async def accepts(self, user: str, password: str) -> bool: ...


def make_verifier(text: str) -> Verifier:
    """`user:password`, `any` or `@FILE`. Raises ValueError with one line that says what is wrong."""
    if text == "any":
        return _Anybody()
    if text.startswith("@"):
        return PasswordFile(Path(text[1:]).expanduser())
    user, colon, password = text.partition(":")
    if not colon or not user:
        raise ValueError("write user:password, @FILE for a file that htpasswd wrote, or any")
    return _Single(user, password)


class _Anybody:
    async def accepts(self, user: str, password: str) -> bool:
        return True


class _Single:
    def __init__(self, user: str, password: str) -> None:
        self._wanted = _digest(user, password)

    async def accepts(self, user: str, password: str) -> bool:
        return hmac.compare_digest(_digest(user, password), self._wanted)


class PasswordFile:
    """The users of an htpasswd file. Raises ValueError when it cannot be used; later that leaves the users as they
    were."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._state = self._look()
        self._users = self._read()
        #: What was accepted: verifying is slow, and clients repeat themselves with each request.
        self._accepted: set[bytes] = set()
        self._worker: ThreadPoolExecutor | None = None

    async def accepts(self, user: str, password: str) -> bool:
        self._refresh()
        known = self._users.get(user)
        entry = known or next(iter(self._users.values()))  # the time taken does not tell who is known
        memory = _digest(f"{user}:{entry}", password)
        if memory in self._accepted:
            return True
        if not await self._verify(entry, password) or known is None:
            return False
        if len(self._accepted) >= _REMEMBERED:
            self._accepted.clear()
        self._accepted.add(memory)
        return True

    async def _verify(self, entry: str, password: str) -> bool:
        if not entry.startswith(_BCRYPT):
            return verify(entry, password)
        if self._worker is None:  # one thread: nobody can keep the machine busy by guessing
            self._worker = ThreadPoolExecutor(1, "rulesproxy-passwords")
        return await asyncio.get_running_loop().run_in_executor(self._worker, verify, entry, password)

    def _refresh(self) -> None:
        state = self._look()
        if state == self._state:
            return
        self._state = state
        try:
            self._users = self._read()
            self._accepted.clear()
        except ValueError as exc:
            log.error("proxy_auth: %s; the users stay as they were", exc)

    def _look(self) -> tuple[int, int, int] | None:
        """What changes when the file does; None: it is not there."""
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _read(self) -> dict[str, str]:
        try:
            with open(self._path, "rb") as file:
                content = file.read(_FILE_LIMIT + 1)
        except OSError as exc:
            raise ValueError(f"{self._path}: {(exc.strerror or str(exc)).lower()}") from None
        if len(content) > _FILE_LIMIT:
            raise ValueError(f"{self._path}: larger than 4 MiB")
        users: dict[str, str] = {}
        for number, line in enumerate(content.decode("utf-8", "surrogateescape").splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            user, colon, entry = line.strip().partition(":")
            problem = "no user:password" if not colon or not user else _problem(entry)
            if problem:
                raise ValueError(f"{self._path}:{number}: {problem}")
            users[user] = entry
        if not users:
            raise ValueError(f"{self._path}: no users; add one with htpasswd -B {self._path} NAME")
        return users


# --- formats ----------------------------------------------------------------------------------------------------


def verify(entry: str, password: str) -> bool:
    """True if `entry`, what htpasswd wrote after the user, is made of `password`."""
    secret = password.encode("utf-8", "surrogateescape")
    if len(secret) > _LONGEST:
        return False
    if entry.startswith("{SHA}"):
        made = "{SHA}" + base64.b64encode(hashlib.sha1(secret, usedforsecurity=False).digest()).decode("ascii")
    elif entry.startswith("$apr1$"):
        made = apr1(secret, entry.split("$")[2])
    else:
        return _verify_bcrypt(entry, secret)
    return hmac.compare_digest(made.encode(), entry.encode("utf-8", "surrogateescape"))


def _verify_bcrypt(entry: str, secret: bytes) -> bool:
    import bcrypt

    try:
        return bcrypt.checkpw(secret[:_BCRYPT_BYTES], entry.encode("utf-8", "surrogateescape"))
    except ValueError:  # a zero byte in the password, or an entry cut short
        return False


def _problem(entry: str) -> str:
    if entry.startswith(_BCRYPT):
        try:
            import bcrypt  # noqa: F401 - whether it is there
        except ImportError:
            return f"bcrypt {_MISSING}"
        return ""
    if entry.startswith("{SHA}") or (entry.startswith("$apr1$") and entry.count("$") == 3):
        return ""
    return "neither bcrypt, apr1 nor {SHA}; write it with htpasswd -B"


def apr1(secret: bytes, salt: str) -> str:
    """The MD5 scheme of htpasswd: `$apr1$SALT$…`, 1000 rounds (its source: apr_md5.c)."""
    salted = salt[:8].encode("utf-8", "surrogateescape")
    inner = _md5(secret + salted + secret)
    start = secret + b"$apr1$" + salted
    start += b"".join(inner[:min(16, left)] for left in range(len(secret), 0, -16))
    bits = len(secret)
    while bits:
        start += b"\0" if bits & 1 else secret[:1]
        bits >>= 1
    digest = _md5(start)
    for count in range(_APR1_ROUNDS):
        odd = count & 1
        digest = _md5((secret if odd else digest) + (salted if count % 3 else b"")
                      + (secret if count % 7 else b"") + (digest if odd else secret))
    return f"$apr1${salt[:8]}${_apr1_text(digest)}"


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _apr1_text(digest: bytes) -> str:
    text = "".join(_base64(digest[first] << 16 | digest[second] << 8 | digest[third], 4)
                   for first, second, third in ((0, 6, 12), (1, 7, 13), (2, 8, 14), (3, 9, 15), (4, 10, 5)))
    return text + _base64(digest[11], 2)


def _base64(value: int, length: int) -> str:
    return "".join(_ITOA64[value >> 6 * place & 0x3F] for place in range(length))


_KEY = secrets.token_bytes(32)


def _digest(user: str, password: str) -> bytes:
    """Of equal length for whatever was sent, and of no use to who finds it in memory."""
    parts = (part.encode("utf-8", "surrogateescape") for part in (user, password))
    return hmac.digest(_KEY, b"".join(len(part).to_bytes(4, "big") + part for part in parts), "sha256")

