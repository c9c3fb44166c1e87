"""Two machines on one: network namespaces of a client and of the router in front of it, joined by a cable.

The router redirects whatever TCP the client sends through it to a port of its own, and has addresses of "the internet"
on its loopback, so that servers there are reached only from the router itself.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count

import pytest

from tests.support.tools import Completed, require_tool, run_tool

#: TEST-NET-3 and the documentation prefix (RFC 5737, RFC 3849): the router's side of the cable, and beyond it.
CLIENT, ROUTER, SERVER = "192.0.2.2", "192.0.2.1", "203.0.113.5"
CLIENT6, ROUTER6, SERVER6 = "2001:db8:1::2", "2001:db8:1::1", "2001:db8:5::5"

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Network:
    client: str
    router: str

    @property
    def on_router(self) -> tuple[str, ...]:
        """What to put in front of a command that shall run there."""
        return ("ip", "netns", "exec", self.router)

    async def curl(self, *arguments: str) -> Completed:
        """curl on the client's machine."""
        return await run_tool("ip", "netns", "exec", self.client, require_tool("curl"), "-q", "-sS", "--noproxy", "*",
                              "--max-time", "15", *arguments)


@asynccontextmanager
async def run_network(redirect_to: int) -> AsyncIterator[Network]:
    """Skips the test where namespaces cannot be made: that needs root, and a kernel that lets it."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to make network namespaces")
    require_tool("ip")
    require_tool("iptables")
    number = f"{os.getpid()}-{next(_numbers)}"
    network = Network(f"client-{number}", f"router-{number}")
    try:
        if (await run_tool("ip", "netns", "add", network.client)).code:
            pytest.skip("needs a kernel that lets root make network namespaces")
        await _build(network, redirect_to)
        yield network
    finally:
        for name in (network.client, network.router):
            await run_tool("ip", "netns", "delete", name)
        await asyncio.sleep(0)


async def _build(network: Network, redirect_to: int) -> None:
    client, router = network.client, network.router
    lines = [
        f"ip netns add {router}",
        f"ip link add cable netns {client} type veth peer name cable netns {router}",
        *(f"ip -n {name} link set {device} up" for name in (client, router) for device in ("lo", "cable")),
        f"ip -n {client} addr add {CLIENT}/24 dev cable",
        f"ip -n {router} addr add {ROUTER}/24 dev cable",
        f"ip -n {router} addr add {SERVER}/32 dev lo",
        f"ip -n {client} route add default via {ROUTER}",
        f"ip -n {client} -6 addr add {CLIENT6}/64 dev cable nodad",
        f"ip -n {router} -6 addr add {ROUTER6}/64 dev cable nodad",
        f"ip -n {router} -6 addr add {SERVER6}/128 dev lo nodad",
        f"ip -n {client} -6 route add default via {ROUTER6}",
        *(f"ip netns exec {router} {tables} -t nat -A PREROUTING -i cable -p tcp ! -d {own} -j REDIRECT "
          f"--to-ports {redirect_to}" for tables, own in (("iptables", ROUTER), ("ip6tables", ROUTER6))),
    ]
    for line in lines:
        name, *arguments = line.split()
        done = await run_tool(name, *arguments)
        if done.code:
            pytest.skip(f"needs a kernel for `{line}`: {done.err.decode().strip()}")
