"""DNS on the wire: strict reading of queries, answers made ready in advance, and edits of answers.

Theory of operation. A datagram or a TCP frame comes in. `parse_query` returns the message, or raises BadQuery with
the answer that the client gets (`None`: it gets none). The rest is for answers: `fit` keeps one within what the
client can take, `strip_http3_hints` takes out what would lead a browser around interception, and a ReadyAnswer is
an answer section made in advance, for which only the header and the question of `quick_query` have to be copied.
Nothing here knows of sockets, clocks or rules.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace

from rulesproxy.model import dns_wire
from rulesproxy.model.dns import UDP_MAXIMUM, UDP_MINIMUM, DNSError, DNSMessage, ResourceRecord
from rulesproxy.model.dns_types import op_codes, response_codes, types

_HEADER_SIZE = 12
_QR = 0x80  # third octet: QR, four bits of op code, AA, TC, RD
_OP_CODE_AND_RD = 0x79


class BadQuery(ValueError):
    """Not a query to work on. `answer` is what to send back, None to stay silent."""

    def __init__(self, reason: str, answer: bytes | None) -> None:
        super().__init__(reason)
        self.answer = answer


def parse_query(wire: bytes) -> DNSMessage:
    """The query in `wire`. Raises BadQuery."""
    if len(wire) < _HEADER_SIZE:
        raise BadQuery("too short for a header", None)
    if wire[2] & _QR:
        # Answering an answer is how two servers start talking to each other for ever.
        raise BadQuery("an answer, not a query", None)
    plain = wire[2] >> 3 & 0xF == op_codes.QUERY
    # RFC 9619 §4: a query has one question, or it is malformed. Looked at before the questions are read. NOTIFY, UPDATE
    # and whatever else has one pass (RFC 5625 §3); IQUERY and DSO, which have none, are not offered.
    if wire[4:6] != b"\0\1":
        code = response_codes.FORMERR if plain else response_codes.NOTIMP
        raise BadQuery("not one question", header_answer(wire, code))
    try:
        message = DNSMessage.unpack(wire)
    except DNSError as exc:
        raise BadQuery(str(exc), header_answer(wire, response_codes.FORMERR)) from None
    reason = (_malformed(message) if plain else "") or _malformed_edns(message)
    if reason:
        raise BadQuery(reason, message.fail(response_codes.FORMERR).packed)
    opt = message.opt
    if opt is not None and opt.ttl >> 16 & 0xFF:  # RFC 6891 §6.1.3: only version 0 exists
        raise BadQuery("an unknown EDNS version", message.fail(response_codes.BADVERS).packed)
    return message


def _malformed(message: DNSMessage) -> str:
    question = message.questions[0]
    if question.type in (0, types.OPT, types.TSIG):
        return f"{types.to_str(question.type)} cannot be asked for"
    # RFC 1995 §3: an IXFR query carries the client's SOA record; no other query has records here.
    if message.answers or (message.authorities and question.type != types.IXFR):
        return "a query with answers"
    return ""


def _malformed_edns(message: DNSMessage) -> str:
    options = [record for record in message.additionals if record.type == types.OPT]
    if len(options) > 1 or any(record.name != "." for record in options):  # RFC 6891 §6.1.1, §6.1.2
        return "more than one OPT record, or one with a name"
    if options and not _options_hold(options[0].data):
        return "EDNS options are cut short"
    return ""


def _options_hold(data: bytes) -> bool:
    position = 0
    while position + 4 <= len(data):
        position += 4 + int.from_bytes(data[position + 2:position + 4], "big")
    return position == len(data)


def header_answer(query: bytes, response_code: int) -> bytes:
    """An answer of a header alone, for a query whose question cannot be repeated."""
    return query[:2] + bytes((_QR | query[2] & _OP_CODE_AND_RD, 0x80 | response_code)) + bytes(8)


def fit(message: DNSMessage, wire: bytes, limit: int) -> bytes:
    """`wire`, the packed `message`, or where it is larger than `limit` the truncated answer."""
    return wire if len(wire) <= limit else message.truncated().packed


def with_id(wire: bytes, id_: int) -> bytes:
    return id_.to_bytes(2, "big") + wire[2:]


# --- answers made in advance -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class QuickQuery:
    """The parts of an ordinary query: `name` is the folded wire form, the question ends at `end`."""

    name: bytes
    type: int
    class_: int
    end: int
    limit: int
    edns: bool
    dnssec_ok: bool


def quick_query(wire: bytes) -> QuickQuery | None:
    """Read an ordinary query: one question, nothing else but a plain OPT. None: leave it to `parse_query`."""
    if len(wire) < 17 or wire[2] & 0xFA or wire[4:10] != b"\0\1\0\0\0\0" or wire[10] or wire[11] > 1:
        return None
    position = _HEADER_SIZE
    size = len(wire)
    while length := wire[position]:
        position += 1 + length
        if length > 63 or position >= size or position - _HEADER_SIZE > 254:
            return None
    end = position + 5
    if size < end:
        return None
    type_, class_ = struct.unpack_from("!HH", wire, position + 1)
    if type_ in (0, types.OPT, types.TSIG, types.TKEY):
        return None
    name = wire[_HEADER_SIZE:position + 1].lower()
    if not wire[11]:
        return QuickQuery(name, type_, class_, end, UDP_MINIMUM, False, False) if size == end else None
    # The OPT record: root, type 41, size; extended code and version 0; flags; no options.
    if size != end + 11 or wire[end:end + 3] != b"\0\0\x29" or wire[end + 5:end + 7] != b"\0\0" \
            or wire[end + 9:end + 11] != b"\0\0":
        return None
    limit = max(UDP_MINIMUM, min(int.from_bytes(wire[end + 3:end + 5], "big"), UDP_MAXIMUM))
    return QuickQuery(name, type_, class_, end, limit, True, bool(wire[end + 7] & 0x80))


@dataclass(frozen=True, slots=True)
class ReadyAnswer:
    """An answer section on the wire, whose records point to the name of the question."""

    response_code: int
    count: int
    section: bytes

    @classmethod
    def make(cls, name: str, records: Iterable[ResourceRecord] = (),
             response_code: int = response_codes.NOERROR) -> ReadyAnswer:
        """For questions about `name`. Raises DNSError for values without a wire form."""
        section = bytearray()
        count = 0
        for record in records:
            own = dns_wire.fold(record.name) == dns_wire.fold(name)
            section += b"\xc0\x0c" if own else dns_wire.pack_name(record.name)
            try:
                section += struct.pack("!HHIH", record.type, record.class_, record.ttl, len(record.data))
            except struct.error as exc:
                raise DNSError(f"a value does not fit its field: {exc}") from None
            section += record.data
            count += 1
        return cls(response_code, count, bytes(section))

    def to(self, wire: bytes, query: QuickQuery, limit: int | None = None) -> bytes:
        """The whole answer to the query in `wire`; it repeats the question octet by octet, case and all.

        `limit` is what the transport takes; by default what the client says for UDP.
        """
        count, section = self.count, self.section
        truncation = 0
        if query.end + len(section) + (11 if query.edns else 0) > (query.limit if limit is None else limit):
            count, section, truncation = 0, b"", 2
        # RFC 4035 §3.2.2: CD is copied
        flags = bytes((_QR | wire[2] & 1 | truncation, 0x80 | wire[3] & 0x10 | self.response_code))
        head = wire[:2] + flags + struct.pack("!HHHH", 1, count, 0, query.edns)
        answer = head + wire[_HEADER_SIZE:query.end] + section
        if query.edns:
            answer += struct.pack("!BHHIH", 0, types.OPT, UDP_MAXIMUM, query.dnssec_ok << 15, 0)
        return answer


# --- service bindings --------------------------------------------------------------------------------------------

_MANDATORY, _ALPN, _NO_DEFAULT_ALPN, _ECH = 0, 1, 2, 5  # RFC 9460 §14.3.2, and draft-ietf-tls-svcb-ech for ech


def strip_http3_hints(message: DNSMessage) -> DNSMessage:
    """The message without `ech` and HTTP/3 in its HTTPS and SVCB records; the same object when it has none.

    A record that offers nothing but HTTP/3 is left out. One that does not parse stays: clients skip it as well.
    """
    answers = _without_hints(message.answers)
    additionals = _without_hints(message.additionals)
    if answers == message.answers and additionals == message.additionals:
        return message
    return replace(message, answers=answers, additionals=additionals)


def _without_hints(records: list[ResourceRecord]) -> list[ResourceRecord]:
    kept = []
    for record in records:
        if record.type in (types.HTTPS, types.SVCB):
            try:
                data = _strip_binding(record.data)
            except DNSError:
                data = record.data
            if data is None:
                continue
            record = replace(record, data=data)
        kept.append(record)
    return kept


def _strip_binding(data: bytes) -> bytes | None:
    """The data without the hints, None when no way to connect is left."""
    _, start = dns_wire.read_labels(data, 2)
    parameters = _read_parameters(data, start)
    protocols = dns_wire.read_strings(parameters.get(_ALPN, b""))
    kept_protocols = [name for name in protocols if name != b"h3" and not name.startswith(b"h3-")]
    if protocols and not kept_protocols and _NO_DEFAULT_ALPN in parameters:
        return None
    removed = {_ECH}
    if kept_protocols:
        parameters[_ALPN] = b"".join([bytes((len(name),)) + name for name in kept_protocols])
    else:
        removed |= {_ALPN, _NO_DEFAULT_ALPN}  # RFC 9460 §7.1.1: the second is not allowed without the first
    mandatory = parameters.get(_MANDATORY, b"")
    still = b"".join([mandatory[i:i + 2] for i in range(0, len(mandatory), 2)
                      if int.from_bytes(mandatory[i:i + 2], "big") not in removed])
    if still:
        parameters[_MANDATORY] = still
    else:
        removed.add(_MANDATORY)
    return data[:start] + b"".join([struct.pack("!HH", key, len(value)) + value
                                    for key, value in parameters.items() if key not in removed])


def _read_parameters(data: bytes, position: int) -> dict[int, bytes]:
    parameters = {}
    while position < len(data):
        if position + 4 > len(data):
            raise DNSError("a parameter is cut short")
        key, length = struct.unpack_from("!HH", data, position)
        position += 4
        if position + length > len(data):
            raise DNSError("a parameter is cut short")
        parameters[key] = data[position:position + length]
        position += length
    return parameters
