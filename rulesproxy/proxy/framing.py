"""Which fields and which framing a message leaves with.

In: the fields an addon may have touched, and how much body there will be. Out: fields in their original order with
exactly the framing we decided on. Framing, hop-by-hop fields and connection persistence are ours on every hop, so
nothing an addon or a peer wrote about them survives by accident. It knows nothing of streams.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from rulesproxy.codecs.http1 import (
    Framing,
    FramingKind,
    RequestHead,
    ResponseHead,
    strip_hop_by_hop,
    without_named,
)
from rulesproxy.model.headers import Field, Fields
from rulesproxy.model.http import Request, Response

NO_BODY = Framing(FramingKind.NONE, 0)
CHUNKED = Framing(FramingKind.CHUNKED, 0)
UNTIL_CLOSE = Framing(FramingKind.UNTIL_CLOSE, 0)

#: In the place of a request whose head could not be read: what answers it is framed as for a GET.
UNREADABLE = RequestHead("GET", "/", "HTTP/1.1", (), NO_BODY, keep_alive=False, expect_continue=False)

_CHUNKED_FIELD = (b"Transfer-Encoding", b"chunked")
CLOSE_FIELD = (b"Connection", b"close")
_FRAMING_FIELDS = frozenset((b"content-length", b"transfer-encoding"))
_FRAMING_LENGTHS = frozenset(map(len, _FRAMING_FIELDS))
#: Bodies that never end or whose pieces matter as they come: never collected (rule-language 5.2).
_ENDLESS_TYPES = ("text/event-stream", "multipart/x-mixed-replace", "application/grpc")
#: Methods whose empty body is worth a Content-Length (RFC 9110 §8.6).
_BODY_METHODS = frozenset(("POST", "PUT", "PATCH"))


def is_bodyless(method: str, status: int) -> bool:
    """RFC 9112 §6.3: these responses end with their head, whatever their fields say."""
    return method == "HEAD" or status in (204, 304) or status < 200


def is_endless(content_type: str | None) -> bool:
    return content_type is not None and content_type.strip().lower().startswith(_ENDLESS_TYPES)


def asks_for_websocket(request: Request) -> bool:
    """RFC 6455 §4.1, RFC 9110 §7.8: Upgrade counts only where Connection names it, and never in HTTP/1.0."""
    upgrade = request.headers.first(b"upgrade")
    if upgrade is None or upgrade.lower() != b"websocket" or request.method != "GET" or request.is_http10:
        return False
    connection = b",".join(request.headers.values_of(b"connection")).lower()
    return b"upgrade" in [option.strip(b" \t") for option in connection.split(b",")]


def sized(length: int) -> Framing:
    return Framing(FramingKind.LENGTH, length)


def whole_request_framing(request: Request) -> Framing:
    """For a request whose body is in `raw_content`."""
    if request.trailers:
        return CHUNKED
    if request.raw_content or request.method in _BODY_METHODS:
        return sized(len(request.raw_content or b""))
    return NO_BODY


class Asked(Protocol):
    """What of a request says where its answer ends. A `Request` has both, but rules and addons may have changed it:
    the client counts with what it sent, its `RequestHead`."""

    @property
    def method(self) -> str: ...

    @property
    def is_http10(self) -> bool: ...


def whole_response_framing(asked: Asked, response: Response) -> Framing:
    """For a response whose body is in `raw_content`; NONE where it must not be sent."""
    if is_bodyless(asked.method, response.status_code):
        return NO_BODY
    if response.trailers and not asked.is_http10:
        return CHUNKED
    return sized(len(response.raw_content or b""))


def streamed_framing(received: Framing, *, transformed: bool, http10: bool) -> Framing:
    """For a body that passes through: its own length if nothing can change it, else whatever the receiver knows."""
    if received.kind is FramingKind.NONE or (received.kind is FramingKind.LENGTH and not transformed):
        return received
    return UNTIL_CLOSE if http10 else CHUNKED


class Received(Protocol):
    """What a message came with: a head, mostly. While nobody replaced its fields, the framing they declare needs no
    second look."""

    @property
    def fields(self) -> Fields: ...

    @property
    def framing(self) -> Framing: ...


class ReceivedParts(NamedTuple):
    """The same for what was not received as a head."""

    fields: Fields
    framing: Framing


NOTHING_RECEIVED = ReceivedParts((), NO_BODY)


def outgoing_request_fields(request: Request, framing: Framing, received: Received, *, host: str | None,
                            drop_expect: bool, keep_upgrade: bool) -> Fields:
    """The fields of a request on its way to the origin. `host` replaces Host."""
    before = request.headers.fields
    fields = strip_hop_by_hop(before, keep_upgrade=keep_upgrade)
    if (fields is before and before is received.fields and framing == received.framing and host is None
            and framing.kind is not FramingKind.CHUNKED):  # HTTP/2 says nothing where HTTP/1 says chunked
        return fields if not drop_expect else _without_expect(fields)
    if fields is not before and (b"TE", b"trailers") in fields:
        fields = (*fields, (b"Connection", b"TE"))  # RFC 9110 §10.1.4
    if host is not None:
        fields = with_host(fields, host.encode("ascii"))
    if drop_expect:
        fields = _without_expect(fields)
    return with_framing(fields, framing)


def _without_expect(fields: Fields) -> Fields:
    return tuple([field for field in fields if field[0].lower() != b"expect"])


def outgoing_response_fields(asked: Asked, response: Response, framing: Framing,
                             received: Received = NOTHING_RECEIVED, *, keep_upgrade: bool = False) -> Fields:
    """The fields of a response on its way to the client."""
    before = response.headers.fields
    # A 407 of our own, or of an addon: the origin's has lost its challenge when it was received.
    fields = strip_hop_by_hop(before, keep_upgrade=keep_upgrade, keep_proxy_auth=response.status_code == 407)
    if framing.kind is FramingKind.LENGTH and before is received.fields and framing == received.framing:
        return fields  # one Content-Length, which is right; Transfer-Encoding never travels on
    if framing.kind is not FramingKind.NONE:
        return with_framing(fields, framing)
    return _bodyless_fields(fields, asked, response)


def with_framing(fields: Fields, framing: Framing) -> Fields:
    """`fields` with the framing fields that `framing` needs; a Content-Length that is right already keeps its place."""
    # Most names differ in length already, which is cheaper to see.
    present = [field for field in fields if len(field[0]) in _FRAMING_LENGTHS and field[0].lower() in _FRAMING_FIELDS]
    kind = framing.kind
    if kind is FramingKind.LENGTH:
        value = b"%d" % framing.length
        if len(present) == 1 and present[0][1] == value and len(present[0][0]) == 14:
            return fields
        return (*_without(fields, present), (b"Content-Length", value))
    rest = _without(fields, present)
    return (*rest, _CHUNKED_FIELD) if kind is FramingKind.CHUNKED else rest


def with_host(fields: Fields, host: bytes) -> Fields:
    """`fields` with exactly one Host, in its old place or in front."""
    if [value for name, value in fields if name.lower() == b"host"] == [host]:
        return fields
    lines = [(place, field) for place, field in enumerate(fields) if field[0].lower() == b"host"]
    place, name = (lines[0][0], lines[0][1][0]) if lines else (0, b"Host")
    rest = _without(fields, [field for _, field in lines])
    return (*rest[:place], (name, host), *rest[place:])


def _bodyless_fields(fields: Fields, asked: Asked, response: Response) -> Fields:
    """HEAD and 304 tell the length GET would have, 204 and 1xx none (RFC 9110 §8.6)."""
    status = response.status_code
    if status == 204 or status < 200:
        return _without(fields, [field for field in fields if field[0].lower() in _FRAMING_FIELDS])
    if response.raw_content:
        return with_framing(fields, sized(len(response.raw_content)))
    if status == 304 and asked.method != "HEAD":
        return tuple([field for field in fields if not (field[0].lower() == b"content-length" and field[1] == b"0")])
    return fields


def _without(fields: Fields, unwanted: list[Field]) -> Fields:
    return tuple([field for field in fields if field not in unwanted]) if unwanted else fields


def received_fields(head: ResponseHead, *, decrypted: bool) -> Fields:
    """The fields of an answer as rules and addons see them."""
    fields = head.fields if head.connection is None else without_named(head.fields, head.connection)
    if head.status == 407:
        fields = strip_hop_by_hop(fields, keep_upgrade=True)
    return without_http3(fields) if decrypted else fields


def without_http3(fields: Fields) -> Fields:
    """Response fields without the offer to go on over HTTP/3, which would pass the proxy by (rule-language 5.1)."""
    if not any(name.lower() == b"alt-svc" for name, _ in fields):
        return fields
    kept: list[Field] = []
    for name, value in fields:
        if name.lower() == b"alt-svc":  # RFC 7838 §3: a list of protocol="authority" with parameters
            value = b",".join(item for item in value.split(b",") if not item.strip().lower().startswith(b"h3")).strip()
            if not value:
                continue
        kept.append((name, value))
    return tuple(kept)
