"""`http://rulesproxy.test/`: what this is, the certificate authority, and the state of the rules.

In: a request for that name over plain HTTP proxying. Out: a `Response`. Nothing listens for it and nothing here has an
effect: GET and HEAD only, no secrets, no CORS headers, inert HTML. It does not know where the state comes from.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Mapping
from typing import Any

from rulesproxy.certs.trust import trust_steps
from rulesproxy.model.http import Request, Response
from rulesproxy.model.names import canonical_path
from rulesproxy.model.pages import error_response, escaped, html_document, own_response, printable, wants_html

#: A name that can never be registered (RFC 6761 §6.2).
VIRTUAL_HOST = "rulesproxy.test"

State = Callable[[], Mapping[str, Any]]


class VirtualHost:
    """Answers for `VIRTUAL_HOST`.

    `state` is asked for each request and answers plain JSON values: `digest`, `rules` (a list of `name` and `source`,
    as `file:line`), `last_reload`, `last_error`, `unnamed_relays` and `refusing_clients` (a list of `name` and `rule`),
    each of which may be missing.
    """

    def __init__(self, ca_pem: bytes, ca_der: bytes, state: State) -> None:
        self._state = state
        self._ca_pem = ca_pem
        self._ca_der = ca_der

    def respond(self, request: Request) -> Response:
        """The answer to a request; one for HEAD has its body too, which the caller does not send."""
        if request.method not in ("GET", "HEAD"):
            response = error_response(405, "Method not allowed", "This page can only be read.", request=request)
            response.headers.add("Allow", "GET, HEAD")  # RFC 9110 §15.5.6
            return response
        match canonical_path(request.path):
            case "/":
                return self._index(request)
            case "/ca.pem":
                return _certificate(self._ca_pem, "application/x-pem-file", "rulesproxy-ca.pem")
            case "/ca.crt":
                return _certificate(self._ca_der, "application/x-x509-ca-cert", "rulesproxy-ca.crt")
            case "/rules":
                state = json.dumps(self._state(), indent=2, ensure_ascii=True, default=str)
                return own_response(200, state + "\n", "application/json")
            case path:
                return error_response(404, "No such page", f"There is no {path} here.", request=request,
                                      hint=f"http://{VIRTUAL_HOST}/ lists what there is.")

    def _index(self, request: Request) -> Response:
        state = self._state()
        if wants_html(request):
            return own_response(200, _index_html(state), "text/html; charset=utf-8")
        return own_response(200, _index_text(state), "text/plain; charset=utf-8")


def _certificate(content: bytes, content_type: str, name: str) -> Response:
    return own_response(200, content, content_type,
                        [(b"Content-Disposition", f'attachment; filename="{name}"'.encode("ascii"))])


# --- the start page ---------------------------------------------------------------------------------------------

_TRUST = trust_steps("rulesproxy-ca.pem")
_ABOUT = "Your traffic passes through rulesproxy, a proxy whose behaviour is a folder of YAML rules."
_WARNING = "Trust this certificate only on machines of your own: whoever has its key can read their traffic."


def _facts(state: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = [("Rules live", str(len(state.get("rules") or ())))]
    for key, label in (("digest", "Digest"), ("last_reload", "Last reload"), ("last_error", "Last error"),
                       ("unnamed_relays", "TLS relayed because it named no host")):
        if state.get(key):
            facts.append((label, str(state[key])))
    facts += [(f"Clients refuse the certificate for {one['name']}", f"leave it alone with the rule {one['rule']}")
              for one in state.get("refusing_clients") or ()]
    return facts


def _rules(state: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(str(rule.get("name", "")), str(rule.get("source", ""))) for rule in state.get("rules") or ()]


def _index_html(state: Mapping[str, Any]) -> str:
    rows = "".join(f"<tr><th>{escaped(label)}</th><td>{escaped(value)}</td></tr>" for label, value in _facts(state))
    rules = "".join(f"<tr><td>{escaped(name)}</td><td><code>{escaped(source)}</code></td></tr>"
                    for name, source in _rules(state))
    trust = "".join(f"<h2>{html.escape(where)}</h2><pre>{html.escape(how)}</pre>" for where, how in _TRUST)
    return html_document("rulesproxy", f"""\
<h1>rulesproxy</h1>
<p>{html.escape(_ABOUT)}</p>
<table>{rows}</table>
<h1>Certificate authority</h1>
<p><a href="/ca.pem">ca.pem</a> · <a href="/ca.crt">ca.crt</a> (DER)</p>
<p class="hint">{html.escape(_WARNING)}</p>
{trust}
<h1>Rules</h1>
<p><a href="/rules">as JSON</a></p>
<table>{rules}</table>""")


def _index_text(state: Mapping[str, Any]) -> str:
    lines = ["rulesproxy", _ABOUT, ""]
    lines += [f"{label}: {value}" for label, value in _facts(state)]
    lines += ["", f"CA certificate: http://{VIRTUAL_HOST}/ca.pem (PEM), http://{VIRTUAL_HOST}/ca.crt (DER)", _WARNING]
    lines += [f"  {where}: {how}" for where, how in _TRUST]
    lines += ["", f"Rules (as JSON: http://{VIRTUAL_HOST}/rules)"]
    lines += [f"  {name}  {source}" for name, source in _rules(state)]
    # The facts come from rule files: no control character of theirs reaches a terminal.
    return "\n".join(map(printable, lines)) + "\n"
