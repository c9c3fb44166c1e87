"""The origin's end of an exchange, by what is spoken on the connection it was given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rulesproxy.proxy.http1.origin import Http1Origin
from rulesproxy.proxy.http2.origin import Http2Origin
from rulesproxy.proxy.sides import OriginSide
from rulesproxy.proxy.upstream.connection import Http1Connection, Http2Lease, UpstreamConnection

if TYPE_CHECKING:
    from rulesproxy.proxy.session import Session


def origin_side(connection: UpstreamConnection, session: Session) -> OriginSide:
    if isinstance(connection, Http1Connection):
        return Http1Origin(connection, session)
    assert isinstance(connection, Http2Lease)
    return Http2Origin(connection, session)
