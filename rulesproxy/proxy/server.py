"""`Proxy`: listeners and everything behind them, from start to stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from math import inf

from rulesproxy.addons.manager import AddonManager
from rulesproxy.certs.authority import Authority
from rulesproxy.codecs.http1 import serialize_response
from rulesproxy.model.connection import Address, Client
from rulesproxy.model.names import host_for_url
from rulesproxy.model.pages import error_response
from rulesproxy.net.descriptors import Room, make_room
from rulesproxy.net.resolve import Resolver
from rulesproxy.net.tcp import Listener, TCPStream, listen
from rulesproxy.proxy.accept import serve_regular, serve_reverse, serve_transparent, serve_upstream
from rulesproxy.proxy.core import Core
from rulesproxy.proxy.framing import CLOSE_FIELD, sized, with_framing
from rulesproxy.proxy.modes import Mode, parse_mode
from rulesproxy.proxy.session import Begin, Session
from rulesproxy.proxy.settings import Settings
from rulesproxy.proxy.socks import serve_socks
from rulesproxy.proxy.upstream.pool import UpstreamPool
from rulesproxy.proxy.virtual_host import VirtualHost

log = logging.getLogger("rulesproxy")

_FULL = error_response(503, "Too many connections", "The proxy has as many connections as it may.",
                       hint="Try again in a moment, or allow more with --set connections=N.")
_TURNED_AWAY_AT_ONCE = 16
_SAY_AGAIN = 10.0  # seconds
_FEW = 1000  # connections; room for fewer is worth a word


class Proxy:
    """Serves the TCP modes it is given; `start` once, `stop` once, both in one event loop.

    `modes` are specifications or parsed modes; those for DNS and UDP are somebody else's. The resolver stays the
    caller's to close.
    """

    def __init__(self, addons: AddonManager, authority: Authority, resolver: Resolver, *,
                 modes: Sequence[Mode | str] = ("regular",), settings: Settings | None = None,
                 virtual_host: VirtualHost | None = None) -> None:
        self.core = Core(addons, authority, resolver, settings, virtual_host)
        parsed = [parse_mode(mode) if isinstance(mode, str) else mode for mode in modes]
        self._room = Room(0, 0, 0)
        self._last_said = -inf
        self._modes = [mode for mode in parsed if mode.transport == "tcp"]
        self._listeners: list[Listener] = []

    @property
    def addresses(self) -> list[Address]:
        """Where the listeners are, in the order of their modes, with real port numbers."""
        return [listener.address for listener in self._listeners]

    async def start(self) -> None:
        """Raises OSError when an address cannot be bound; nothing listens then."""
        wanted = self.core.settings.connections
        room = self._room = make_room(wanted)
        if room.connections < min(wanted, _FEW):
            log.warning("%d open files are allowed (ulimit -n): there is room for %d connections at a time",
                        room.descriptors, room.connections)
        self.core.upstream = UpstreamPool(self.core, total=room.idle)
        try:
            for mode in self._modes:
                self._listeners.append(await self._listen(mode))
        except OSError:
            await self.stop(0)
            raise

    async def stop(self, grace: float = 5.0) -> None:
        """Accept nothing more, close idle connections, let the others finish for `grace` seconds, then reset them."""
        core = self.core
        core.closing = True
        for listener in self._listeners:
            listener.close_accepting()
        core.close_idle_sessions()
        await asyncio.gather(*(listener.wait_closed(grace) for listener in self._listeners))
        await core.upstream.aclose()

    async def _listen(self, mode: Mode) -> Listener:
        name, begin = "", _beginning(mode)

        async def serve(stream: TCPStream) -> None:
            if len(self.core.sessions) >= self._room.connections:
                await self._turn_away(stream)
                return
            session = Session(self.core, stream, Client(peername=stream.peername, sockname=stream.sockname,
                                                        proxy_mode=mode.name, listener=name))
            stream.on_end = session.client_ended
            await session.run(begin)

        listener = await listen(mode.host, mode.port, serve, limit=self._room.connections + _TURNED_AWAY_AT_ONCE)
        host, port = listener.address[:2]
        name = f"{host_for_url(host)}:{port}"
        self.core.listening.add((host, port))
        return listener

    async def _turn_away(self, stream: TCPStream) -> None:
        """A client too many: it is told, without being listened to."""
        now = asyncio.get_running_loop().time()
        if now - self._last_said >= _SAY_AGAIN:
            self._last_said = now
            log.warning("%d connections are open, which is the limit: further ones get a 503", len(self.core.sessions))
        body = _FULL.raw_content or b""
        fields = (*with_framing(_FULL.headers.fields, sized(len(body))), CLOSE_FIELD)
        await stream.write(serialize_response(_FULL.status_code, _FULL.reason, fields) + body)
        await stream.write_eof()


_BEGINNINGS = {"regular": serve_regular, "reverse": serve_reverse, "transparent": serve_transparent,
               "upstream": serve_upstream}


def _beginning(mode: Mode) -> Begin:
    """How connections begin on a listener of this mode."""
    if mode.name == "socks5":
        return serve_socks
    serve = _BEGINNINGS[mode.name]
    return lambda session, stream: serve(session, stream, mode)
