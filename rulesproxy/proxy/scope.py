"""`Scope`: where a stream stands, and what follows from that for the requests on it."""

from __future__ import annotations

from dataclasses import dataclass, field

from rulesproxy.model.connection import Address, Server
from rulesproxy.model.effects import Route
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.tls import Tunnel
from rulesproxy.net.stream import Stream
from rulesproxy.proxy.upstream import Target

_ALPN = ("http/1.1",)
_NO_ROUTE = Route()


@dataclass(slots=True)
class Scope:
    """Where a stream stands: on the proxy port itself (no tunnel), or inside a tunnel, decrypted or not."""

    scheme: str = "http"
    tunnel: Tunnel | None = None
    #: Where the tunnel leads: its target, unless a hook moved it.
    destination: Address = ("", 0)
    #: Where connect rules send the tunnel as long as it is relayed; what is decrypted is routed request by request.
    route: Route | None = None
    #: The name the client connected to, which Host must agree with (rule-language 2.4).
    name: str = ""
    #: A server connection made before the client said anything.
    opened: tuple[Server, Stream] | None = field(default=None, repr=False)

    @property
    def decrypted(self) -> bool:
        return self.scheme == "https"

    @property
    def relay_destination(self) -> Address:
        """Where the tunnel leads if its bytes are passed on untouched."""
        host, port = self.destination
        route = self.route or _NO_ROUTE
        return route.host or host, route.port or port

    def target(self, flow: HTTPFlow, received: Address, verify: bool) -> Target:
        """What the upstream pool is asked for (the table of rule-language 3.2).

        `received` is the host and port the request came with: while nobody changed them it goes where the tunnel goes,
        under the name the tunnel has.
        """
        request, route = flow.request, flow.route or _NO_ROUTE
        host, port, name = request.host, request.port, request.host
        if self.tunnel is not None and (host, port) == received:
            (host, port), name = self.destination, self.name
        scheme = route.scheme or request.scheme
        if scheme != "https":
            return Target(route.host or host, route.port or port, scheme)
        return Target(route.host or host, route.port or port, scheme, route.sni or name, verify and route.verify, _ALPN)
