"""Ways to the protocol under test: connections that reach it through the proxy."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.policy import TlsDecision, TlsVerdict, Tunnel

#: Nothing on the way takes longer.
SECONDS = 10.0

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Intercept:
    """An addon that has all TLS decrypted."""

    def tls_decision(self, tunnel: Tunnel) -> TlsDecision:
        return TlsDecision(TlsVerdict.INTERCEPT)

    def needs_body(self, flow: HTTPFlow, phase: str) -> bool:
        return False


async def open_tunnel(proxy: tuple[str, int], authority: str) -> Streams:
    """A CONNECT tunnel through the proxy."""
    async with asyncio.timeout(SECONDS):
        reader, writer = await asyncio.open_connection(*proxy, limit=1 << 20)
        writer.write(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        writer.close()
        raise ConnectionRefusedError(head.decode("latin-1"))
    return reader, writer


async def start_tls(streams: Streams, name: str, ca: Path, *alpn: str) -> Streams:
    """TLS inside, verified with `ca`. The server must take the first of `alpn`."""
    reader, writer = streams
    context = ssl.create_default_context(cafile=str(ca))
    context.set_alpn_protocols(list(alpn))
    await writer.start_tls(context, server_hostname=name, ssl_handshake_timeout=SECONDS)
    chosen = writer.get_extra_info("ssl_object").selected_alpn_protocol()
    if chosen != alpn[0]:
        writer.close()
        raise ConnectionRefusedError(f"the proxy speaks {chosen}, not {alpn[0]}")
    return reader, writer
