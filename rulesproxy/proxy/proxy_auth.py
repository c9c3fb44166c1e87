"""Proxy authentication over HTTP: who may send requests through the proxy port (RFC 9110 §11.7).

In: the head of a request that came on the proxy port itself, CONNECT or not. Out: the head without its credentials
and no page, or the page to answer with, a 407. Every request brings its own credentials, as HTTP wants it: a
connection may carry those of many users. What comes through a tunnel is not asked again. Hooks and rules never see
the credentials, only `client.user`.
"""

from __future__ import annotations

import base64
import binascii
import logging
from dataclasses import replace

from rulesproxy.codecs.http1 import RequestHead
from rulesproxy.model.connection import Client
from rulesproxy.model.headers import Fields
from rulesproxy.model.http import Response
from rulesproxy.model.pages import error_response
from rulesproxy.proxy.passwords import Verifier

log = logging.getLogger("rulesproxy")

_CREDENTIALS = b"proxy-authorization"
_CHALLENGE = b'Basic realm="rulesproxy", charset="UTF-8"'  # RFC 7617 §2.1


async def admit(verifier: Verifier, client: Client, head: RequestHead) -> tuple[RequestHead, Response | None]:
    """Judge a request that came on the proxy port. `client.user` is who sent it, while there is no page."""
    client.user = None
    values = [value for name, value in head.fields if name.lower() == _CREDENTIALS]
    if not values:
        log.debug("%s: asked to authenticate", client.peer)
        return head, _challenge()
    found = _basic(values[0]) if len(values) == 1 else None
    if found is None or not await verifier.accepts(*found):
        log.warning("%s: refused: %s", client.peer,
                    "credentials that are not Basic" if found is None else f"wrong user or password ({found[0]!r})")
        return head, _challenge()
    client.user = found[0]
    return replace(head, fields=_without_credentials(head.fields)), None


def _basic(value: bytes) -> tuple[str, str] | None:
    """User and password of `Basic …` (RFC 7617 §2)."""
    scheme, _, token = value.strip().partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        text = base64.b64decode(token.strip(), validate=True).decode("utf-8", "surrogateescape")
    except (binascii.Error, ValueError):
        return None
    user, colon, password = text.partition(":")
    return (user, password) if colon else None


def _without_credentials(fields: Fields) -> Fields:
    return tuple([field for field in fields if field[0].lower() != _CREDENTIALS])


def _challenge() -> Response:
    page = error_response(407, "Proxy authentication required", "This proxy serves only those it knows.",
                          hint="Give your client a user and a password for the proxy.")
    page.headers.add("Proxy-Authenticate", _CHALLENGE.decode("ascii"))
    return page
