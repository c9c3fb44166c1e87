"""How a connection begins, by its listener's mode: regular, upstream, reverse, transparent. (SOCKS is in socks.py.)

In: a connection just accepted, and the mode of its listener. Out: the connection served, with a `Scope` that says
where it leads. Where that is known when it is accepted, connect rules are asked then, as for a CONNECT; no hook fires
for it. Nothing is dialled here.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from rulesproxy.codecs.detect import Protocol, detect
from rulesproxy.codecs.http1 import serialize_response
from rulesproxy.model.connection import Address
from rulesproxy.model.effects import Drop, Via
from rulesproxy.model.names import host_for_url, is_ip
from rulesproxy.model.pages import error_response
from rulesproxy.model.tls import Tunnel
from rulesproxy.model.via import parse_auth
from rulesproxy.net.peek import PeekableStream
from rulesproxy.net.transparent import original_destination
from rulesproxy.proxy.framing import CLOSE_FIELD, sized, with_framing
from rulesproxy.proxy.grant import Grant, Way
from rulesproxy.proxy.modes import Mode
from rulesproxy.proxy.scope import Scope
from rulesproxy.proxy.tls import ACCESS_DENIED, serve_tls

if TYPE_CHECKING:
    from rulesproxy.proxy.session import Session

log = logging.getLogger("rulesproxy")

#: How long a refused client may take to show what it speaks, so that it can be told in its own protocol.
_LISTEN_SECONDS = 1.0


async def serve_regular(session: Session, stream: PeekableStream, mode: Mode) -> None:
    """The proxy port."""
    await session.serve(stream, Scope())


async def serve_upstream(session: Session, stream: PeekableStream, mode: Mode) -> None:
    """The proxy port, but what no rule decides on goes through another proxy."""
    host, port = _destination(mode)
    auth = session.core.settings.upstream_auth
    via = Via(mode.scheme, host, port, parse_auth(auth) if auth else None)
    await session.serve(stream, Scope(via=via))


async def serve_reverse(session: Session, stream: PeekableStream, mode: Mode) -> None:
    """We are the server, to everybody who connects; what is behind us is the mode's destination."""
    scope = await ask(session, stream, _destination(mode), _say_no)
    if scope is None:
        return
    scope.reverse = mode.scheme
    if mode.scheme == "tls":  # what is inside is raw, but the TLS is ours to end
        await serve_tls(session, stream, scope)
    else:
        await session.serve(stream, scope)


async def serve_transparent(session: Session, stream: PeekableStream, mode: Mode) -> None:
    """The client does not know of us: the kernel says where it wanted to go."""
    core, client = session.core, session.client
    destination = original_destination(session.stream)
    if destination is None or core.is_own_address(*destination):
        log.warning("%s: closed: the connection to %s was not redirected from anywhere; transparent mode is for "
                    "connections that the firewall redirects here", client.peer, client.listener)
        return
    scope = await ask(session, stream, destination, _say_no)
    if scope is not None:
        scope.unnamed = is_ip(destination[0])
        await session.serve(stream, scope)


async def ask(session: Session, stream: PeekableStream, destination: Address,
              say_no: Callable[[PeekableStream, str], Awaitable[None]]) -> Scope | None:
    """Have connect rules decide about a tunnel that no CONNECT asked for. None: it is refused.

    `say_no` is awaited with the stream and the rule, to refuse in the protocol that the client speaks.
    """
    tunnel = Tunnel(session.client, *destination)
    decision = session.core.addons.policy.tunnel_decision(tunnel)
    if decision.delay:
        await session.watchdog.wait(asyncio.sleep(decision.delay))
    way = Way(decision.route, decision.via)
    if not decision.refused:
        session.grant = Grant(tunnel, way)
        return Scope(tunnel=tunnel, destination=destination, way=way)
    log.info("%s to %s:%d: refused%s", session.client.peer, host_for_url(tunnel.host), tunnel.port,
             f" by rule {decision.rule}" if decision.rule else "")
    match decision.drop:
        case Drop.RESET:
            stream.abort()
        case Drop.HANG:
            await session.hang(stream)
        case None:
            await say_no(stream, decision.rule or "")
        case Drop.CLOSE:
            pass
    return None


async def _say_no(stream: PeekableStream, rule: str) -> None:
    """Rule-language 3.1: a TLS alert, a page, or no more than the end."""
    try:
        async with asyncio.timeout(_LISTEN_SECONDS):
            protocol = detect(await stream.peek(2))
    except TimeoutError:
        return
    if protocol is Protocol.TLS:
        await stream.write(ACCESS_DENIED)
    elif protocol is Protocol.HTTP1:
        page = error_response(403, "Blocked", "A rule of this proxy blocks this connection.", rule=rule)
        body = page.raw_content or b""
        fields = (*with_framing(page.headers.fields, sized(len(body))), CLOSE_FIELD)
        await stream.read(sys.maxsize)  # what is unread when we close would reset the connection under the page
        await stream.write(serialize_response(page.status_code, page.reason, fields) + body)
    await stream.write_eof()


def _destination(mode: Mode) -> Address:
    assert mode.destination is not None
    return mode.destination
