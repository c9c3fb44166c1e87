"""A way through another proxy as rules, modes and options write it: `http://proxy:3128`, `user:password`."""

from __future__ import annotations

import re

from rulesproxy.model.effects import Via
from rulesproxy.model.names import InvalidHost, canonical_host

#: Through no proxy, whatever the listener's mode says. Never dialled: `chosen` makes None of it.
DIRECT = Via("direct", "", 0)

#: Scheme → the one of `Via`, and its port. Names are always looked up by the proxy, as `socks5h` asks for elsewhere.
_SCHEMES = {"http": ("http", 80), "https": ("https", 443), "socks5": ("socks5", 1080), "socks5h": ("socks5", 1080)}
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://"
                  r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:/?#@\[\]\s]+)(?::(?P<port>[0-9]{1,5}))?/?\Z")
#: RFC 1929 §2 has one byte for the length of each.
_LONGEST_AUTH = 255
_CONTROL = re.compile("[\x00-\x1f\x7f]")


class BadVia(ValueError):
    """The text names no proxy that could be gone through. The message never repeats a password."""


def parse_via(text: str, auth: tuple[str, str] | None = None, rule: str = "") -> Via:
    """`http://host[:port]`, `https://…`, `socks5://…`; `direct` and `none` are DIRECT. Raises BadVia."""
    if text in ("direct", "none"):
        return DIRECT
    if "@" in text:
        raise BadVia("the URL of a proxy holds no user and password")
    found = _URL.match(text)
    if found is None:
        raise BadVia(f"{text!r} is not the URL of a proxy")
    known = _SCHEMES.get(found["scheme"].lower())
    if known is None:
        raise BadVia(f"a proxy is spoken to over http, https or socks5, not {found['scheme']!r}")
    scheme, port = known
    try:
        host = canonical_host(found["host"])
    except InvalidHost as exc:
        raise BadVia(str(exc)) from None
    if found["port"]:
        port = int(found["port"])
        if not 0 < port < 65536:
            raise BadVia(f"port {port} is not between 1 and 65535")
    return Via(scheme, host, port, auth, rule)


def parse_auth(text: str) -> tuple[str, str]:
    """`user:password`; what follows the first colon is the password. Raises BadVia."""
    user, colon, password = text.partition(":")
    if not colon or not user:
        raise BadVia("user and password are written user:password")
    if _CONTROL.search(text):
        raise BadVia("user and password hold no control characters")
    if max(len(user.encode()), len(password.encode())) > _LONGEST_AUTH:
        raise BadVia(f"user and password have at most {_LONGEST_AUTH} bytes each")
    return user, password


def chosen(via: Via | None, otherwise: Via | None = None) -> Via | None:
    """What is gone through: `via` where somebody decided, else `otherwise`. None: no proxy."""
    effective = otherwise if via is None else via
    return None if effective is None or effective.scheme == DIRECT.scheme else effective
