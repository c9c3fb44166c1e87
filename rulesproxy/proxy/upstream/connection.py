"""What the upstream pool hands out: a connection, or room on one that is shared."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from rulesproxy.codecs.http1 import Limits, Receiver
from rulesproxy.model.connection import Client, Server
from rulesproxy.net.stream import Stream
from rulesproxy.proxy.http1.origin import Http1Origin
from rulesproxy.proxy.http2.origin import Http2Origin, OriginConnection
from rulesproxy.proxy.http2.stream import Http2Stream
from rulesproxy.proxy.sides import OriginSide
from rulesproxy.proxy.upstream.target import Target
from rulesproxy.proxy.upstream.via import seen

if TYPE_CHECKING:
    from rulesproxy.proxy.session import Session


class UpstreamConnection(ABC):
    """What one exchange holds. `reused`: the connection carried an exchange before, so it may turn out to be stale."""

    __slots__ = ("reused", "server", "target")

    def __init__(self, server: Server, target: Target) -> None:
        self.server = server
        self.target = target
        self.reused = False

    @abstractmethod
    def side(self, session: Session) -> OriginSide:
        """The origin's end of the exchange that holds this."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.target} via {self.server.peername}{' reused' if self.reused else ''}>"


class Http2Lease(UpstreamConnection):
    """Room for one exchange on a connection that others use too. `stream` is its stream once there is one."""

    __slots__ = ("shared", "stream")

    def __init__(self, shared: OriginConnection) -> None:
        super().__init__(shared.server, shared.target)
        self.shared = shared
        self.stream: Http2Stream | None = None
        self.reused = shared.carried > 0
        shared.lease()

    def side(self, session: Session) -> Http2Origin:
        return Http2Origin(self, session)


class Http1Connection(UpstreamConnection):
    """A connection that carries one exchange after the other."""

    __slots__ = ("client", "forwarder", "idle_since", "receiver", "stream", "tied")

    def __init__(self, client: Client, server: Server, stream: Stream, target: Target, limits: Limits) -> None:
        super().__init__(server, target)
        self.client = client  # who it was made for: `server_disconnected` names it
        self.tied = False  # only `client` may use it
        self.stream = stream
        #: The other proxy that requests are for, to be forwarded; None: the server itself is at the end.
        self.forwarder = target.via if target.absolute_form and server.via == seen(target.via) else None
        self.receiver = Receiver(limits)
        self.idle_since = 0.0

    def side(self, session: Session) -> Http1Origin:
        return Http1Origin(self, session)
