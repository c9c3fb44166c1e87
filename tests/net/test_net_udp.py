"""UDP sockets, on both event loops: empty datagrams, ICMP errors, closing."""

from __future__ import annotations

import asyncio
import socket

import pytest

from rulesproxy.net.udp import Peer, UdpSocket, listen_udp


async def test_a_listener_and_a_connected_socket_exchange_datagrams_even_empty_ones() -> None:
    heard: asyncio.Queue[tuple[bytes, Peer]] = asyncio.Queue()
    answers: asyncio.Queue[bytes] = asyncio.Queue()
    listener = await listen_udp("127.0.0.1", 0, lambda data, peer: heard.put_nowait((data, peer)))
    sock = UdpSocket(listener.address, answers.put_nowait, lambda error: None)
    try:
        assert sock.peername == listener.address
        for data in (b"data", b"", bytes(60000)):
            sock.send(data)
            received, peer = await heard.get()
            assert (received, peer[:2]) == (data, sock.sockname)
            listener.send(data, peer)
            assert await answers.get() == data
    finally:
        sock.close()
        await listener.aclose()


async def test_a_port_where_nobody_listens_is_reported() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        address = taken.getsockname()
    failures: asyncio.Queue[OSError] = asyncio.Queue()
    sock = UdpSocket(address, lambda data: None, failures.put_nowait)
    try:
        sock.send(b"anybody?")
        assert isinstance(await failures.get(), ConnectionRefusedError)
    finally:
        sock.close()


async def test_a_socket_may_be_closed_by_its_receiver_and_twice() -> None:
    received: list[bytes] = []
    peers: asyncio.Queue[Peer] = asyncio.Queue()
    listener = await listen_udp("127.0.0.1", 0, lambda data, peer: peers.put_nowait(peer))
    closed = asyncio.Event()

    def receive(data: bytes) -> None:
        received.append(data)
        sock.close()
        closed.set()

    sock = UdpSocket(listener.address, receive, lambda error: None)
    sock.send(b"")
    peer = await peers.get()
    for _ in range(3):
        listener.send(b"more", peer)
    await closed.wait()
    await asyncio.sleep(0)
    sock.close()
    assert received == [b"more"]
    sock.send(b"lost")  # and no exception
    await listener.aclose()


async def test_a_taken_port_is_an_error() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match="in use"):
            await listen_udp("127.0.0.1", taken.getsockname()[1], lambda data, peer: None)
