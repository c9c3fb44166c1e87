"""Fields that end at the next hop, and fields that may not come as trailers: RFC 9110 §7.6.1 and §6.5.1."""

from __future__ import annotations

from functools import lru_cache
from operator import itemgetter

from rulesproxy.model.headers import Field, Fields

_HOP_BY_HOP = frozenset((
    b"connection", b"proxy-connection", b"keep-alive", b"close", b"te", b"transfer-encoding", b"upgrade",
    b"http2-settings",
))
_PROXY_AUTH = frozenset((b"proxy-authenticate", b"proxy-authorization", b"proxy-authentication-info"))
_ALL = _HOP_BY_HOP | _PROXY_AUTH

# What a Connection field cannot take away: fields meant for the other end. Naming them is an attack or a mistake.
_END_TO_END = frozenset((
    b"host", b"content-length", b"content-type", b"content-encoding", b"content-range", b"content-location", b"trailer",
    b"authorization", b"www-authenticate", b"cookie", b"set-cookie", b"cache-control", b"expires", b"age", b"date",
    b"etag", b"last-modified", b"location", b"vary", b"range", b"accept-ranges", b"expect", b"max-forwards", b"via",
    b"origin", b"referer", b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip",
    b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range",
    b"strict-transport-security", b"content-security-policy", b"x-content-type-options", b"x-frame-options",
))

_CACHED_LENGTH = 200

#: Names, as spelled, that travel on: mostly all of a message. Bounded in number and size: names come from the network.
_travelling: set[bytes] = set()
_TRAVELLING_MAX = 4096
_TRAVELLING_LENGTH = 64
_name = itemgetter(0)

_NO_TRAILER = _ALL | frozenset((
    # framing, routing, request modifiers
    b"content-length", b"trailer", b"host", b"expect", b"max-forwards", b"range", b"cache-control", b"pragma",
    b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range", b"forwarded", b"via",
    b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto",
    # authentication and state
    b"authorization", b"www-authenticate", b"authentication-info", b"cookie", b"set-cookie",
    # response control and how the content is to be read
    b"age", b"date", b"expires", b"location", b"retry-after", b"vary", b"warning", b"content-encoding",
    b"content-type", b"content-range",
))


def strip_hop_by_hop(fields: Fields, *, keep_proxy_auth: bool = False, keep_upgrade: bool = False) -> Fields:
    """The fields that travel on.

    `TE: trailers` stays, alone, when it was there: trailers do travel on (over HTTP/1 the sender adds
    `Connection: TE`, RFC 9110 §10.1.4). `keep_proxy_auth` keeps the Proxy-Auth* fields, for a next hop that is a proxy.
    `keep_upgrade` keeps Upgrade and one `Connection: upgrade` where the message had both.
    """
    if _travelling.issuperset(map(_name, fields)):
        return fields
    kept: list[Field] = []
    hops: dict[bytes, bytes] = {}  # lower-case name: value, joined
    for field in fields:
        name = field[0]
        if name in _travelling:
            kept.append(field)
            continue
        key = name.lower()
        if key not in _ALL:
            kept.append(field)
            if len(_travelling) < _TRAVELLING_MAX and len(name) <= _TRAVELLING_LENGTH:
                _travelling.add(name)
        elif keep_proxy_auth and key in _PROXY_AUTH:
            kept.append(field)
        else:
            hops[key] = hops[key] + b"," + field[1] if key in hops else field[1]
    if not hops:
        return fields
    options = _options(hops.get(b"connection", b""))
    if not options <= _HOP_BY_HOP:
        kept = [field for field in kept if field[0].lower() not in options]
    if b"te" in hops and _accepts_trailers(hops[b"te"]):
        kept.append((b"TE", b"trailers"))
    if keep_upgrade and b"upgrade" in options and b"upgrade" in hops:
        kept += [(b"Upgrade", hops[b"upgrade"]), (b"Connection", b"upgrade")]
    return tuple(kept)


def without_named(fields: Fields, connection: bytes) -> Fields:
    """The fields without those that `connection`, the joined Connection fields, takes away, and without their names.

    For a message that was just received: what rules and addons set afterwards is theirs, and must not go because the
    sender named it.
    """
    named = _options(connection) - _HOP_BY_HOP
    if not named:
        return fields
    rest = b", ".join(sorted(_options(connection) & _HOP_BY_HOP))
    kept = [field for field in fields if field[0].lower() not in named and field[0].lower() != b"connection"]
    return (*kept, (b"Connection", rest)) if rest else tuple(kept)


def safe_trailers(fields: Fields) -> Fields:
    """Trailers that may travel on: nothing that frames, routes, authenticates or says how to read the content."""
    return tuple([field for field in fields if field[0].lower() not in _NO_TRAILER])


def _options(connection: bytes) -> frozenset[bytes]:
    """What a Connection value lists, but for what it cannot take away."""
    if len(connection) > _CACHED_LENGTH:
        return _parsed_options(connection)
    return _cached_options(connection)


def _parsed_options(connection: bytes) -> frozenset[bytes]:
    return frozenset(option.strip(b" \t") for option in connection.lower().split(b",")) - _END_TO_END


_cached_options = lru_cache(maxsize=512)(_parsed_options)  # few values make up nearly all traffic


def _accepts_trailers(te: bytes) -> bool:
    return any(part.partition(b";")[0].strip(b" \t") == b"trailers" for part in te.lower().split(b","))
