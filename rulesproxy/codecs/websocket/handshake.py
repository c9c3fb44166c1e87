"""The fields of a WebSocket handshake (RFC 6455 §4, RFC 7692 §7.1): what was offered, and whether the answer fits.

In: the fields of a request and of the answer to it. Out: what both ends will speak, or a `HandshakeError` in words. It
changes nothing but the list of extensions offered, and knows nothing of connections.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable

from rulesproxy.codecs.websocket.deflate import Deflate
from rulesproxy.model.headers import Fields, Headers

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_DEFLATE = "permessage-deflate"
_WINDOW_BITS = re.compile(r"8|9|1[0-5]")
#: RFC 6455 §9.1: extensions are separated by commas, parameters by semicolons; values may be quoted.
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')

#: Name and parameters, in order; a parameter without a value has None.
Extension = tuple[str, tuple[tuple[str, str | None], ...]]


class HandshakeError(Exception):
    """The answer does not fit the request."""


def accept_token(key: bytes) -> bytes:
    """RFC 6455 §4.2.2: what the server answers to this key."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def check_answer(request: Headers, answer: Fields, *, key: bytes | None) -> None:
    """RFC 6455 §4.1: the checks a client makes of the server's answer. Raises HandshakeError.

    `request` is what was sent. `key` is None where the protocol below has no Sec-WebSocket-Key (RFC 8441).
    """
    response = Headers(answer)
    if key is not None:
        _check_switch(response, key)
    protocols = response.values_of(b"sec-websocket-protocol")
    if protocols:
        offered = [name.strip(b" \t") for name in b",".join(request.values_of(b"sec-websocket-protocol")).split(b",")]
        if len(protocols) > 1 or not protocols[0] or protocols[0] not in offered:
            raise HandshakeError("the server chose a subprotocol that was not offered")
    names = {name for name, _ in _extensions(request)}
    for name, _ in _extensions(response):
        if name not in names:
            raise HandshakeError(f"the server chose the extension {name}, which was not offered")
    agreed_deflate(response)


def _check_switch(response: Headers, key: bytes) -> None:
    upgrade = (response.first(b"upgrade") or b"").lower()
    options = b",".join(response.values_of(b"connection")).lower().split(b",")
    if upgrade != b"websocket" or b"upgrade" not in [option.strip(b" \t") for option in options]:
        raise HandshakeError("the server switched to something else than WebSocket")
    if response.values_of(b"sec-websocket-accept") != [accept_token(key)]:
        raise HandshakeError("the server's Sec-WebSocket-Accept does not fit the key")


def readable_offer(request: Headers) -> None:
    """Take the extensions out of a request that would make messages unreadable for us."""
    before = _extensions(request)
    readable = [extension for extension in before if extension[0] == _DEFLATE]
    if len(readable) == len(before):
        return
    if readable:
        request["sec-websocket-extensions"] = ", ".join(map(_written, readable))
    else:
        del request["sec-websocket-extensions"]


def agreed_deflate(response: Headers) -> Deflate | None:
    """The compression an answer accepted; None: none. Raises HandshakeError for parameters that make no sense."""
    agreed = None
    for name, parameters in _extensions(response):
        if name != _DEFLATE:
            continue
        if agreed is not None:
            raise HandshakeError(f"the server accepted {_DEFLATE} twice")
        agreed = _parse_deflate(parameters)
    return agreed


def unknown_extensions(response: Headers) -> list[str]:
    """What an answer accepted that we cannot read."""
    return [name for name, _ in _extensions(response) if name != _DEFLATE]


def _parse_deflate(parameters: Iterable[tuple[str, str | None]]) -> Deflate:
    found: dict[str, int | bool] = {}
    for name, value in parameters:
        if name in found:
            raise HandshakeError(f"{_DEFLATE} with {name} twice")
        if name in ("server_no_context_takeover", "client_no_context_takeover") and value is None:
            found[name] = True
        elif name in ("server_max_window_bits", "client_max_window_bits") and value and _WINDOW_BITS.fullmatch(value):
            found[name] = int(value)
        else:
            raise HandshakeError(f"{_DEFLATE} with an unknown parameter {name}")
    return Deflate(**found)  # type: ignore[arg-type]  # by name each has its type


def _extensions(headers: Headers) -> list[Extension]:
    values = headers.values_of(b"sec-websocket-extensions")
    if not values:
        return []
    found: list[Extension] = []
    for item in b",".join(values).decode("latin-1").split(","):
        name, *parameters = (part.strip(" \t") for part in item.split(";"))
        if name:
            found.append((name.lower(), tuple(_parameter(part) for part in parameters if part)))
    return found


def _parameter(text: str) -> tuple[str, str | None]:
    name, equals, value = text.partition("=")
    if not equals:
        return name.strip(" \t").lower(), None
    quoted = _QUOTED.fullmatch(value.strip(" \t"))
    return name.strip(" \t").lower(), quoted[1] if quoted else value.strip(" \t")


def _written(extension: Extension) -> str:
    name, parameters = extension
    return "; ".join([name, *(key if value is None else f"{key}={value}" for key, value in parameters)])
