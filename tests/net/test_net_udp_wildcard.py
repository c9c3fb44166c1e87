"""UDP on every address: answers come from the address that was asked."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from rulesproxy.addons.manager import AddonManager
from rulesproxy.addons.options import Options
from rulesproxy.model.dns import DNSFlow, ResourceRecord
from rulesproxy.net.dns_forward import Forwarder
from rulesproxy.net.udp import Peer, UdpListener, UdpSocket, listen_udp
from rulesproxy.net.udp_wildcard import AVAILABLE
from rulesproxy.proxy.dns.server import DnsServer
from tests.support.tools import run_tool

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="only Linux tells which address was asked")


async def listen(host: str, receive: Any) -> UdpListener:
    try:
        return await listen_udp(host, 0, receive)
    except OSError as exc:
        pytest.skip(f"this machine has no {host}: {exc}")


@pytest.mark.parametrize(("host", "asked"), [("0.0.0.0", "127.0.0.1"), ("0.0.0.0", "127.0.0.7"), ("::", "::1"),
                                             ("::", "::ffff:127.0.0.9")])
async def test_the_answer_comes_from_the_address_that_was_asked(host: str, asked: str) -> None:
    """The socket that asks is connected: the system drops what comes from elsewhere."""
    answers: asyncio.Queue[bytes] = asyncio.Queue()
    listener: UdpListener = await listen(host, lambda data, peer: listener.send(data.upper(), peer))
    sock = UdpSocket((asked, listener.address[1]), answers.put_nowait, lambda error: None)
    try:
        for data in (b"data", b"", bytes(60000)):
            sock.send(data)
            async with asyncio.timeout(5):
                assert await answers.get() == data.upper()
    finally:
        sock.close()
        await listener.aclose()


async def test_one_client_that_asks_two_addresses_is_two_peers() -> None:
    heard: asyncio.Queue[Peer] = asyncio.Queue()
    listener = await listen("0.0.0.0", lambda data, peer: heard.put_nowait(peer))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind(("127.0.0.1", 0))
        try:
            peers = []
            for asked in ("127.0.0.1", "127.0.0.2", "127.0.0.1"):
                client.sendto(b"x", (asked, listener.address[1]))
                async with asyncio.timeout(5):
                    peers.append(await heard.get())
        finally:
            await listener.aclose()
        assert {peer[:2] for peer in peers} == {client.getsockname()}
    assert peers[0] == peers[2] != peers[1]


async def test_what_cannot_be_sent_is_lost_and_closing_twice_is_nothing() -> None:
    heard: asyncio.Queue[Peer] = asyncio.Queue()
    listener = await listen("0.0.0.0", lambda data, peer: heard.put_nowait(peer))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"x", ("127.0.0.1", listener.address[1]))
        async with asyncio.timeout(5):
            peer = await heard.get()
        listener.send(bytes(70000), peer)  # larger than any datagram
        listener.send(b"y", peer)
        client.settimeout(5)
        assert client.recv(100) == b"y"
    await listener.aclose()
    await listener.aclose()
    listener.send(b"z", peer)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
        again.bind(listener.address)  # the port is free


async def test_a_client_that_has_gone_does_not_stop_the_others() -> None:
    heard: asyncio.Queue[tuple[bytes, Peer]] = asyncio.Queue()
    listener = await listen("0.0.0.0", lambda data, peer: heard.put_nowait((data, peer)))
    try:
        for data in (b"first", b"second"):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.sendto(data, ("127.0.0.1", listener.address[1]))
                async with asyncio.timeout(5):
                    found, peer = await heard.get()
            assert found == data
            listener.send(b"too late", peer)
    finally:
        await listener.aclose()


async def test_dig_hears_a_server_on_every_address() -> None:
    class Answer:
        def dns_request(self, flow: DNSFlow) -> None:
            flow.response = flow.request.succeed([ResourceRecord.A("a.test", "192.0.2.1")])

    manager = AddonManager(Options())
    manager.add(Answer())
    server = DnsServer(manager, Forwarder())
    await server.start("0.0.0.0", 0)
    try:
        for asked in ("127.0.0.1", "127.0.0.53"):
            done = await run_tool("dig", f"@{asked}", "-p", str(server.address[1]), "+short", "+tries=1", "+time=5",
                                  "a.test")
            assert done.text == "192.0.2.1\n"
    finally:
        await server.stop()
