"""DNS messages as hooks see them, and the flow of one query.

Everything is kept in message order and nothing is merged, so a message that nobody changed packs to what came in,
but for compression. Record types that are unknown, and data that does not parse, pass through untouched.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from rulesproxy.model import dns_wire
from rulesproxy.model.connection import Client, Server
from rulesproxy.model.dns_record import DEFAULT_TTL, Question, ResourceRecord
from rulesproxy.model.dns_types import classes, op_codes, response_codes, types
from rulesproxy.model.dns_wire import DNSError
from rulesproxy.model.effects import Pacing
from rulesproxy.model.flow import Flow

__all__ = (
    "DEFAULT_TTL", "DNSError", "DNSFlow", "DNSMessage", "Question", "ResourceRecord", "classes", "op_codes",
    "response_codes", "types",
)

UDP_MINIMUM = 512  # RFC 1035 §4.2.1: what a client takes that does not say
UDP_MAXIMUM = 1232  # what passes everywhere without IP fragments, whatever the client says it takes
_MESSAGE_LIMIT = 65535
_HEADER = struct.Struct("!HHHHHH")
_RECORD = struct.Struct("!HHIH")
_DNSSEC_OK = 0x8000
_CHECKING_DISABLED = 1


@dataclass(slots=True)
class DNSMessage:
    """A query or an answer. `response_code` includes the bits that EDNS carries; `reserved` is the bits Z, AD, CD."""

    id: int
    query: bool
    op_code: int = op_codes.QUERY
    authoritative_answer: bool = False
    truncation: bool = False
    recursion_desired: bool = False
    recursion_available: bool = False
    reserved: int = 0
    response_code: int = response_codes.NOERROR
    questions: list[Question] = field(default_factory=list)
    answers: list[ResourceRecord] = field(default_factory=list)
    authorities: list[ResourceRecord] = field(default_factory=list)
    additionals: list[ResourceRecord] = field(default_factory=list)
    timestamp: float = field(default_factory=time.time, compare=False)

    @classmethod
    def make_query(cls, name: str, type_: int = types.A, *, id: int = 0, udp_size: int | None = None) -> DNSMessage:
        """A recursive query; with EDNS when `udp_size` is given."""
        message = cls(id, True, recursion_desired=True, questions=[Question(name, type_)])
        if udp_size is not None:
            message.additionals.append(ResourceRecord(".", types.OPT, udp_size, 0, b""))
        return message

    # --- answering -------------------------------------------------------------------------------------------

    def succeed(self, answers: Iterable[ResourceRecord] = ()) -> DNSMessage:
        """The answer NOERROR with these records; without any it says that the name has no data of this type."""
        return self._answer(response_codes.NOERROR, list(answers))

    def fail(self, response_code: int) -> DNSMessage:
        """The answer with this code and no records. Raises ValueError for NOERROR: that is no failure."""
        if response_code == response_codes.NOERROR:
            raise ValueError("NOERROR is not a failure: use succeed()")
        return self._answer(response_code, [])

    def _answer(self, response_code: int, answers: list[ResourceRecord]) -> DNSMessage:
        if not self.query:
            raise ValueError("only a query can be answered")
        additionals = []
        opt = self.opt
        if opt is not None:  # RFC 6891 §6.1.1: answered exactly when asked; RFC 3225 §3: DO is copied
            additionals.append(ResourceRecord(".", types.OPT, UDP_MAXIMUM, opt.ttl & _DNSSEC_OK, b""))
        elif response_code > 0xF:
            raise ValueError(f"{response_codes.to_str(response_code)} needs EDNS, which the query does not have")
        return DNSMessage(
            self.id, False, self.op_code, recursion_desired=self.recursion_desired, recursion_available=True,
            reserved=self.reserved & _CHECKING_DISABLED,  # RFC 4035 §3.2.2
            response_code=response_code, questions=list(self.questions), answers=answers, additionals=additionals,
        )

    def truncated(self) -> DNSMessage:
        """This answer without its records, saying that they are to be fetched over TCP (RFC 2181 §9)."""
        opt = self.opt
        return replace(self, truncation=True, answers=[], authorities=[], additionals=[] if opt is None else [opt])

    # --- facts -----------------------------------------------------------------------------------------------

    @property
    def question(self) -> Question | None:
        """The question, where there is exactly one."""
        return self.questions[0] if len(self.questions) == 1 else None

    @property
    def opt(self) -> ResourceRecord | None:
        """The EDNS record (RFC 6891): `class_` is the UDP size, `ttl` the extended code, version and flags."""
        for record in self.additionals:
            if record.type == types.OPT:
                return record
        return None

    @property
    def udp_size(self) -> int:
        """For a query: how large an answer over UDP its sender takes."""
        opt = self.opt
        return UDP_MINIMUM if opt is None else max(UDP_MINIMUM, opt.class_)  # RFC 6891 §6.2.3: less means 512

    @property
    def udp_limit(self) -> int:
        """For a query: how large an answer that is made here may be over UDP."""
        return min(self.udp_size, UDP_MAXIMUM)

    def chain(self, name: str, type_: int) -> list[ResourceRecord]:
        """The records that answer for `name`: its CNAME records in turn, then those of the type at the end of them.

        Records about anything else are left out, whoever put them there.
        """
        found: list[ResourceRecord] = []
        owner = dns_wire.fold(name)
        for _ in range(len(self.answers) + 1):
            at_owner = [record for record in self.answers if dns_wire.fold(record.name) == owner]
            aliases = [record for record in at_owner if record.type == types.CNAME]
            if not aliases or type_ == types.CNAME:
                return found + [record for record in at_owner if record.type == type_]
            found.append(aliases[0])
            owner = dns_wire.fold(aliases[0].domain_name)
        raise DNSError(f"the CNAME records of {name} go round in a circle")

    @property
    def size(self) -> int:
        """Octets on the wire."""
        return len(self.packed)

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id, "query": self.query, "op_code": op_codes.to_str(self.op_code),
            "authoritative_answer": self.authoritative_answer, "truncation": self.truncation,
            "recursion_desired": self.recursion_desired, "recursion_available": self.recursion_available,
            "response_code": response_codes.to_str(self.response_code),
            "questions": [question.to_json() for question in self.questions],
            "answers": [record.to_json() for record in self.answers],
            "authorities": [record.to_json() for record in self.authorities],
            "additionals": [record.to_json() for record in self.additionals],
            "size": self.size, "timestamp": self.timestamp,
        }

    def copy(self) -> DNSMessage:
        """Independent of this message, records included."""
        return replace(
            self, questions=list(self.questions), answers=[replace(record) for record in self.answers],
            authorities=[replace(record) for record in self.authorities],
            additionals=[replace(record) for record in self.additionals],
        )

    # --- wire form -------------------------------------------------------------------------------------------

    @property
    def packed(self) -> bytes:
        """The wire form. Raises DNSError for values that have none."""
        out = bytearray(12)
        names = dns_wire.NameWriter()
        try:
            for question in self.questions:
                names.write(out, question.name)
                out += struct.pack("!HH", question.type, question.class_)
            for section in (self.answers, self.authorities, self.additionals):
                for record in section:
                    names.write(out, record.name)
                    ttl = self._opt_ttl(record) if record.type == types.OPT else record.ttl
                    out += _RECORD.pack(record.type, record.class_, ttl, len(record.data))
                    out += record.data
            _HEADER.pack_into(out, 0, self.id, self._flags(), len(self.questions), len(self.answers),
                              len(self.authorities), len(self.additionals))
        except (struct.error, TypeError) as exc:
            raise DNSError(f"a value does not fit its field: {exc}") from None
        if len(out) > _MESSAGE_LIMIT:
            raise DNSError(f"the message has {len(out)} octets, the limit is {_MESSAGE_LIMIT}")
        return bytes(out)

    def _flags(self) -> int:
        if self.response_code > 0xF and self.opt is None:
            raise DNSError(f"{response_codes.to_str(self.response_code)} needs an OPT record")
        if not (0 <= self.op_code <= 15 and 0 <= self.reserved <= 7 and 0 <= self.response_code <= 0xFFF):
            raise DNSError("op_code, reserved or response_code is out of range")
        return (
            (not self.query) << 15 | self.op_code << 11 | self.authoritative_answer << 10 | self.truncation << 9
            | self.recursion_desired << 8 | self.recursion_available << 7 | self.reserved << 4
            | self.response_code & 0xF
        )

    def _opt_ttl(self, record: ResourceRecord) -> int:
        # RFC 6891 §6.1.3: the upper eight bits of the response code live here.
        return record.ttl & 0xFFFFFF | (self.response_code >> 4) << 24

    @classmethod
    def unpack(cls, wire: bytes) -> DNSMessage:
        """Read a whole message, nothing missing and nothing left over. Raises DNSError."""
        if len(wire) < 12:
            raise DNSError("the header is cut short")
        id_, flags, *counts = _HEADER.unpack_from(wire)
        message = cls(
            id_, not flags & 0x8000, flags >> 11 & 0xF, bool(flags & 0x400), bool(flags & 0x200),
            bool(flags & 0x100), bool(flags & 0x80), flags >> 4 & 7, flags & 0xF,
        )
        try:
            offset = _read_questions(wire, counts[0], message.questions)
            for count, section in zip(counts[1:], (message.answers, message.authorities, message.additionals),
                                      strict=True):
                offset = _read_records(wire, offset, count, section)
        except struct.error:
            raise DNSError("a section is cut short") from None
        if offset != len(wire):
            raise DNSError(f"{len(wire) - offset} octets follow the message")
        opt = message.opt
        if opt is not None:
            message.response_code |= opt.ttl >> 24 << 4
        return message

    def __str__(self) -> str:
        asked = ", ".join(map(str, self.questions))
        return asked if self.query else f"{asked} {response_codes.to_str(self.response_code)}"


def _read_questions(wire: bytes, count: int, into: list[Question]) -> int:
    offset = 12
    for _ in range(count):
        name, offset = dns_wire.read_name(wire, offset)
        type_, class_ = struct.unpack_from("!HH", wire, offset)
        into.append(Question(name, type_, class_))
        offset += 4
    return offset


def _read_records(wire: bytes, offset: int, count: int, into: list[ResourceRecord]) -> int:
    for _ in range(count):
        name, offset = dns_wire.read_name(wire, offset)
        type_, class_, ttl, length = _RECORD.unpack_from(wire, offset)
        offset += _RECORD.size
        if offset + length > len(wire):
            raise DNSError("record data is cut short")
        into.append(ResourceRecord(name, type_, class_, ttl, dns_wire.read_data(wire, offset, length, type_)))
        offset += length
    return offset


class DNSFlow(Flow):
    """One query and its answer.

    `pacing`: its `request` is waited for before the query is answered or forwarded. `follow`: a handler of
    `dns_request` that sets it to a name has the addresses of that name appended to the answer before `dns_response`,
    looked up upstream, when the question is for A or AAAA. Without an answer of its own the answer becomes a CNAME
    record for that name.
    """

    __slots__ = ("follow", "pacing", "request", "response")

    type = "dns"

    def __init__(self, client: Client, server: Server, request: DNSMessage) -> None:
        super().__init__(client, server)
        self.request = request
        self.response: DNSMessage | None = None
        self.follow: str | None = None
        self.pacing: Pacing | None = None

    def __repr__(self) -> str:
        return f"<DNSFlow {self.request} {self.response}>"
