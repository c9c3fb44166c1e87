"""SOCKS5 as a server speaks it: RFC 1928, and user and password of RFC 1929.

In: what a client has sent so far, from the beginning of a message. Out: the message and how many bytes it took, or
None while bytes are missing. What no SOCKS5 client sends raises SocksError, which carries what to answer before the
connection is closed. Which method, and whether a request is granted, is for others to decide.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from ipaddress import ip_address

from rulesproxy.model.names import InvalidHost, canonical_host

VERSION = 5
_AUTH_VERSION = 1  # RFC 1929 §2


class Method(enum.IntEnum):
    """RFC 1928 §3."""

    NONE = 0
    PASSWORD = 2
    UNACCEPTABLE = 0xFF


class Command(enum.IntEnum):
    """RFC 1928 §4."""

    CONNECT = 1
    BIND = 2
    UDP_ASSOCIATE = 3


class Reply(enum.IntEnum):
    """RFC 1928 §6."""

    SUCCEEDED = 0
    FAILURE = 1
    NOT_ALLOWED = 2
    COMMAND_NOT_SUPPORTED = 7
    ADDRESS_NOT_SUPPORTED = 8


class SocksError(Exception):
    """Not SOCKS5. `answer` is sent before the connection is closed; it may be empty."""

    def __init__(self, message: str, answer: bytes = b"") -> None:
        super().__init__(message)
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Greeting:
    """The methods a client offers."""

    methods: bytes

    def offers(self, method: Method) -> bool:
        return method in self.methods


@dataclass(frozen=True, slots=True)
class Credentials:
    """User and password; bytes that are not UTF-8 are surrogates."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SocksRequest:
    """What the client wants; `host` is canonical."""

    command: Command
    host: str
    port: int


def read_greeting(data: bytes) -> tuple[Greeting, int] | None:
    """`VER NMETHODS METHODS`. Raises SocksError."""
    if data[:1] not in (b"", b"\x05"):
        if data[0] == 4:
            raise SocksError("SOCKS4, which is not served; configure SOCKS5")
        if data[:1].isalpha() and data.isascii():
            raise SocksError("not SOCKS5 but HTTP, it seems; configure socks5:// as the proxy's scheme")
        raise SocksError("not SOCKS5")
    if len(data) < 2 or len(data) < (end := 2 + data[1]):
        return None
    return Greeting(data[2:end]), end


def choose_method(method: Method) -> bytes:
    """The answer to a greeting."""
    return bytes((VERSION, method))


def read_credentials(data: bytes) -> tuple[Credentials, int] | None:
    """`VER ULEN UNAME PLEN PASSWD` (RFC 1929 §2). Raises SocksError."""
    if data[:1] not in (b"", b"\x01"):
        raise SocksError("no user and password, although they were agreed on", judge_credentials(False))
    if len(data) < 2:
        return None
    user_end = 2 + data[1]
    if len(data) <= user_end or len(data) < (end := user_end + 1 + data[user_end]):
        return None
    return Credentials(_text(data[2:user_end]), _text(data[user_end + 1:end])), end


def judge_credentials(accepted: bool) -> bytes:
    """The answer to credentials; after False the connection must be closed."""
    return bytes((_AUTH_VERSION, 0 if accepted else 1))


def read_request(data: bytes) -> tuple[SocksRequest, int] | None:
    """`VER CMD RSV ATYP DST.ADDR DST.PORT` (RFC 1928 §4 and §5). Raises SocksError."""
    if data[:1] not in (b"", b"\x05"):
        raise SocksError("no SOCKS5 request after the greeting", reply(Reply.FAILURE))
    if len(data) < 5:
        return None
    kind = data[3]
    length = {1: 4, 3: 1 + data[4], 4: 16}.get(kind)
    if length is None:
        raise SocksError(f"there is no kind of address {kind}", reply(Reply.ADDRESS_NOT_SUPPORTED))
    end = 4 + length + 2
    if len(data) < end:
        return None
    if data[1] not in tuple(Command):
        raise SocksError(f"there is no command {data[1]}", reply(Reply.COMMAND_NOT_SUPPORTED))
    port = int.from_bytes(data[end - 2:end], "big")
    return SocksRequest(Command(data[1]), _host(kind, data[4:end - 2]), port), end


def reply(code: Reply, address: tuple[str, int] = ("0.0.0.0", 0)) -> bytes:
    """The answer to a request; `address` is the bound one, an IP address."""
    packed = ip_address(address[0]).packed
    return b"".join((bytes((VERSION, code, 0, 1 if len(packed) == 4 else 4)), packed, address[1].to_bytes(2, "big")))


def _host(kind: int, data: bytes) -> str:
    text = _text(data[1:]) if kind == 3 else str(ip_address(data))
    try:
        return canonical_host(text)
    except InvalidHost as exc:
        raise SocksError(str(exc), reply(Reply.FAILURE)) from None


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
