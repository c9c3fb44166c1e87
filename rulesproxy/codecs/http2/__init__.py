"""HTTP/2 as a sans-I/O codec: h2's state machine with the proxy's own judgement of messages (RFC 9113, RFC 8441)."""

from rulesproxy.codecs.http2.abuse import PER_EXCHANGE, Abuse
from rulesproxy.codecs.http2.errors import MalformedMessage, code_name
from rulesproxy.codecs.http2.machine import CONCURRENT_STREAMS, CONNECTION_WINDOW, STREAM_WINDOW, Machine
from rulesproxy.codecs.http2.received import ReceivedRequest, as_upgrade, parse_request, parse_response, parse_trailers
from rulesproxy.codecs.http2.sending import request_block, response_block, trailer_block

__all__ = [
    "CONCURRENT_STREAMS",
    "CONNECTION_WINDOW",
    "PER_EXCHANGE",
    "STREAM_WINDOW",
    "Abuse",
    "Machine",
    "MalformedMessage",
    "ReceivedRequest",
    "as_upgrade",
    "code_name",
    "parse_request",
    "parse_response",
    "parse_trailers",
    "request_block",
    "response_block",
    "trailer_block",
]
