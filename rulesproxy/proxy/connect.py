"""CONNECT: a tunnel is asked for.

In: the head of a CONNECT request. Out: the stream in the tunnel and its `Scope`, or None when it was refused (the
answer is sent by then). Nothing is dialled here: what comes first through the tunnel decides whether the server is
needed at all.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rulesproxy.addons.hooks import Hook
from rulesproxy.codecs.http1 import Identity, RequestHead
from rulesproxy.model.connection import Server
from rulesproxy.model.effects import Drop, Via
from rulesproxy.model.flow import Error, HTTPFlow
from rulesproxy.model.headers import Headers
from rulesproxy.model.http import Request, Response
from rulesproxy.model.names import host_for_url
from rulesproxy.model.pages import error_response
from rulesproxy.model.tls import Tunnel
from rulesproxy.net.peek import PeekableStream
from rulesproxy.proxy.grant import Grant, Way
from rulesproxy.proxy.refusal import send_page
from rulesproxy.proxy.scope import Scope
from rulesproxy.proxy.sides import ClientGone, ClientSide
from rulesproxy.proxy.virtual_host import VIRTUAL_HOST

if TYPE_CHECKING:
    from rulesproxy.proxy.session import Session

log = logging.getLogger("rulesproxy")

_FOREVER = 1 << 62
#: Tunnels in tunnels are served by recursion, and each is paid for here.
_DEEPEST = 8


@dataclass(slots=True)
class HttpConnectHook(Hook):
    """CONNECT received. `request.host`/`port` or `route` move the tunnel; a response that is not 2xx refuses it."""

    flow: HTTPFlow


@dataclass(slots=True)
class HttpConnectedHook(Hook):
    """The tunnel was granted."""

    flow: HTTPFlow


@dataclass(slots=True)
class HttpConnectErrorHook(Hook):
    """The tunnel was refused."""

    flow: HTTPFlow


async def open_tunnel(session: Session, client: ClientSide, head: RequestHead, identity: Identity,
                      via: Via | None = None) -> tuple[PeekableStream, Scope] | None:
    """Answer a CONNECT. None: refused, and the connection goes on if `head.keep_alive` and it is still open.

    `via` is the proxy to go through where no rule has a say.
    """
    host, port = identity.host, identity.port
    flow = HTTPFlow(session.client, Server((host, port)))
    flow.request = Request("CONNECT", "", host, port, "", Headers(head.fields), b"", head.version,
                           f"{host_for_url(host)}:{port}")
    page = _own_answer(session, flow.request)
    if page is not None:
        await send_page(session, client, head, page)
        return None
    addons = session.core.addons
    if addons.active(HttpConnectHook):
        await addons.fire(HttpConnectHook(flow))
    if flow.pacing is not None:
        await asyncio.sleep(flow.pacing.request)
    if flow.error is not None or flow.drop is not None or (flow.response is not None and not _success(flow.response)):
        await _refuse(session, client, head, flow)
        return None
    flow.response = flow.response or Response(200, "Connection established", Headers(), b"")
    try:
        stream = await client.switch(Response(200, "Connection established", Headers(), b""))
    except ClientGone as exc:
        flow.error = Error(str(exc))
        await _refuse(session, client, head, flow)
        return None
    try:
        if addons.active(HttpConnectedHook):
            await addons.fire(HttpConnectedHook(flow))
    finally:
        flow.live = False
    if flow.error is not None:  # granted, and killed before anything went through it
        log.info("CONNECT %s: %s", flow.request.authority, flow.error)
        await client.end()
        return None
    session.depth += 1
    tunnel = Tunnel(session.client, host, port, pinned=flow.pinned)
    session.grant = Grant(tunnel, Way(flow.route if flow.route is not None and flow.route.rule else None,
                                      flow.via if flow.via is not None and flow.via.rule else None))
    return stream, Scope(tunnel=tunnel, destination=(flow.request.host, flow.request.port),
                         way=Way(flow.route, flow.via), via=via)


def _own_answer(session: Session, request: Request) -> Response | None:
    """The answer to a CONNECT that no hook sees; None for a proper one."""
    if request.host == VIRTUAL_HOST:
        return error_response(
            403, "Not available over TLS", f"{VIRTUAL_HOST} is answered by the proxy itself.", request=request,
            hint=f"Open http://{VIRTUAL_HOST}/ instead.")
    if session.depth >= _DEEPEST:
        log.warning("%s: CONNECT %s: refused: the tunnels are too deep", session.client.peer, request.authority)
        return error_response(
            403, "Too many tunnels", f"This would be a tunnel in {_DEEPEST} others.", request=request)
    return None


def _success(response: Response) -> bool:
    return 200 <= response.status_code < 300


async def _refuse(session: Session, client: ClientSide, head: RequestHead, flow: HTTPFlow) -> None:
    addons = session.core.addons
    reason = f" by rule {flow.rule}" if flow.rule else ""
    log.info("CONNECT %s: %s", flow.request.authority, flow.error or f"refused{reason}")
    if flow.error is None and flow.drop is not None:
        flow.error = Error(f"Connection dropped{reason}.")
    if addons.active(HttpConnectErrorHook):
        await addons.fire(HttpConnectErrorHook(flow))
    flow.live = False
    if flow.error is None and flow.response is not None:
        await send_page(session, client, head, flow.response)
        return
    if flow.drop is Drop.HANG:
        await client.discard_input(_FOREVER, session.core.settings.idle_timeout)
    if flow.drop is Drop.RESET:
        client.abort()
    else:
        await client.end()
