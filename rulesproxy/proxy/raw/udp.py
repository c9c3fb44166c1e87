"""The listener for UDP: which client's datagrams belong to which flow.

In: datagrams on a listening socket, and where they lead. Out: a conversation (udp_flow.py) for each client address,
known by the address its datagrams come from, and answers from the address the client asked.

What cannot be kept is lost, as on any network: there may be only so many flows. A client whose flow was killed or
dropped is not heard until `udp_timeout` has passed.
"""

from __future__ import annotations

import asyncio
import logging

from rulesproxy.model.connection import Address, Client
from rulesproxy.model.names import host_for_url
from rulesproxy.model.udp import UDPFlow
from rulesproxy.net.udp import Peer, UdpListener, listen_udp
from rulesproxy.proxy.core import Core
from rulesproxy.proxy.raw.udp_flow import UdpConversation

#: Flows at a time; each has a socket.
FLOWS = 1000

log = logging.getLogger("rulesproxy")


class UdpProxy:
    """The listener of a `reverse:udp` mode: `start`, then `stop`, in one event loop."""

    def __init__(self, core: Core, mode_name: str, destination: Address, *, limit: int = FLOWS) -> None:
        self._core = core
        self._mode_name = mode_name
        self._destination = destination
        self._limit = limit
        self._limit_reported = False
        #: By where the client is. None: its flow was killed or dropped, and it is not heard.
        self._conversations: dict[Peer, UdpConversation | None] = {}
        self._unheard: set[asyncio.TimerHandle] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._listener: UdpListener
        self.address: Address

    @property
    def flows(self) -> list[UDPFlow]:
        """Those that are open."""
        return [conversation.flow for conversation in self._conversations.values() if conversation is not None]

    async def start(self, host: str, port: int) -> None:
        """Listen on `host:port` (port 0: any free one). Raises OSError when it is taken."""
        self._listener = await listen_udp(host, port, self._datagram)
        self.address = self._listener.address

    async def stop(self, grace: float = 5.0) -> None:
        """Begin nothing new, let every flow send what it has for `grace` seconds, end them all."""
        self._stopping = True
        for conversation in self._conversations.values():
            if conversation is not None:
                conversation.go_away()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        left = tuple(self._tasks)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
        for timer in self._unheard:
            timer.cancel()
        await self._listener.aclose()

    def _datagram(self, data: bytes, peer: Peer) -> None:
        if peer in self._conversations:
            conversation = self._conversations[peer]
            if conversation is not None:
                conversation.take(data, from_client=True)
        elif not self._stopping and self._has_room():
            self._begin(peer).take(data, from_client=True)

    def _has_room(self) -> bool:
        full = len(self._conversations) >= self._limit
        if full and not self._limit_reported:
            log.warning("udp %s:%d: %d flows are open, datagrams of further clients are dropped",
                        *self.address, self._limit)
        self._limit_reported = full
        return not full

    def _begin(self, peer: Peer) -> UdpConversation:
        host, port = self.address
        client = Client(peername=peer[:2], sockname=self.address, transport_protocol="udp", proxy_mode=self._mode_name,
                        listener=f"{host_for_url(host)}:{port}")
        conversation = UdpConversation(self._core, client, self._destination, self.address,
                                       lambda data: self._listener.send(data, peer))
        self._conversations[peer] = conversation
        task = asyncio.get_running_loop().create_task(conversation.run())
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._ended(task, peer, conversation))
        return conversation

    def _ended(self, task: asyncio.Task[None], peer: Peer, conversation: UdpConversation) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (bug := task.exception()) is not None:
            log.error("%r: unexpected error", conversation.flow, exc_info=bug)
        if not conversation.refused or self._stopping:
            del self._conversations[peer]
            return
        self._conversations[peer] = None

        def hear() -> None:
            self._unheard.discard(timer)
            del self._conversations[peer]

        timer = asyncio.get_running_loop().call_later(self._core.settings.udp_timeout, hear)
        self._unheard.add(timer)
