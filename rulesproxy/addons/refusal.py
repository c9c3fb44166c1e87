"""What `--set addon_errors=refuse` does when a handler raised: the exchange in hand does not pass unjudged.

* `http_connect requestheaders request`, and `response` while the body is still here: the answer becomes a 500 page.
* `dns_request dns_response`: the answer becomes SERVFAIL.
* every other event of a flow: the flow is killed.
* `client_connected` and `server_connect`: the connection's `error` is set, which closes or prevents it.

Other events cannot be refused; the failure is only logged.
"""

from __future__ import annotations

from typing import Any

from rulesproxy.model.connection import Client, ServerConnectionHookData
from rulesproxy.model.dns import DNSFlow, response_codes
from rulesproxy.model.flow import Flow, HTTPFlow
from rulesproxy.model.http import Response

_ANSWERABLE = frozenset({"http_connect", "requestheaders", "request"})


def refuse(hook_name: str, argument: Any, addon_name: str) -> None:
    """Refuse what `argument` stands for because a handler of `addon_name` failed on it."""
    reason = f"the addon {addon_name} failed in {hook_name}"
    if isinstance(argument, HTTPFlow) and _answerable(hook_name, argument):
        argument.response = Response.make(
            500, f"rulesproxy: {reason}; see the log.\n",
            {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"})
    elif isinstance(argument, DNSFlow) and hook_name in ("dns_request", "dns_response"):
        argument.response = argument.request.fail(response_codes.SERVFAIL)
    elif isinstance(argument, Flow):
        argument.kill()
    elif isinstance(argument, Client):
        argument.error = reason
    elif isinstance(argument, ServerConnectionHookData):
        argument.server.error = reason


def _answerable(hook_name: str, flow: HTTPFlow) -> bool:
    if hook_name == "response":
        # A streamed body has reached the client already: a page after it would be read as part of it.
        return flow.response is not None and flow.response.raw_content is not None
    return hook_name in _ANSWERABLE
