"""One UDP flow: the datagrams between a client and a server, each shown to hooks before it goes on.

In: a client's datagrams, through `take`, and where they lead. Out: datagrams to the server, through a socket of the
flow's own, and answers through a function. `udp_start` fires first, then the server is connected; `udp_end` comes after
a silence of `udp_timeout` or at the end of the proxy, `udp_error` instead when the server turns out not to be there or
the flow was killed or dropped. One task works off the datagrams of a flow, both directions in the order in which they
came, so hooks of one flow never overlap. While nobody handles `udp_message` a datagram goes on at once.

More datagrams than may wait while a handler takes its time are lost, as on any network.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address

from rulesproxy.addons.hooks import Hook
from rulesproxy.addons.lifecycle import UpdateHook
from rulesproxy.model.connection import Address, Client, ConnectionState, Server, ServerConnectionHookData
from rulesproxy.model.flow import Error
from rulesproxy.model.names import host_for_url
from rulesproxy.model.tls import Tunnel
from rulesproxy.model.udp import UDPFlow, UDPMessage
from rulesproxy.net.local import is_local
from rulesproxy.net.udp import UdpSocket
from rulesproxy.proxy.client_hooks import ClientConnectedHook, ClientDisconnectedHook
from rulesproxy.proxy.core import Core
from rulesproxy.proxy.grant import Grant, Way
from rulesproxy.proxy.http_hooks import Stopped
from rulesproxy.proxy.raw.tcp import check
from rulesproxy.proxy.relay import QUIET_SECONDS
from rulesproxy.proxy.upstream.connector import (
    Connector,
    ServerConnectedHook,
    ServerConnectErrorHook,
    ServerConnectHook,
    ServerDisconnectedHook,
)
from rulesproxy.proxy.upstream.target import UpstreamError
from rulesproxy.proxy.watchdog import Watchdog

#: What may wait in one flow because a handler takes its time.
_WAITING_BYTES = 1024 * 1024
_PER_DATAGRAM = 256  # bytes a waiting datagram counts for beside its own

log = logging.getLogger("rulesproxy")


@dataclass(slots=True)
class UdpStartHook(Hook):
    """A client sent its first datagram. The server is not connected yet."""

    flow: UDPFlow


@dataclass(slots=True)
class UdpMessageHook(Hook):
    """A datagram arrived or was injected: `flow.messages[-1]`. Change its `content`, or `drop()` it."""

    flow: UDPFlow


@dataclass(slots=True)
class UdpEndHook(Hook):
    """Nothing was sent for `udp_timeout`, or the proxy stops."""

    flow: UDPFlow


@dataclass(slots=True)
class UdpErrorHook(Hook):
    """The server cannot be reached, or the flow was killed or dropped: `flow.error` says why. Instead of `udp_end`."""

    flow: UDPFlow


class UdpConversation:
    """One client and its flow; `take` what arrives while `run` runs."""

    def __init__(self, core: Core, client: Client, destination: Address, listening: Address,
                 answer: Callable[[bytes], None]) -> None:
        self._core = core
        self._addons = core.addons
        self._client = client
        self._listening = listening
        self._answer = answer
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[UDPMessage] = deque()
        self._waiting_bytes = 0
        self._arrived = asyncio.Event()
        self._last = self._loop.time()
        self._busy = True  # what arrives has to wait for what came before
        self._finishing = False
        self._grant: Grant | None = None
        self._stale = False
        self._failure: OSError | None = None
        self._socket: UdpSocket | None = None
        self.flow = UDPFlow(client, Server(destination, transport_protocol="udp"))
        self.flow.tunnel = Tunnel(client, *destination)
        #: The flow was killed or dropped, or never wanted.
        self.refused = False

    def take(self, data: bytes, from_client: bool) -> None:
        """A datagram arrived."""
        self._last = self._loop.time()
        if not self._busy and not self._addons.active(UdpMessageHook):
            self._send(data, from_client)
        elif self._waiting_bytes <= _WAITING_BYTES:
            self._waiting.append(UDPMessage(from_client, data))
            self._waiting_bytes += len(data) + _PER_DATAGRAM
            self._arrived.set()

    def go_away(self) -> None:
        """End when what waits has been sent."""
        self._finishing = True
        self._arrived.set()

    def reconsider(self) -> bool:
        """Ask connect rules again. True if they decide differently now: the flow then ends when it is quiet."""
        if self._stale or self._grant is None:
            return False
        self._stale = not self._grant.holds(self._addons.policy, relayed=True)
        self._arrived.set()
        return self._stale

    async def run(self) -> None:
        client = self._client
        self._core.conversations.add(self)
        try:
            await self._addons.fire(ClientConnectedHook(client))
            if client.error is None and await self._granted():
                await self._serve()
            else:
                self.refused = True
        finally:
            self._core.conversations.discard(self)
            client.state = ConnectionState.CLOSED
            client.timestamp_end = time.time()
            await self._addons.fire(ClientDisconnectedHook(client))

    async def _granted(self) -> bool:
        """Ask connect rules, as for a CONNECT; they may also lead elsewhere."""
        flow = self.flow
        assert flow.tunnel is not None
        decision = self._addons.policy.tunnel_decision(flow.tunnel)
        if not decision.refused:
            self._grant = Grant(flow.tunnel, Way(decision.route, decision.via))
        if decision.delay:
            await asyncio.sleep(decision.delay)
        if decision.refused:
            log.info("%s: UDP to %s:%d: refused%s", self._client.peer, *self._destination,
                     f" by rule {decision.rule}" if decision.rule else "")
        elif decision.route is not None:
            host, port = self._destination
            flow.server_conn.address = decision.route.host or host, decision.route.port or port
        return not decision.refused

    async def _serve(self) -> None:
        flow = self.flow
        try:
            if self._addons.active(UdpStartHook):
                await self._addons.fire(UdpStartHook(flow))
                check(flow)
            await self._connect()
            await self._work()
        except Stopped:
            self.refused = True
        except (UpstreamError, ConnectionError) as exc:
            flow.error = flow.error or Error(str(exc))
        except BaseException as exc:
            if str(exc) or not self._finishing:
                flow.error = flow.error or Error(str(exc) or "cancelled")
            raise
        finally:
            await self._finish()

    # --- messages ---------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        """Send what arrives and what is injected, until it is silent. Raises Stopped, ConnectionError."""
        flow = self.flow
        flow.on_kill = flow.on_speak = self._arrived.set
        while True:
            check(flow)
            if self._failure is not None:
                raise ConnectionError(f"{host_for_url(self._destination[0])}:{self._destination[1]}: nobody listens")
            if self._waiting and not flow.closing:
                message = self._waiting.popleft()
                self._waiting_bytes -= len(message.content) + _PER_DATAGRAM
                await self._show(message)
            elif flow.outbox:
                await self._show(flow.outbox.pop(0))
                if self._addons.active(UpdateHook):
                    await self._addons.fire(UpdateHook([flow]))
                await asyncio.sleep(0)  # a handler that always adds one must not stop the proxy
            elif flow.closing:
                self.refused = True
                return
            elif self._finishing or not await self._something():
                return

    async def _show(self, message: UDPMessage) -> None:
        flow = self.flow
        if self._addons.active(UdpMessageHook):
            flow.remember(message)
            await self._addons.fire(UdpMessageHook(flow))
            check(flow)
            self._last = self._loop.time()
        if not message.dropped:
            self._send(message.content, message.from_client)

    async def _something(self) -> bool:
        """Wait until there is something to do. False: it was silent for too long."""
        self._arrived.clear()
        self._busy = False
        try:
            while not self._arrived.is_set():
                patience = self._core.settings.udp_timeout
                silent_until = self._last + (min(patience, QUIET_SECONDS) if self._stale else patience)
                if silent_until <= self._loop.time():
                    return False
                try:
                    async with asyncio.timeout_at(silent_until):
                        await self._arrived.wait()
                except TimeoutError:  # datagrams that nobody looked at may have passed meanwhile
                    continue
        finally:
            self._busy = True
        return True

    def _send(self, data: bytes, from_client: bool) -> None:
        if not from_client:
            self._answer(data)
        elif self._socket is not None:
            self._socket.send(data)

    # --- the server -------------------------------------------------------------------------------------------

    @property
    def _destination(self) -> Address:
        return self.flow.server_conn.address or ("", 0)

    async def _connect(self) -> None:
        """Find and connect the server; `kill` interrupts it. Raises UpstreamError, ConnectionError, Stopped."""
        flow, addons = self.flow, self._addons
        server = flow.server_conn
        data = ServerConnectionHookData(server, self._client)
        try:
            if addons.active(ServerConnectHook):
                await addons.fire(ServerConnectHook(data))
                if server.error:
                    raise UpstreamError(server.error)
                check(flow)
            await self._open(server)
        except BaseException as exc:
            server.error = server.error or str(exc) or "cancelled"
            server.timestamp_end = time.time()
            if addons.active(ServerConnectErrorHook):
                await addons.fire(ServerConnectErrorHook(data))
            raise
        if addons.active(ServerConnectedHook):
            await addons.fire(ServerConnectedHook(data))

    async def _open(self, server: Server) -> None:
        host, port = self._destination
        watchdog = Watchdog()
        self.flow.on_kill = lambda: watchdog.interrupt(Stopped())
        try:
            found = await watchdog.wait(Connector(self._core).addresses(self._client, host, port))
        finally:
            self.flow.on_kill = None
            watchdog.close()
        usable = [address for address in found if not self._is_own(address, port)]
        if not usable:
            raise UpstreamError(f"{host_for_url(host)}:{port} is this proxy itself")
        server.timestamp_start = time.time()
        try:
            sock = self._socket = UdpSocket((usable[0], port), self._receive, self._failed)
        except OSError as exc:
            raise UpstreamError(f"{host_for_url(host)}:{port}: {exc.strerror or exc}") from exc
        server.peername, server.sockname = sock.peername, sock.sockname
        server.timestamp_tcp_setup = time.time()
        server.state = ConnectionState.OPEN

    def _is_own(self, address: str, port: int) -> bool:
        """Datagrams to our own listener would come back as those of a new client, without end."""
        host, own_port = self._listening
        return port == own_port and (address == host or (ip_address(host).is_unspecified and is_local(address)))

    def _receive(self, data: bytes) -> None:
        self.take(data, from_client=False)

    def _failed(self, exc: OSError) -> None:
        self._failure = exc
        self._arrived.set()

    async def _finish(self) -> None:
        flow, addons = self.flow, self._addons
        flow.live = False
        flow.on_kill = flow.on_speak = None
        server = flow.server_conn
        if self._socket is not None:
            self._socket.close()
            self._socket = None  # which knows us
        if flow.error is None:
            if addons.active(UdpEndHook):
                await addons.fire(UdpEndHook(flow))
        else:
            log.info("%s: UDP to %s:%d: %s", self._client.peer, *self._destination, flow.error)
            if addons.active(UdpErrorHook):
                await addons.fire(UdpErrorHook(flow))
        if server.state is ConnectionState.OPEN:
            server.state = ConnectionState.CLOSED
            server.timestamp_end = time.time()
            if addons.active(ServerDisconnectedHook):
                await addons.fire(ServerDisconnectedHook(ServerConnectionHookData(server, self._client)))
