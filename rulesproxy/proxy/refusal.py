"""Answers that no hook sees: what is not a proper request to this proxy, and the proxy's own pages."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from rulesproxy.codecs.http1 import Identity, ProtocolError, RequestHead
from rulesproxy.model.http import Request, Response
from rulesproxy.model.pages import error_response
from rulesproxy.proxy.bodies import send_whole
from rulesproxy.proxy.failures import error_page
from rulesproxy.proxy.framing import NOTHING_RECEIVED, UNREADABLE, whole_response_framing
from rulesproxy.proxy.scope import Scope
from rulesproxy.proxy.sides import ClientSide
from rulesproxy.proxy.virtual_host import VIRTUAL_HOST

if TYPE_CHECKING:
    from rulesproxy.proxy.session import Session

log = logging.getLogger("rulesproxy")


async def send_page(session: Session, client: ClientSide, head: RequestHead | None, page: Response) -> bool:
    """Send a response that belongs to no exchange. True if the connection can carry another request.

    Without `head` the request could not be read, so the connection is over. Raises ClientGone.
    """
    framing = whole_response_framing(head or UNREADABLE, page)
    keep_alive = head is not None and head.keep_alive and client.body_complete and not session.ending
    writer = client.begin(page, framing, NOTHING_RECEIVED, last=not keep_alive)
    await send_whole(writer, page, framing)
    return keep_alive


async def refuse_malformed(session: Session, client: ClientSide, error: ProtocolError) -> None:
    """RFC 9112 §11.2: nothing on this connection can be trusted any more. The caller closes it."""
    log.warning("%s: malformed request: %s", session.client.peer, error.message)
    page = error_page(error, None)
    if page is not None:
        await send_page(session, client, None, page)


def own_answer(session: Session, scope: Scope, identity: Identity, request: Request) -> Response | None:
    """The answer to a request that must not go anywhere; None for a proper one."""
    tunnel = scope.tunnel
    virtual_host = session.core.virtual_host
    if tunnel is not None:
        if tunnel.host == VIRTUAL_HOST and not scope.decrypted and virtual_host is not None:  # by SOCKS
            return virtual_host.respond(request)
        if scope.reverse and identity.form == "authority":  # CONNECT would make a proxy of us
            return error_response(405, "Method not allowed", "This is a web server, not a proxy.", request=request)
        if identity.host == scope.name or scope.takes_any_host:
            return None
        return _misdirected(session, scope, identity, request)
    if identity.host == VIRTUAL_HOST and identity.form == "absolute" and virtual_host is not None:
        if identity.scheme == "http":
            return virtual_host.respond(request)
        return error_response(403, "Not available over TLS", f"{VIRTUAL_HOST} is answered by the proxy itself.",
                              request=request, hint=f"Open http://{VIRTUAL_HOST}/ instead.")
    if identity.form == "absolute":
        return None
    return error_response(
        400, "This is a proxy", "The request was sent to the proxy as if it were a web server.", request=request,
        hint=f"Configure this address as the HTTP proxy of your client; then http://{VIRTUAL_HOST}/ shows its state.")


def _misdirected(session: Session, scope: Scope, identity: Identity, request: Request) -> Response | None:
    """Host names another server than the tunnel (rule-language 2.4): 421, or a warning."""
    if session.core.settings.identity == "warn":
        log.warning("%s: Host is %s in a tunnel to %s", session.client.peer, identity.host, scope.name)
        return None
    log.warning("%s: refused: Host is %s in a tunnel to %s", session.client.peer, identity.host, scope.name)
    return error_response(
        421, "Misdirected request", f"The request is for {identity.host}, but the tunnel is for {scope.name}.",
        request=request, hint="--set identity=warn lets such requests pass; rules then match the request's host.")
