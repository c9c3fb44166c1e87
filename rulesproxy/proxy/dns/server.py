"""The DNS server: queries over UDP and TCP on one port, answered by addons or by other resolvers.

Theory of operation. Datagrams and frames come in; each that is a query becomes a flow and a task that runs the
exchange and sends its answer. A query is known by (client, id, question) while it is in work: asking again meanwhile
starts nothing, the one answer serves both. NOTIFY, UPDATE and the like are known by all their octets, as the question
does not tell two updates apart. Malformed ones are answered at once, without a flow. Clients are one object per TCP
connection, with the connection hooks, and one per UDP peer, of which the latest are remembered.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any

from rulesproxy.addons.manager import AddonManager
from rulesproxy.codecs.dns import BadQuery, parse_query
from rulesproxy.model.connection import Address, Client, ConnectionState, Server, TransportProtocol
from rulesproxy.model.dns import DNSFlow, DNSMessage
from rulesproxy.model.dns_types import op_codes, response_codes
from rulesproxy.model.names import host_for_url
from rulesproxy.net.dns_forward import Forwarder
from rulesproxy.net.tcp import Listener, TCPStream, listen
from rulesproxy.net.udp import Peer, UdpListener, listen_udp
from rulesproxy.proxy.client_hooks import ClientConnectedHook, ClientDisconnectedHook
from rulesproxy.proxy.dns.exchange import exchange
from rulesproxy.proxy.dns.tcp import NotDns, TcpConversation

IDLE_SECONDS = 10.0
_PEERS_KEPT = 1024
_BIND_ATTEMPTS = 10

log = logging.getLogger("rulesproxy")

_Key = tuple[Client, int, tuple[str, int, int] | bytes]
_Send = Callable[[bytes], Coroutine[Any, Any, None]]


class DnsServer:
    """`start`, then `stop`. Beyond `in_flight` queries in work, further ones are dropped (TCP: SERVFAIL)."""

    def __init__(self, addons: AddonManager, forwarder: Forwarder, *, idle_timeout: float = IDLE_SECONDS,
                 in_flight: int = 2000, connections: int = 1000, mode: str = "dns") -> None:
        self._addons = addons
        self._forwarder = forwarder
        self._idle_timeout = idle_timeout
        self._mode = mode
        self._in_flight_limit = in_flight
        self._connection_limit = connections
        self._in_flight: dict[_Key, asyncio.Task[None]] = {}
        self._peers: OrderedDict[Peer, Client] = OrderedDict()
        self._conversations: set[TcpConversation] = set()
        self._stopping = False
        self._overflowing = False
        self._tcp: Listener
        self._udp: UdpListener
        self.address: Address

    # --- life ------------------------------------------------------------------------------------------------

    async def start(self, host: str, port: int) -> None:
        """Listen on `host:port` (port 0: one that is free for both). Raises OSError when it is taken."""
        for attempt in range(_BIND_ATTEMPTS):
            self._tcp = await listen(host, port, self._serve_connection, limit=self._connection_limit)
            self.address = self._tcp.address
            try:
                self._udp = await listen_udp(*self.address, self._datagram)
            except OSError as exc:
                await self._tcp.wait_closed(0)
                if port or exc.errno != errno.EADDRINUSE or attempt == _BIND_ATTEMPTS - 1:
                    raise
            else:
                break
        self._forwarder.exclude(self.address)

    async def stop(self, grace: float = 5.0) -> None:
        """Take no more queries, give those in work `grace` seconds, then drop them."""
        deadline = asyncio.get_running_loop().time() + grace
        self._stopping = True
        self._tcp.close_accepting()
        for conversation in self._conversations:
            conversation.finish()
        if self._in_flight:
            await asyncio.wait(self._in_flight.values(), timeout=grace)
        left = list(self._in_flight.values())
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
        await self._tcp.wait_closed(max(0.0, deadline - asyncio.get_running_loop().time()))
        await self._udp.aclose()
        self._forwarder.include(self.address)

    # --- queries ---------------------------------------------------------------------------------------------

    def _begin(self, query: DNSMessage, wire: bytes, client: Client, send: _Send) -> asyncio.Task[None] | None:
        """Start work on a query, unless the same one is in work already."""
        key = client, query.id, query.questions[0].key if query.op_code == op_codes.QUERY else wire
        if key in self._in_flight:
            return None
        task = asyncio.get_running_loop().create_task(self._answer(client, query, wire, send))
        self._in_flight[key] = task
        # A callback, because a task that is cancelled before it ran has no `finally` to run.
        task.add_done_callback(lambda _: self._in_flight.pop(key, None))
        return task

    async def _answer(self, client: Client, query: DNSMessage, wire: bytes, send: _Send) -> None:
        flow = DNSFlow(client, Server(transport_protocol=client.transport_protocol), query)
        answer = await exchange(self._addons, self._forwarder, flow, wire)
        if answer is not None:
            await send(answer)

    def _full(self) -> bool:
        full = len(self._in_flight) >= self._in_flight_limit
        if full and not self._overflowing:
            log.warning("dns: %d queries are in work, further ones are refused", self._in_flight_limit)
        self._overflowing = full
        return full

    # --- UDP -------------------------------------------------------------------------------------------------

    def _datagram(self, data: bytes, peer: Peer) -> None:
        if self._stopping or self._full():
            return
        try:
            query = parse_query(data)
        except BadQuery as exc:
            log.debug("dns: from %s: %s", peer[0], exc)
            if exc.answer is not None:
                self._udp.send(exc.answer, peer)
            return

        async def send(answer: bytes) -> None:
            self._udp.send(answer, peer)

        self._begin(query, data, self._peer(peer), send)

    def _peer(self, peer: Peer) -> Client:
        client = self._peers.get(peer)
        if client is None:
            client = self._peers[peer] = self._client(peer[:2], "udp")
            if len(self._peers) > _PEERS_KEPT:
                _, oldest = self._peers.popitem(last=False)
                _end(oldest)
        else:
            self._peers.move_to_end(peer)
        return client

    # --- TCP -------------------------------------------------------------------------------------------------

    async def _serve_connection(self, stream: TCPStream) -> None:
        client = self._client(stream.peername, "tcp")
        await self._addons.fire(ClientConnectedHook(client))
        try:
            if client.error is None:
                await self._converse(stream, client)
        finally:
            _end(client)
            await self._addons.fire(ClientDisconnectedHook(client))

    async def _converse(self, stream: TCPStream, client: Client) -> None:
        def begin(message: bytes, send: _Send) -> asyncio.Task[None] | None:
            try:
                query = parse_query(message)
            except BadQuery as exc:
                if exc.answer is None:
                    raise NotDns(str(exc)) from None
                return asyncio.get_running_loop().create_task(send(exc.answer))
            if self._full():
                return asyncio.get_running_loop().create_task(send(query.fail(response_codes.SERVFAIL).packed))
            return self._begin(query, message, client, send)

        conversation = TcpConversation(stream, begin, self._idle_timeout)
        self._conversations.add(conversation)
        if self._stopping:
            conversation.finish()
        try:
            await conversation.run()
        finally:
            self._conversations.discard(conversation)

    def _client(self, peername: Address | None, transport: TransportProtocol) -> Client:
        host, port = self.address
        return Client(peername=peername, sockname=self.address, transport_protocol=transport, proxy_mode=self._mode,
                      listener=f"{host_for_url(host)}:{port}")


def _end(client: Client) -> None:
    client.state = ConnectionState.CLOSED
    client.timestamp_end = time.time()

