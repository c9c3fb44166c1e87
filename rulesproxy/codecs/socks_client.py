"""SOCKS5 as a client speaks it: ask a proxy for a connection to a host (RFC 1928, RFC 1929).

In: the bytes the proxy answers. Out: the bytes to send next, until `done`. Names are sent as they are: the proxy looks
them up. No clock, no sockets; what follows the last answer belongs to the tunnel and is left in `rest`.
"""

from __future__ import annotations

from ipaddress import ip_address

from rulesproxy.model.names import is_ip

_VERSION = b"\x05"
_NO_AUTH, _PASSWORD, _NONE_ACCEPTABLE = 0, 2, 0xFF
_CONNECT = b"\x05\x01\x00"
_IPV4, _NAME, _IPV6 = 1, 3, 4
_ADDRESS_SIZES = {_IPV4: 4, _IPV6: 16}
#: RFC 1928 §6
_REFUSALS = {
    1: "general failure", 2: "not allowed by its rules", 3: "network unreachable", 4: "host unreachable",
    5: "connection refused", 6: "timed out", 7: "command not supported", 8: "address type not supported",
}  # fmt: skip
TIMED_OUT = 6


class SocksError(Exception):
    """The proxy refused, or does not speak SOCKS5. `code` is its reply (RFC 1928 §6), `auth`: it is about user and
    password."""

    def __init__(self, message: str, *, code: int = 0, auth: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.auth = auth


class SocksClient:
    """Send `hello` first, then whatever `feed` answers, until `done`. Everything raises SocksError."""

    __slots__ = ("_auth", "_buffer", "_host", "_port", "_state", "done")

    def __init__(self, host: str, port: int, auth: tuple[str, str] | None = None) -> None:
        self._host = host
        self._port = port
        self._auth = auth
        self._state = self._method
        self._buffer = b""
        #: The connection is made: from here on the bytes are those of the tunnel.
        self.done = False

    @property
    def hello(self) -> bytes:
        return b"\x05\x02\x00\x02" if self._auth is not None else b"\x05\x01\x00"

    @property
    def rest(self) -> bytes:
        """Once `done`: what came after the last answer."""
        return self._buffer

    def feed(self, data: bytes) -> bytes:
        """What to send now; nothing: more has to come first."""
        self._buffer += data
        out = b""
        while not self.done:
            step = self._state()
            if step is None:
                break
            out += step
        return out

    def _take(self, size: int) -> bytes:
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    def _method(self) -> bytes | None:
        if self._buffer and not self._buffer.startswith(_VERSION):
            raise SocksError("it does not speak SOCKS5")
        if len(self._buffer) < 2:
            return None
        method = self._take(2)[1]
        if method == _PASSWORD and self._auth is not None:
            self._state = self._verdict
            user, password = (text.encode() for text in self._auth)
            return b"\x01%c%b%c%b" % (len(user), user, len(password), password)  # RFC 1929 §2
        if method == _NO_AUTH:
            self._state = self._reply
            return self._request()
        if method == _NONE_ACCEPTABLE and self._auth is not None:
            raise SocksError("it accepts neither user and password nor their absence", auth=True)
        raise SocksError("it wants a user and a password", auth=True)

    def _verdict(self) -> bytes | None:
        if len(self._buffer) < 2:
            return None
        if self._take(2)[1] != 0:
            raise SocksError("it does not accept the user and the password", auth=True)
        self._state = self._reply
        return self._request()

    def _request(self) -> bytes:
        port = self._port.to_bytes(2, "big")
        if is_ip(self._host):
            packed = ip_address(self._host).packed
            return _CONNECT + bytes((_IPV4 if len(packed) == 4 else _IPV6,)) + packed + port
        name = self._host.encode("ascii")
        return _CONNECT + bytes((_NAME, len(name))) + name + port

    def _reply(self) -> bytes | None:
        if self._buffer and not self._buffer.startswith(_VERSION):
            raise SocksError("it does not speak SOCKS5")
        if len(self._buffer) < 2:
            return None
        code = self._buffer[1]
        if code != 0:  # some close without sending the rest
            raise SocksError(_REFUSALS.get(code, f"reply {code}"), code=code)
        if len(self._buffer) < 5:
            return None
        kind = self._buffer[3]
        size = _ADDRESS_SIZES.get(kind, 1 + self._buffer[4] if kind == _NAME else None)
        if size is None:
            raise SocksError("its answer names an address of no known type")
        if len(self._buffer) < 4 + size + 2:
            return None
        self._take(4 + size + 2)
        self.done = True
        return b""
