"""Connections as hooks see them: who is at the other end and what TLS agreed on."""

from __future__ import annotations

import time
import uuid
from enum import Flag
from typing import Any, Literal

from rulesproxy.model.names import host_for_url

Address = tuple[str, int]
TransportProtocol = Literal["tcp", "udp"]


class ConnectionState(Flag):
    CLOSED = 0
    CAN_READ = 1
    CAN_WRITE = 2
    OPEN = 3


class Connection:
    """What a client and a server connection share. Times are seconds since the epoch."""

    __slots__ = (
        "_id", "alpn", "alpn_offers", "certificate_list", "cipher", "error", "peername", "sni", "sockname", "state",
        "timestamp_end", "timestamp_start", "timestamp_tls_setup", "tls", "tls_resumed", "tls_version",
        "transport_protocol",
    )

    def __init__(self, *, peername: Address | None = None, sockname: Address | None = None,
                 transport_protocol: TransportProtocol = "tcp") -> None:
        self._id: str | None = None
        self.peername = peername
        self.sockname = sockname
        self.transport_protocol: TransportProtocol = transport_protocol
        self.state = ConnectionState.OPEN
        self.error: str | None = None
        self.tls = False
        self.certificate_list: list[Any] = []  # cryptography x509 certificates the peer sent, leaf first
        self.alpn: bytes | None = None
        self.alpn_offers: tuple[bytes, ...] = ()
        self.cipher: str | None = None
        self.tls_version: str | None = None  # "TLSv1.3"
        self.tls_resumed = False  # the handshake went on with an earlier session
        self.sni: str | None = None
        self.timestamp_start: float = time.time()
        self.timestamp_end: float | None = None
        self.timestamp_tls_setup: float | None = None

    @property
    def id(self) -> str:
        """Unique text, made when first asked for: most connections never need it."""
        if self._id is None:
            self._id = str(uuid.uuid4())
        return self._id

    @property
    def peer(self) -> str:
        """The other end as people write it: `192.0.2.1:4711`, `[2001:db8::1]:4711`."""
        return f"{host_for_url(self.peername[0])}:{self.peername[1]}" if self.peername else "unknown"

    @property
    def connected(self) -> bool:
        return self.state is ConnectionState.OPEN

    def forget_tls(self) -> None:
        """What TLS agreed on holds no more: another protocol begins inside it."""
        self.tls = False
        self.certificate_list = []
        self.alpn = self.cipher = self.tls_version = self.sni = self.timestamp_tls_setup = None
        self.alpn_offers = ()

    @property
    def tls_established(self) -> bool:
        return self.timestamp_tls_setup is not None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.peername} {self.state.name}{' tls' if self.tls_established else ''}>"


class Client(Connection):
    """The connection of a client to the proxy.

    `proxy_mode` is the listener's mode (`regular`, `socks5`, …); `listener` its `host:port`. `user` is the name proxy
    authentication accepted.
    """

    __slots__ = ("listener", "mitmcert", "proxy_mode", "user")

    def __init__(self, *, peername: Address | None = None, sockname: Address | None = None,
                 transport_protocol: TransportProtocol = "tcp", proxy_mode: str = "regular",
                 listener: str = "") -> None:
        super().__init__(peername=peername, sockname=sockname, transport_protocol=transport_protocol)
        self.proxy_mode = proxy_mode
        self.listener = listener
        self.mitmcert: Any = None
        self.user: str | None = None

    @property
    def ip(self) -> str:
        return self.peername[0] if self.peername else ""


class Server(Connection):
    """The connection of the proxy to a server. `address` is what is (to be) dialled; not assignable while open.

    `via` is the proxy that dials it, `(scheme, (host, port))`, or None. A connection to a proxy that takes plain
    requests for any server has that proxy as its address, unless an addon handles `server_connect`.
    """

    __slots__ = ("_address", "timestamp_tcp_setup", "via")

    def __init__(self, address: Address | None = None, *, transport_protocol: TransportProtocol = "tcp") -> None:
        super().__init__(transport_protocol=transport_protocol)
        self.state = ConnectionState.CLOSED
        self._address = address
        self.via: tuple[str, Address] | None = None
        self.timestamp_tcp_setup: float | None = None

    @property
    def address(self) -> Address | None:
        return self._address

    @address.setter
    def address(self, value: Address | None) -> None:
        if self.state is not ConnectionState.CLOSED:
            raise ValueError("the address of an open server connection cannot be changed")
        self._address = value


class ServerConnectionHookData:
    """What the `server_*` hooks receive."""

    __slots__ = ("client", "server")

    def __init__(self, server: Server, client: Client) -> None:
        self.server = server
        self.client = client
