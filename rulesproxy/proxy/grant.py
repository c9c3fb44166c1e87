"""What rules decided about a tunnel when it was opened, and whether they would decide the same today."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from rulesproxy.addons.policy import PolicyChain
from rulesproxy.model.effects import Route, Via
from rulesproxy.model.policy import TlsDecision
from rulesproxy.model.tls import Tunnel


class Way(NamedTuple):
    """Where a tunnel leads instead of its destination, and through which proxy, as long as its bytes are passed on
    untouched. What is decrypted is routed request by request."""

    route: Route | None = None
    via: Via | None = None


@dataclass(slots=True)
class Grant:
    """A tunnel that rules let pass: the way they gave it, and what they said of the TLS in it once that began."""

    tunnel: Tunnel
    way: Way
    tls: TlsDecision | None = None

    def holds(self, policy: PolicyChain, *, relayed: bool) -> bool:
        """Ask again. `relayed`: the tunnel goes its way, so that another one counts."""
        # A new Tunnel: the old one may hold on to the rules it was decided with.
        tunnel = Tunnel(self.tunnel.client, self.tunnel.host, self.tunnel.port, self.tunnel.client_hello,
                        hypothetical=True)
        now = policy.tunnel_decision(tunnel)
        if now.refused or (relayed and (now.route, now.via) != self.way):
            return False
        if self.tls is None:
            return True
        tls = policy.tls_decision(tunnel)
        return (tls.verdict, tls.route, tls.via) == (self.tls.verdict, self.tls.route, self.tls.via)
