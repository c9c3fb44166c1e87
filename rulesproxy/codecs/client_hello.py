"""The first message of a TLS client, read without answering it (RFC 8446 §4.1.2, RFC 6066 §3, RFC 7301).

In: what the client sent so far. Out: the facts of its ClientHello, or None while bytes are missing, or
ClientHelloError for what is not a ClientHello. Records are put together: a hello may be cut anywhere.
What two readers could see differently (extensions or names given twice) is refused.
"""

from __future__ import annotations

from rulesproxy.model.names import InvalidHost, canonical_host, is_ip
from rulesproxy.model.tls import ClientHello

_MAX_MESSAGE = 64 * 1024 - 1  # as large as one record header can still describe
_MAX_RECORD = 16 * 1024  # RFC 8446 §5.1
_MAX_RECORDS = 2048
_SERVER_NAME, _ALPN, _SUPPORTED_VERSIONS = 0, 16, 43


class ClientHelloError(ValueError):
    """The bytes are not a ClientHello, or it is too large. The message is fixed text."""


def parse_client_hello(data: bytes) -> ClientHello | None:
    """Read `data` from its beginning; None needs more bytes. Raises ClientHelloError.

    Every call starts over: a caller that gets the hello in small pieces uses a ClientHelloReader.
    """
    return ClientHelloReader().feed(data)


class ClientHelloReader:
    """The same, incrementally: `feed` what arrived until it answers. Total cost is linear."""

    __slots__ = ("_message", "_pending", "_records")

    def __init__(self) -> None:
        self._pending = bytearray()  # an incomplete record
        self._message = bytearray()
        self._records = 0

    def feed(self, data: bytes) -> ClientHello | None:
        pending, message = self._pending, self._message
        pending += data
        pos = 0
        while True:
            length = self._record_length(pos)
            if length is None or len(pending) < pos + 5 + length:
                break
            self._records += 1
            if self._records > _MAX_RECORDS:
                raise ClientHelloError("too many records")
            message += memoryview(pending)[pos + 5:pos + 5 + length]
            pos += 5 + length
            size = _message_size(message)
            if size is not None and len(message) >= size:
                return _parse_message(bytes(message[:size]))
        del pending[:pos]
        return None

    def _record_length(self, pos: int) -> int | None:
        """Payload length of the record at `pos`, None if its header is incomplete."""
        pending = self._pending
        available = len(pending) - pos
        if (available > 0 and pending[pos] != 0x16) or (available > 1 and pending[pos + 1] != 3):
            raise ClientHelloError("not a TLS handshake record")
        if available < 5:
            return None
        length = int.from_bytes(pending[pos + 3:pos + 5], "big")
        if not 0 < length <= _MAX_RECORD:
            raise ClientHelloError("an illegal record length")
        return length


def _message_size(message: bytearray) -> int | None:
    if message and message[0] != 1:
        raise ClientHelloError("not a ClientHello")
    if len(message) < 4:
        return None
    size = 4 + int.from_bytes(message[1:4], "big")
    if size > _MAX_MESSAGE:
        raise ClientHelloError("the ClientHello is too large")
    return size


class _Cursor:
    """Reads vectors off a message; running over the end is an error."""

    __slots__ = ("data", "pos")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.pos = 0

    def take(self, count: int) -> bytes:
        end = self.pos + count
        if end > len(self.data):
            raise ClientHelloError("a length runs over the end")
        piece = self.data[self.pos:end]
        self.pos = end
        return piece

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> bytes:
        """A vector whose length takes `size` bytes."""
        return self.take(self.number(size))

    @property
    def more(self) -> bool:
        return self.pos < len(self.data)


def _parse_message(raw: bytes) -> ClientHello:
    body = _Cursor(raw)
    body.take(4)
    legacy_version = body.number(2)
    body.take(32)  # random
    if len(body.vector(1)) > 32:
        raise ClientHelloError("the session id is too long")
    ciphers = _numbers(body.vector(2))
    if not ciphers or not body.vector(1):
        raise ClientHelloError("no cipher suites or compression methods")
    extensions = _extensions(body.vector(2)) if body.more else {}
    if body.more:
        raise ClientHelloError("bytes after the extensions")
    versions = extensions.get(_SUPPORTED_VERSIONS)
    return ClientHello(
        sni=_server_name(extensions.get(_SERVER_NAME)),
        alpn_protocols=_protocols(extensions.get(_ALPN)),
        cipher_suites=ciphers,
        extensions=tuple(extensions.items()),
        supported_versions=(legacy_version,) if versions is None else _numbers(_whole_vector(versions, 1)),
        raw=raw,
    )


def _extensions(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    cursor = _Cursor(data)
    while cursor.more:
        kind = cursor.number(2)
        body = cursor.vector(2)
        if kind in found:  # RFC 8446 §4.2
            raise ClientHelloError("an extension comes twice")
        found[kind] = body
    return found


def _whole_vector(data: bytes, size: int) -> bytes:
    cursor = _Cursor(data)
    vector = cursor.vector(size)
    if cursor.more:
        raise ClientHelloError("bytes after a list")
    return vector


def _numbers(data: bytes) -> tuple[int, ...]:
    if len(data) % 2:
        raise ClientHelloError("a list of odd length")
    return tuple(int.from_bytes(data[at:at + 2], "big") for at in range(0, len(data), 2))


def _protocols(data: bytes | None) -> tuple[bytes, ...]:
    if data is None:
        return ()
    names = []
    cursor = _Cursor(_whole_vector(data, 2))
    while cursor.more:
        name = cursor.vector(1)
        if not name:  # RFC 7301 §3.1
            raise ClientHelloError("an empty ALPN name")
        names.append(name)
    return tuple(names)


def _server_name(data: bytes | None) -> str | None:
    if data is None:
        return None
    names: list[bytes] = []
    cursor = _Cursor(_whole_vector(data, 2))
    while cursor.more:
        kind = cursor.number(1)
        name = cursor.vector(2)
        if kind == 0:
            names.append(name)
    if len(names) > 1:  # RFC 6066 §3
        raise ClientHelloError("two server names")
    return _valid_name(names[0]) if names else None


def _valid_name(raw: bytes) -> str | None:
    """What is no host name is refused: no rule could be asked about it, while a server that is lenient, and gets these
    bytes when the tunnel is relayed, might find in it a name that a rule is about."""
    try:
        name = canonical_host(raw[:256].decode("ascii"))
    except (InvalidHost, UnicodeDecodeError):
        raise ClientHelloError("the server name is not a host name") from None
    return None if is_ip(name) else name  # RFC 6066 §3: an address is not a server name; it counts as none
