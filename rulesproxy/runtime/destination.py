"""Destinations as rules write them, and paths that continue below another base (rule-language 3.2)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from rulesproxy.model.effects import Route
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.names import DEFAULT_PORTS, InvalidHost, authority, canonical_host, canonical_path
from rulesproxy.runtime.fields import path_for_wire
from rulesproxy.runtime.ruleset import TemplateError

_DESTINATION = re.compile(r"(?:(?P<scheme>https?)://|(?P<only>https?):\Z)?"
                          r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:/?#@\[\]\s]*)(?::(?P<port>[0-9]{1,5}))?/?\Z")


class BadDestination(TemplateError, ValueError):
    """The text is not a destination."""


class Destination(NamedTuple):
    """What is None stays as the request has it."""

    scheme: str | None
    host: str | None
    port: int | None


@lru_cache(maxsize=1024)
def parse_destination(text: str) -> Destination:
    """`host`, `host:port`, `:port`, `http(s)://host[:port]`; `https:` is the scheme alone. Raises BadDestination."""
    found = _DESTINATION.match(text)
    if found is None and text.count(":") > 1 and is_ipv6(text):
        return Destination(None, canonical_host(text), None)  # an address alone needs no brackets
    if found is not None and found["only"]:
        return Destination(found["only"], None, DEFAULT_PORTS[found["only"]])
    if found is None or not (found["host"] or found["port"]):
        raise BadDestination(f"{text!r} is not a destination")
    port = int(found["port"]) if found["port"] else None
    if port is not None and not 0 < port < 65536:
        raise BadDestination(f"port {port} is not between 1 and 65535")
    try:
        host = canonical_host(found["host"]) if found["host"] else None
    except InvalidHost as exc:
        raise BadDestination(str(exc)) from None
    if port is None and found["scheme"]:
        port = DEFAULT_PORTS[found["scheme"]]
    return Destination(found["scheme"], host, port)


def is_ipv6(text: str) -> bool:
    try:
        return ":" in canonical_host(text)
    except InvalidHost:
        return False


def server_name(text: str) -> str:
    """A name for SNI and certificate verification in canonical form. Raises BadDestination."""
    try:
        return canonical_host(text)
    except InvalidHost as exc:
        raise BadDestination(str(exc)) from None


def make_route(flow: HTTPFlow, to: Destination, *, keep_host: bool, sni: str | None, verify: bool,
               rule: str) -> Route:
    """The route for a request: the table of rule-language 3.2."""
    request = flow.request
    host = to.host or request.host
    port = to.port or request.port
    scheme = to.scheme or request.scheme
    if keep_host:
        return Route(host, port, to.scheme, None, sni, verify, rule)
    return Route(host, port, to.scheme, authority(host, port, scheme), sni or host, verify, rule)


def continue_path(target: str, bases: tuple[str, ...], new_base: str) -> str:
    """The request target below another base: the matched part of the path replaced, the rest and the query kept.

    A base that is only a query leaves the path alone. A query in the base comes before the request's own.
    """
    path, mark, query = target.partition("?")
    new_path, new_mark, new_query = new_base.partition("?")
    joined = _continued(canonical_path(path), bases, new_path) if new_path else path
    if new_mark:
        return f"{joined}?{new_query}" + (f"&{query}" if query else "")
    return joined + mark + query


def _continued(path: str, bases: tuple[str, ...], new_path: str) -> str:
    for base in bases:
        stem = base.rstrip("/")
        if path.startswith(stem + "/") and len(path) > len(stem):
            return new_path.rstrip("/") + path_for_wire(path[len(stem):])
        if path == stem:
            break
    return new_path
