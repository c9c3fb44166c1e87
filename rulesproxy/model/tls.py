"""What the TLS hooks receive."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rulesproxy.model.connection import Client, Connection, Server


@dataclass(frozen=True, slots=True)
class ClientHello:
    """The facts of a ClientHello. `sni` is None when absent or an address; extensions are (type, body)."""

    sni: str | None
    alpn_protocols: tuple[bytes, ...]
    cipher_suites: tuple[int, ...]
    extensions: tuple[tuple[int, bytes], ...]
    supported_versions: tuple[int, ...]
    raw: bytes = field(repr=False)

    def raw_bytes(self, wrap_in_record: bool = True) -> bytes:
        """The handshake message, by default inside one TLS record."""
        return b"\x16\x03\x01" + len(self.raw).to_bytes(2, "big") + self.raw if wrap_in_record else self.raw


@dataclass(slots=True)
class Tunnel:
    """One tunnel before anything in it was decrypted: what CONNECT and TLS decisions are taken from.

    `host` and `port` are the CONNECT target; `client_hello` is None until TLS was seen. `pinned` belongs to the
    rules.
    """

    client: Client
    host: str
    port: int
    client_hello: ClientHello | None = None
    pinned: Any = None
    #: Nothing is opened: somebody wants to know what would be decided. Rules log and tag nothing for it.
    hypothetical: bool = False

    @property
    def name(self) -> str:
        """The SNI, else the CONNECT host (rule-language 5.1)."""
        hello = self.client_hello
        return hello.sni if hello is not None and hello.sni else self.host


@dataclass(slots=True)
class ClientHelloData:
    """For `tls_clienthello`. Setting `ignore_connection` relays the untouched bytes."""

    client: Client
    server: Server
    client_hello: ClientHello
    tunnel: Tunnel
    ignore_connection: bool = False


@dataclass(slots=True)
class TlsData:
    """For `tls_start_*`, `tls_established_*` and `tls_failed_*`. `ssl_context` may be replaced in `tls_start_*`."""

    conn: Connection
    client: Client
    server: Server
    ssl_context: Any = None
