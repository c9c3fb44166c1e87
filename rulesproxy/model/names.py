"""Canonical host names and paths: the one place that decides when two spellings are the same.

Rule text and traffic go through the same functions, so a rule cannot be dodged by case, a trailing dot, punycode,
an odd IPv4 spelling, percent-encoding or dot segments (rule-language 2.3 to 2.5).
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

import idna

_PLAIN_HOST = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*"
                         r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\Z")
_NUMERIC_LABEL = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)\Z")
_DOTTED_QUAD = re.compile(r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\.){3}"
                          r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\Z")


class InvalidHost(ValueError):
    """The text is neither a DNS name, nor an IPv4 dotted quad, nor an IPv6 address."""


@lru_cache(maxsize=8192)
def canonical_host(text: str) -> str:
    """Lower case, one trailing dot off, A-labels (UTS 46), IPv6 without brackets in RFC 5952 form.

    Raises InvalidHost for anything else, among it `0x7f.1`, `127.1`, `010.0.0.1` and names with a port.
    """
    host = text.strip("[]") if text.startswith("[") and text.endswith("]") else text
    if ":" in host:
        try:
            address = ipaddress.IPv6Address(host)
            return str(address.ipv4_mapped or address)  # dialling ::ffff:192.0.2.1 is dialling 192.0.2.1
        except ValueError:
            raise InvalidHost(f"{text!r} is not a host name") from None
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True, transitional=False).decode("ascii")
        except (idna.IDNAError, UnicodeError) as exc:
            raise InvalidHost(f"{text!r} is not a host name: {exc}") from None
    host = host.lower()
    if host.endswith("."):
        host = host[:-1]
    if not _PLAIN_HOST.match(host):
        raise InvalidHost(f"{text!r} is not a host name")
    # RFC 3986 §7.4: a name whose last label is a number is an odd spelling of IPv4, or nothing.
    if _NUMERIC_LABEL.match(host.rpartition(".")[2]) and not _DOTTED_QUAD.match(host):
        raise InvalidHost(f"{text!r} is an ambiguous spelling of an IPv4 address")
    return host


@lru_cache(maxsize=8192)
def is_ip(host: str) -> bool:
    """True for a canonical host that is an address, not a name."""
    return ":" in host or _DOTTED_QUAD.match(host) is not None


def host_for_url(host: str) -> str:
    """The host as it stands in an authority: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


def authority(host: str, port: int, scheme: str) -> str:
    """`host[:port]`, the port left out where it is the scheme's default."""
    if port == DEFAULT_PORTS.get(scheme):
        return host_for_url(host)
    return f"{host_for_url(host)}:{port}"


DEFAULT_PORTS = {"http": 80, "https": 443}


_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_KEPT_ESCAPES = frozenset((0x2F, 0x5C, 0x25, 0x7F, *range(0x20)))  # / \ % and controls stay escaped


@lru_cache(maxsize=4096)
def canonical_path(target: str) -> str:
    """The path that rules match: query cut, escapes decoded once, dot segments resolved, empty segments merged.

    `%2F %5C %25`, controls and invalid UTF-8 stay escaped (upper-case hex). Case, `;params` and one trailing slash
    are kept.
    """
    path = target.partition("?")[0].partition("#")[0]
    if "%" in path:
        path = _decode_escapes(path)
    if not path.startswith("/"):
        path = "/" + path
    if "//" not in path and "/." not in path:
        return path
    out: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            if out:
                out.pop()
        elif segment not in ("", "."):
            out.append(segment)
    trailing = segments[-1] in ("", ".", "..")
    return "/" + "/".join(out) + ("/" if trailing and out else "")


def _decode_escapes(path: str) -> str:
    """Decode runs of `%XX` as UTF-8; bytes that are not valid UTF-8, and the kept ones, are escaped again."""
    return re.sub(r"(?:%[0-9A-Fa-f]{2})+", lambda m: _decode_run(m.group()), path)


def _decode_run(run: str) -> str:
    raw = bytes(int(pair, 16) for pair in _ESCAPE.findall(run))
    out: list[str] = []
    # Invalid bytes come back as lone surrogates U+DC80..U+DCFF: exactly those are escaped again.
    for char in raw.decode("utf-8", "surrogateescape"):
        code = ord(char)
        if 0xDC80 <= code <= 0xDCFF:
            out.append(f"%{code - 0xDC00:02X}")
        elif code in _KEPT_ESCAPES:
            out.append(f"%{code:02X}")
        else:
            out.append(char)
    return "".join(out)
