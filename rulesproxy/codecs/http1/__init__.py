"""HTTP/1 messages as a sans-I/O codec: strict reading, checked writing, one framing decision (RFC 9110, RFC 9112)."""

from rulesproxy.codecs.http1.hop_by_hop import safe_trailers, strip_hop_by_hop, without_named
from rulesproxy.codecs.http1.messages import (
    EndOfBody,
    Framing,
    FramingKind,
    Limits,
    ProtocolError,
    RequestHead,
    ResponseHead,
)
from rulesproxy.codecs.http1.receiver import Receiver
from rulesproxy.codecs.http1.serialize import (
    encode_chunk,
    encode_last_chunk,
    serialize_request,
    serialize_response,
)
from rulesproxy.codecs.http1.target import Identity, Target, identity, parse_host_field, parse_target

__all__ = [
    "EndOfBody",
    "Framing",
    "FramingKind",
    "Identity",
    "Limits",
    "ProtocolError",
    "Receiver",
    "RequestHead",
    "ResponseHead",
    "Target",
    "encode_chunk",
    "encode_last_chunk",
    "identity",
    "parse_host_field",
    "parse_target",
    "safe_trailers",
    "serialize_request",
    "serialize_response",
    "strip_hop_by_hop",
    "without_named",
]
