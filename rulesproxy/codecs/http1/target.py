"""Request targets and Host: which origin a request is for, decided once and strictly (RFC 9112 §3.2 and §3.3).

In: method, target and Host as received. Out: canonical scheme, host, port and path, or ProtocolError(400). There is
no user information, no fragment, no backslash in a path and no second spelling of a host.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal, NamedTuple

from rulesproxy.codecs.http1.messages import ProtocolError, RequestHead
from rulesproxy.model.names import DEFAULT_PORTS, InvalidHost, canonical_host

TargetForm = Literal["origin", "absolute", "authority", "asterisk"]

_MAX_AUTHORITY = 300  # a name has at most 253 characters; keeps hostile text out of the caches
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+)(?::([0-9]{1,5}))?\Z")
_ABSOLUTE = re.compile(r"(https?)://([^/?#]*)([/?][^#]*)?\Z", re.IGNORECASE)


class Target(NamedTuple):
    """`host_text` is the host as written (IPv6 in brackets); `port` None where none was written."""

    form: TargetForm
    scheme: str | None
    host_text: str | None
    port: int | None
    path: str


class Identity(NamedTuple):
    """Where a request goes. `host` is canonical; for CONNECT `scheme` and `path` are empty.

    `host_differs` says that the Host field names something else (or nothing): the caller must rewrite it.
    """

    scheme: str
    host: str
    port: int
    path: str
    form: TargetForm
    host_differs: bool


def parse_target(method: str, target: str) -> Target:
    """Raises ProtocolError(400)."""
    if method == "CONNECT":  # RFC 9112 §3.2.3
        host_text, port = _split_authority(target)
        if port is None:
            raise ProtocolError(400, "a CONNECT target needs a port")
        return Target("authority", None, host_text, port, "")
    if target.startswith("/"):
        return Target("origin", None, None, None, _checked_path(target))
    if target == "*":
        if method != "OPTIONS":  # RFC 9112 §3.2.4
            raise ProtocolError(400, "the target * is for OPTIONS only")
        return Target("asterisk", None, None, None, "*")
    match = _ABSOLUTE.match(target)
    if match is None:
        raise ProtocolError(400, "not a request target")
    scheme, authority, path = match.groups()
    host_text, port = _split_authority(authority)
    if not path:
        path = "*" if method == "OPTIONS" else "/"  # RFC 9112 §3.2.4
    elif path.startswith("?"):
        path = "/" + path
    return Target("absolute", scheme.lower(), host_text, port, _checked_path(path))


def parse_host_field(value: bytes) -> tuple[str, int | None]:
    """`(canonical host, port or None)` of a Host field. Raises ProtocolError(400)."""
    if len(value) > _MAX_AUTHORITY:
        raise ProtocolError(400, "Host is too long")
    return _host_field(value)


def identity(head: RequestHead, default_scheme: str) -> Identity:
    """The origin a request is for, from an absolute-form target or from Host. Raises ProtocolError(400).

    An absolute-form target wins over Host (RFC 9112 §3.2.2), which must be well-formed all the same (§3.2).
    """
    method, text = head.method, head.target
    if text[0] == "h" and method != "CONNECT" and (end := text.find("/", 8)) >= 0:
        origin = _origin(text[:end]) if end <= _MAX_AUTHORITY else None
        if origin is not None:
            return _absolute(head, *origin, _checked_path(text[end:]))
    if text[0] == "/" and method != "CONNECT":  # the common cases, without a Target in between
        form: TargetForm = "origin"
        path = _checked_path(text)
    else:
        target = parse_target(method, text)
        form, path = target.form, target.path
        if target.host_text is not None:
            scheme = target.scheme or ""
            return _absolute(head, scheme, _canonical(target.host_text), target.port, target.path, target.form)
    if head.host is None:
        raise ProtocolError(400, "a Host field is required")
    host, port = parse_host_field(head.host)
    return Identity(default_scheme, host, port or DEFAULT_PORTS[default_scheme], path, form, False)


def _absolute(head: RequestHead, scheme: str, host: str, named_port: int | None, path: str,
              form: TargetForm = "absolute") -> Identity:
    default_port = DEFAULT_PORTS.get(scheme)
    port = named_port or default_port or 0
    differs = True
    if head.host:
        name_in_host, port_in_host = parse_host_field(head.host)
        differs = (name_in_host, port_in_host or default_port) != (host, port)
    return Identity(scheme, host, port, path, form, differs)


@lru_cache(maxsize=4096)
def _origin(text: str) -> tuple[str, str, int | None] | None:
    """Scheme, canonical host and port as written of `http://host:port` and nothing more; None for everything else."""
    match = _ABSOLUTE.match(text)
    if match is None or match[3]:
        return None
    host_text, port = _split_authority(match[2])
    return match[1].lower(), _canonical(host_text), port


@lru_cache(maxsize=4096)
def _host_field(value: bytes) -> tuple[str, int | None]:
    if not value.isascii():
        raise ProtocolError(400, "Host is not ASCII")
    host_text, port = _split_authority(value.decode("ascii"))
    return _canonical(host_text), port


def _split_authority(text: str) -> tuple[str, int | None]:
    match = _AUTHORITY.match(text) if len(text) <= _MAX_AUTHORITY else None
    if match is None:
        raise ProtocolError(400, "not a host with an optional port")
    host, port_text = match.groups()
    if port_text is None:
        return host, None
    port = int(port_text)
    if not 0 < port < 65536:
        raise ProtocolError(400, "a port outside 1 to 65535")
    return host, port


def _canonical(host_text: str) -> str:
    try:
        return canonical_host(host_text)
    except InvalidHost:
        raise ProtocolError(400, "not a host name") from None


def _checked_path(path: str) -> str:
    # RFC 9112 §3.2: neither is in the grammar, and both make origins disagree about where the path ends.
    if "#" in path:
        raise ProtocolError(400, "a fragment in the request target")
    if "\\" in path and "\\" in path.partition("?")[0]:
        raise ProtocolError(400, "a backslash in the request target")
    return path
