"""`Scope`: where a stream stands, and what follows from that for the requests on it."""

from __future__ import annotations

from dataclasses import dataclass, field

from rulesproxy.codecs.http1 import RequestHead
from rulesproxy.model.connection import Address, Server
from rulesproxy.model.effects import Route, TlsDemands, Via
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.names import authority
from rulesproxy.model.tls import Tunnel
from rulesproxy.model.via import chosen
from rulesproxy.net.stream import Stream
from rulesproxy.proxy.grant import Way
from rulesproxy.proxy.settings import Settings
from rulesproxy.proxy.upstream.target import Target
from rulesproxy.proxy.upstream.via import takes_absolute_form

_HTTP1 = ("http/1.1",)
_EITHER = ("h2", "http/1.1")
_PRIOR_KNOWLEDGE = ("h2",)
_NO_ROUTE = Route()
_STRAIGHT = Way()


@dataclass(slots=True)
class Scope:
    """Where a stream stands: on the proxy port itself (no tunnel), or inside a tunnel, decrypted or not."""

    scheme: str = "http"
    tunnel: Tunnel | None = None
    #: Where the tunnel leads: its target, unless a hook moved it.
    destination: Address = ("", 0)
    #: Where it leads as long as its bytes are passed on untouched.
    way: Way = _STRAIGHT
    #: The proxy to go through where no rule has a say: the listener's mode.
    via: Via | None = None
    #: What rules ask of TLS with the server, as far as they could tell from the ClientHello.
    server_tls: TlsDemands | None = None
    #: A server connection made before the client said anything.
    opened: tuple[Server, Stream] | None = field(default=None, repr=False)
    #: In reverse mode: the scheme in which the destination is spoken to, whatever the client speaks to us.
    reverse: str = ""
    #: The tunnel leads to a bare address, because its client looks names up itself: Host may name any.
    unnamed: bool = False
    _latest: tuple[object, Target] | None = field(default=None, init=False, repr=False)

    @property
    def decrypted(self) -> bool:
        return self.scheme == "https"

    @property
    def raw(self) -> bool:
        """Raw TCP by the listener's mode: nobody looks at what is spoken, and the server is dialled at once."""
        return self.reverse in ("tcp", "tls")

    @property
    def name(self) -> str:
        """The name the client connected to, which Host must agree with (rule-language 2.4)."""
        if self.tunnel is None:
            return ""
        return self.tunnel.name if self.decrypted and not self.reverse else self.tunnel.host

    @property
    def takes_any_host(self) -> bool:
        """Nothing but Host says which name the client means."""
        return bool(self.reverse) or (self.unnamed and not self.decrypted)

    @property
    def relay_destination(self) -> Address:
        """Where the tunnel leads if its bytes are passed on untouched."""
        host, port = self.destination
        route = self.way.route or _NO_ROUTE
        return route.host or host, route.port or port

    @property
    def relay_via(self) -> Via | None:
        """The proxy that a tunnel goes through if its bytes are passed on untouched."""
        return chosen(self.way.via, self.via)

    def host_in_reverse(self, flow: HTTPFlow, received: Address, head: RequestHead) -> str | None:
        """What a reverse proxy puts in the place of its own Host; None where somebody has chosen another server or
        another Host."""
        request, route = flow.request, flow.route or _NO_ROUTE
        if route.host or (request.host, request.port) != received or request.headers.first(b"host") != head.host:
            return None
        return authority(*self.destination, self.reverse)

    def target(self, flow: HTTPFlow, received: Address, head: RequestHead, settings: Settings, *,
               upgrade: bool = False) -> Target:
        """What the upstream pool is asked for (the table of rule-language 3.2).

        `received` is the host and port the request came with, in `head`: while nobody changed them it goes where the
        tunnel goes, under the name the tunnel has. `upgrade`: HTTP/1 is needed.
        """
        request = flow.request
        if flow.route is not None or flow.via is not None or flow.server_tls is not None or self.via is not None:
            return self._target(flow, received, head, settings, upgrade)
        # Mostly the same as for the request before.
        asked = (request.host, request.port, request.scheme, received, head.version, upgrade, settings.http2,
                 settings.verify_upstream)
        if self._latest is None or self._latest[0] != asked:
            self._latest = asked, self._target(flow, received, head, settings, upgrade)
        return self._latest[1]

    def _target(self, flow: HTTPFlow, received: Address, head: RequestHead, settings: Settings,
                upgrade: bool) -> Target:
        http2 = settings.http2 and not upgrade
        # The client speaks HTTP/2 without TLS: so may the server.
        prior_knowledge = head.is_http2 and self.tunnel is not None and not self.decrypted
        request, route = flow.request, flow.route or _NO_ROUTE
        host, port, name = request.host, request.port, request.host
        if self.tunnel is not None and (host, port) == received:
            (host, port), name = self.destination, self.name
        scheme = route.scheme or request.scheme
        if self.reverse and not route.scheme and scheme == self.scheme:
            scheme = self.reverse
        if scheme != "https":
            alpn = _PRIOR_KNOWLEDGE if http2 and prior_knowledge else ()
            target = Target(route.host or host, route.port or port, scheme, alpn=alpn)
        else:
            target = Target(route.host or host, route.port or port, scheme, route.sni or name,
                            settings.verify_upstream and route.verify, _EITHER if http2 else _HTTP1)
            demands = flow.server_tls or self.server_tls
            if demands is not None:
                target = target._replace(verify=target.verify and demands.verify, server_tls=demands)
        via = chosen(flow.via, self.via)
        if via is None:
            return target
        # A proxy would forward the request over HTTP/1, which a server of gRPC does not speak.
        absolute_form = not prior_knowledge and takes_absolute_form(via, target, request, route)
        return target._replace(via=via, absolute_form=absolute_form, alpn=() if absolute_form else target.alpn)
