"""A request whose head was read, whatever version of HTTP it came in: its flow, and what becomes of it.

In: the head, whom it is for, and the client's end of the exchange. Out: an answer on that end, from an exchange or, for
what must not go anywhere, from the proxy itself.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from rulesproxy.codecs.http1 import Identity, RequestHead, without_named
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.headers import Headers
from rulesproxy.model.http import Request
from rulesproxy.model.names import authority
from rulesproxy.proxy.exchange import Exchange
from rulesproxy.proxy.framing import with_host
from rulesproxy.proxy.refusal import own_answer, send_page
from rulesproxy.proxy.scope import Scope
from rulesproxy.proxy.sides import ClientSide

if TYPE_CHECKING:
    from rulesproxy.proxy.session import Session


def serve_request(session: Session, client: ClientSide, scope: Scope, head: RequestHead,
                  target: Identity) -> Coroutine[Any, Any, bool]:
    """To be awaited; True then if the connection can carry another request."""
    request = _request(scope, head, target)
    page = own_answer(session, scope, target, request)
    if page is not None:
        return send_page(session, client, head, page)
    flow = HTTPFlow(session.client, session.placeholder(request.host, request.port))
    flow.request = request
    return Exchange(session, client, scope, head, flow).run()


def _request(scope: Scope, head: RequestHead, target: Identity) -> Request:
    fields = head.fields if head.connection is None else without_named(head.fields, head.connection)
    if target.host_differs:  # RFC 9112 §3.2.2
        head.host = authority(target.host, target.port, target.scheme).encode("ascii")
        fields = with_host(fields, head.host)
    # In a tunnel the port is the connection's (rule-language 2.4).
    port = target.port if scope.tunnel is None or scope.reverse else scope.tunnel.port
    scheme = target.scheme if scope.tunnel is None else scope.scheme
    return Request(head.method, scheme, target.host, port, target.path, Headers(fields), None, head.version)
