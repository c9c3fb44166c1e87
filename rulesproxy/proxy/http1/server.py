"""The requests of one HTTP/1 connection, one after the other.

In: a stream on which a client speaks HTTP/1, and its scope. Out: exchanges, each with a flow of its own, answered in
the order they came (pipelining), until one side wants no more. A CONNECT turns the rest of the stream into a tunnel.
After anything malformed the connection ends: no second request is ever read from it (RFC 9112 §11.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rulesproxy.codecs.http1 import ProtocolError, RequestHead, identity
from rulesproxy.model.names import authority
from rulesproxy.net.peek import PeekableStream
from rulesproxy.proxy.connect import open_tunnel
from rulesproxy.proxy.http1.client_side import Http1Client
from rulesproxy.proxy.proxy_auth import admit
from rulesproxy.proxy.refusal import refuse_malformed, send_page
from rulesproxy.proxy.requests import serve_request
from rulesproxy.proxy.scope import Scope
from rulesproxy.proxy.sides import ClientGone

if TYPE_CHECKING:
    from rulesproxy.proxy.session import Session

#: How long and how much is read from a client that may still be sending after its last answer, so that closing does
#: not reset the connection under that answer (RFC 9112 §9.6).
_LINGER_SECONDS = 2.0
_LINGER_BYTES = 1024 * 1024


async def serve_http1(session: Session, stream: PeekableStream, scope: Scope) -> None:
    """Serve requests until the connection ends or becomes a tunnel."""
    # What was peeked is handed to the receiver; from then on nobody peeks, so the layer in between can go.
    client = Http1Client(stream.inner, session)
    if stream.buffered:
        client.receiver.feed(stream.buffered)
    try:
        if await _serve_requests(session, client, scope):
            await _linger(client)
    except ClientGone:
        return  # nobody is left to tell


async def _serve_requests(session: Session, client: Http1Client, scope: Scope) -> bool:
    """True when the client may still be sending although it has had its last answer."""
    while not session.ending or client.receiver.has_data:
        try:
            head = await client.next_request()
            if head is None:
                return False
            if head.host is None and scope.reverse and head.is_http10:
                _name_destination(scope, head)
            target = identity(head, scope.scheme)
        except ProtocolError as exc:
            await refuse_malformed(session, client, exc)
            return True
        if scope.tunnel is None and session.core.settings.proxy_auth is not None:
            head, page = await admit(session.core.settings.proxy_auth, session.client, head)
            if page is not None:
                if not await send_page(session, client, head, page):
                    return head.keep_alive or not client.body_complete
                continue
        if head.method == "CONNECT" and not scope.reverse:
            granted = await open_tunnel(session, client, head, target, scope.via)
            if granted is not None:
                if scope.tunnel is None:
                    session.client.forget_tls()  # that was the way to the proxy, if there was any
                await session.serve(*granted)
                return False
            if not head.keep_alive or client.stream.closing:
                return True
        elif not await serve_request(session, client, scope, head, target):
            return head.keep_alive or not client.body_complete
    return False


def _name_destination(scope: Scope, head: RequestHead) -> None:
    """HTTP/1.0 knows no Host; who asks for nobody asks for the server."""
    head.host = authority(*scope.destination, scope.reverse).encode("ascii")
    head.fields = ((b"Host", head.host), *head.fields)


async def _linger(client: Http1Client) -> None:
    await client.stream.write_eof()
    await client.discard_input(_LINGER_BYTES, _LINGER_SECONDS)
