"""What becomes of an exception that ends an exchange: a page for the client, a line in the log."""

from __future__ import annotations

import logging

from rulesproxy.codecs.http1 import ProtocolError
from rulesproxy.model.effects import Route
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.http import Request, Response
from rulesproxy.proxy.pages import error_response, upstream_error_response
from rulesproxy.proxy.sides import ClientGone
from rulesproxy.proxy.upstream.target import UpstreamError

log = logging.getLogger("rulesproxy")

_TITLES = {400: "Bad request", 408: "Request timeout", 413: "Request body too large", 414: "Request line too long",
           431: "Request head too large", 501: "Not implemented", 505: "HTTP version not supported"}


def error_page(exc: Exception, request: Request | None, route: Route | None = None) -> Response | None:
    """The page that says what went wrong; None when there is nobody to read it.

    `route` is where the request went instead of its own host: the page names the rule that sent it there.
    """
    match exc:
        case ClientGone():
            return None
        case ProtocolError():
            title = _TITLES.get(exc.status, "Message refused")
            return error_response(exc.status, title, exc.message, request=request)
        case UpstreamError():
            return upstream_error_response(exc, request, route.rule if route is not None else "")
        case _:
            return error_response(500, "Internal error", "The proxy failed on this request; its log says why.",
                                  request=request)


def sent_by(route: Route | None) -> str:
    """For log lines: the rule that chose the server, if one did."""
    return f" (sent there by rule {route.rule})" if route is not None and route.rule else ""


def log_failure(exc: Exception, flow: HTTPFlow) -> None:
    """One line, or a traceback for what should not happen."""
    request = flow.request
    match exc:
        case ClientGone():
            log.info("%s %s: %s", request.method, request.url, exc)
        case ProtocolError() | UpstreamError():
            log.warning("%s %s: %s%s", request.method, request.url, exc, sent_by(flow.route))
        case _:
            log.error("%s %s: unexpected error", request.method, request.url, exc_info=exc)
