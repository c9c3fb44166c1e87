"""What a client speaks on a stream that was just opened, or who speaks first.

In: a stream nobody has read from, and its scope. Out: the protocol to serve, nothing consumed; None when there is
nothing to serve. On the proxy port, and for a reverse
proxy of HTTP, everything is HTTP, inside TLS or not. In a tunnel whose client is silent for a moment the server is
connected too, and whoever speaks first decides: a silent start does not get a client around the rules.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING

from rulesproxy.codecs.detect import Protocol, detect
from rulesproxy.net.peek import PeekableStream
from rulesproxy.proxy.relay import open_origin
from rulesproxy.proxy.scope import Scope
from rulesproxy.proxy.upstream.target import UpstreamError

if TYPE_CHECKING:
    from rulesproxy.proxy.session import Session

log = logging.getLogger("rulesproxy")

#: A client that is silent for so long in a new tunnel may be waiting for the server to speak (docs/addons.md).
SERVER_FIRST_SECONDS = 0.25
_PREFACE = b"PRI * HTTP/2"  # RFC 9113 §3.4
_SOCKS_VERSIONS = (b"\x04", b"\x05")
#: Close enough to a request for some server to take it for one: it must not pass as another protocol.
_HTTP_LIKE = re.compile(rb"\s*(?:GET|HEAD|POST|PUT|DELETE|OPTIONS|TRACE|PATCH)\b", re.IGNORECASE)


async def detect_protocol(session: Session, stream: PeekableStream, scope: Scope) -> Protocol | None:
    """Raises ConnectionClosed when the client resets the connection."""
    if scope.tunnel is None or scope.reverse:
        return await _on_listener(session, stream, scope)
    try:
        prefix = await session.watchdog.within(_silence_allowed(session, scope), stream.peek())
    except TimeoutError:
        if session.client.alpn is not None or await _client_speaks_first(session, stream, scope):
            prefix = stream.buffered
        else:
            return Protocol.OTHER if scope.opened is not None else None
    if session.client.alpn == b"h2" and scope.decrypted and prefix:
        return Protocol.HTTP2  # whatever it is, it was agreed on
    protocol = await _complete(session, stream, prefix)
    if protocol is Protocol.HTTP2 and not session.core.settings.http2:
        return Protocol.HTTP1  # which refuses it
    if protocol is Protocol.OTHER and (session.client.alpn == b"http/1.1" or _HTTP_LIKE.match(stream.buffered)):
        return Protocol.HTTP1
    return protocol


async def _on_listener(session: Session, stream: PeekableStream, scope: Scope) -> Protocol | None:
    """The proxy port or a reverse proxy for HTTP: the client speaks first, and HTTP, perhaps inside TLS."""
    session.idle = True
    try:
        prefix = await session.watchdog.within(session.core.settings.idle_timeout, stream.peek())
    except TimeoutError:
        return None
    finally:
        session.idle = False
    if prefix[:1] == b"\x16":
        if not session.client.tls:
            return Protocol.TLS
        log.warning("%s begins TLS inside TLS, without a CONNECT", session.client.peer)
        return None
    # No request begins like this, and the client waits for an answer.
    if scope.tunnel is None and prefix[:1] in _SOCKS_VERSIONS:
        log.warning("%s speaks SOCKS to the proxy port; it must be configured with http:// as the proxy's scheme",
                    session.client.peer)
        return None
    if not prefix:
        return None
    return Protocol.HTTP2 if await _is_http2(session, stream, prefix) else Protocol.HTTP1


async def _is_http2(session: Session, stream: PeekableStream, prefix: bytes) -> bool:
    if not session.core.settings.http2:
        return False
    if session.client.alpn == b"h2":
        return True  # whatever it is, it was agreed on
    watchdog = session.watchdog
    deadline = watchdog.now() + session.core.settings.head_timeout
    while len(prefix) < len(_PREFACE) and _PREFACE.startswith(prefix):
        try:
            more = await watchdog.within(deadline - watchdog.now(), stream.peek(len(prefix) + 1))
        except TimeoutError:
            return False
        if len(more) == len(prefix):
            return False
        prefix = more
    return prefix.startswith(_PREFACE)


def _silence_allowed(session: Session, scope: Scope) -> float:
    if scope.decrypted and session.client.alpn is not None:
        return session.core.settings.idle_timeout  # HTTP was agreed on: the server never speaks first
    return SERVER_FIRST_SECONDS


async def _complete(session: Session, stream: PeekableStream, prefix: bytes) -> Protocol | None:
    """Peek until the protocol is certain; None when it does not become so in time."""
    watchdog = session.watchdog
    deadline = watchdog.now() + session.core.settings.head_timeout
    while prefix:
        protocol = detect(prefix)
        if protocol is not None:
            return protocol
        try:
            more = await watchdog.within(deadline - watchdog.now(), stream.peek(len(prefix) + 1))
        except TimeoutError:
            log.info("%s: the client began something in its tunnel and did not go on", session.client.peer)
            return None
        if len(more) == len(prefix):
            return Protocol.OTHER  # that was all it will ever send
        prefix = more
    return None


async def _client_speaks_first(session: Session, stream: PeekableStream, scope: Scope) -> bool:
    """Connect the server and wait for the first word. False: it is the server's, or nobody said anything."""
    settings = session.core.settings
    try:
        server, origin = await open_origin(session, scope)
    except UpstreamError as exc:
        # Whatever the client wanted may not need this server at all: rules can answer instead.
        log.info("tunnel to %s:%d, whose client is silent: %s", *scope.relay_destination, exc)
        try:
            return bool(await session.watchdog.within(settings.head_timeout, stream.peek()))
        except TimeoutError:
            return False
    peekable = PeekableStream(origin)
    scope.opened = (server, peekable)
    client_speaks = asyncio.ensure_future(stream.peek())
    server_speaks = asyncio.ensure_future(peekable.peek())
    waiting = (client_speaks, server_speaks)
    try:
        done, _ = await asyncio.wait(waiting, timeout=settings.idle_timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    if client_speaks in done:
        return True
    if not done:
        await session.core.upstream.close_tunnel(session.client, server, peekable)
        scope.opened = None
    return False
