"""What clients are shown when the proxy cannot do what they asked.

In: what went wrong, as the core knows it. Out: a `Response` that never passes rules (rule-language 4.6). How pages
look is in `model/pages.py`, where rules find it too.
"""

from __future__ import annotations

from rulesproxy.certs.verdicts import advice
from rulesproxy.model.http import Request, Response
from rulesproxy.model.pages import error_response
from rulesproxy.net.tls import told_alert
from rulesproxy.proxy.upstream.target import UpstreamError
from rulesproxy.proxy.upstream.tls import TLS_FAILED, certificate_hint

__all__ = ["error_response", "upstream_error_response"]


def upstream_error_response(error: UpstreamError, request: Request | None, rule: str = "") -> Response:
    """The page for a server that could not be reached. `rule` chose the server; a rule that is to blame comes first."""
    title, hint = error.title, error.hint
    if error.untrusted is not None and request is not None:
        hint = advice(error.untrusted, request.host)  # rules see the host of the request, wherever that is led
    if not hint and (late := certificate_hint(told_alert(error.message))):  # told when we were done, in TLS 1.3
        title, hint = TLS_FAILED, late
    return error_response(error.status, title, error.message, request=request, hint=hint,
                          rule=error.rule or rule)
