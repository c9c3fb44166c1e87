"""Decisions as data: what rules put on a flow and the proxy core carries out."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from rulesproxy.model.names import host_for_url


class Drop(enum.Enum):
    """End the exchange without an answer (rule-language 3.1)."""

    CLOSE = "close"  # orderly close of the client's connection
    RESET = "reset"  # abortive close: RST
    HANG = "hang"  # send nothing until the client leaves or the idle limit ends it


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request (or a relayed tunnel) goes instead of its own host (rule-language 3.2).

    `None` keeps what the request has. `sni` names the server for TLS and certificate verification; when it is None
    the original host is used. `host_header` is the new Host / `:authority`.
    """

    host: str | None = None
    port: int | None = None
    scheme: str | None = None
    host_header: str | None = None
    sni: str | None = None
    verify: bool = True
    rule: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Via:
    """Another proxy to go through. `scheme` is `http`, `https` (TLS to that proxy), `socks5` or, for none, `direct`;
    `auth` its user and password. Connections through different users are never shared.
    """

    scheme: str
    host: str
    port: int
    auth: tuple[str, str] | None = field(default=None, repr=False)
    rule: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"{self.scheme}://{host_for_url(self.host)}:{self.port}" if self.host else self.scheme


@dataclass(frozen=True, slots=True)
class TlsDemands:
    """What rules ask of TLS with a server. None keeps what the options say; `client_cert` is a PEM file with key,
    `min_version` one of `TLS1 TLS1_1 TLS1_2 TLS1_3`. Connections with different demands are never shared.
    """

    client_cert: str | None = None
    min_version: str | None = None
    verify: bool = True
    rule: str = field(default="", compare=False)


@dataclass(slots=True)
class Pacing:
    """Latency to add, in seconds: before the request goes out, and before the response goes back."""

    request: float = 0.0
    response: float = 0.0


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file to answer with. `path` is relative to `root` and must stay below it, symbolic links resolved. A `root`
    that is a file itself is the answer, whatever the path.
    """

    root: str
    path: str
    rule: str
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = field(default=())
