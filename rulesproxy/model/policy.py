"""The policy seam: the few questions the core asks that are not events. Any addon may implement any of them.

The first addon with an opinion wins (rules stand first in the chain); `None` passes the question on. With no opinion
at all TLS is relayed, bodies stream and names are resolved as usual.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Literal, Protocol

from rulesproxy.model.connection import Client
from rulesproxy.model.effects import Drop, Route, TlsDemands, Via
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.tls import Tunnel


class TlsVerdict(enum.Enum):
    INTERCEPT = "intercept"
    RELAY = "relay"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class TlsDecision:
    """What to do with a tunnel that starts TLS, why, and where a relayed tunnel goes instead of its target and its
    way there."""

    verdict: TlsVerdict
    rule: str | None = None
    route: Route | None = None
    via: Via | None = None
    #: For what is not HTTP in an intercepted tunnel; requests have their own.
    server_tls: TlsDemands | None = None


@dataclass(frozen=True, slots=True)
class TunnelDecision:
    """What is decided when a tunnel is asked for: whether it is refused, and where and which way it leads while it is
    relayed.

    `drop` refuses without an answer, `rule` is the one that refused, `delay` seconds pass before anything happens.
    """

    refused: bool = False
    route: Route | None = None
    via: Via | None = None
    drop: Drop | None = None
    rule: str | None = None
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class NameAnswer:
    """A rule's answer for a name the proxy is about to dial: addresses, another name to look up instead (`alias`,
    from a spoofed CNAME), or a failure with the rule to name.
    """

    addresses: tuple[str, ...] = ()
    rcode: str = "NOERROR"
    rule: str = ""
    alias: str = ""


class Policy(Protocol):
    """Implemented by addons, each method optional. All are synchronous and must not block."""

    def tls_decision(self, tunnel: Tunnel) -> TlsDecision | None: ...

    def tunnel_decision(self, tunnel: Tunnel) -> TunnelDecision | None:
        """What becomes of a tunnel that no CONNECT asks for, which is what `http_connect` does with one. A
        hypothetical one is open already: what would become of it now that the rules have changed."""
        ...

    def needs_body(self, flow: HTTPFlow, phase: Literal["request", "response"]) -> bool:
        """True if the body must be complete before the `request` (`response`) hook."""
        ...

    def needs_messages(self, flow: HTTPFlow) -> bool:
        """True if the messages of this WebSocket connection are looked at; otherwise its bytes just pass. Asked at the
        handshake, and again when the rules have changed."""
        ...

    def resolve(self, name: str, client: Client | None) -> NameAnswer | None: ...
