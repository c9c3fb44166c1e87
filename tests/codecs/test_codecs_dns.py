"""What is a query, what a malformed one gets, and what is taken out of answers."""

from __future__ import annotations

import dns.message
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rulesproxy.codecs.dns import (
    BadQuery,
    ReadyAnswer,
    fit,
    header_answer,
    parse_query,
    quick_query,
    strip_http3_hints,
    with_id,
)
from rulesproxy.model.dns import DNSError, DNSMessage, Question, ResourceRecord, response_codes, types

RR = ResourceRecord
QUERY = b"\x12\x34\1\0\0\1\0\0\0\0\0\0\1a\4test\0\0\1\0\1"
OPT = b"\0\0\x29\x04\xd0\0\0\0\0\0\0"


def query(*, flags: bytes = b"\1\0", counts: bytes = b"\0\1\0\0\0\0\0\0", rest: bytes = QUERY[12:]) -> bytes:
    return b"\x12\x34" + flags + counts + rest


def with_additional(*records: bytes) -> bytes:
    return query(counts=b"\0\1\0\0\0\0" + len(records).to_bytes(2, "big"), rest=QUERY[12:] + b"".join(records))


# --- well-formed ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wire", [
    QUERY, query(flags=b"\0\0"), query(flags=b"\1\x30"), with_additional(OPT),
    with_additional(b"\0\0\x29\x04\xd0\0\0\x80\0\0\x0c\0\x0a\0\x08cookie!!"),  # DO, and a cookie
    with_additional(b"\1k\0\0\xfa\0\xff\0\0\0\0\0\0", OPT),  # TSIG is the server's business
    query(rest=b"\0\0\2\0\1"), query(rest=b"\7version\4bind\0\0\x10\0\3"), query(rest=QUERY[12:-4] + b"\xff\0\0\xff"),
    query(rest=b"\3a.b\1\xff\0\0\1\0\1"),
    query(counts=b"\0\1\0\0\0\1\0\0", rest=b"\1z\0\0\xfb\0\1" + b"\1z\0\0\6\0\1\0\0\0\0\0\x16\0\0" + bytes(20)),  # IXFR
])
def test_an_ordinary_query_is_read(wire: bytes) -> None:
    assert parse_query(wire).question is not None


def test_the_question_is_read_as_asked() -> None:
    message = parse_query(query(rest=b"\3WwW\4Test\0\0\x1c\0\1"))
    assert message.question == Question("WwW.Test", types.AAAA)
    assert (message.id, message.recursion_desired) == (0x1234, True)


# --- malformed -----------------------------------------------------------------------------------------------------

SILENCE = [
    b"", b"\0", QUERY[:11], b"GET / HTTP/1.1"[:11],
    query(flags=b"\x81\x80"),  # an answer
    query(flags=b"\x81\x80", rest=b""),
    query(flags=b"\xa8\0"),  # an answer with another op code
]

FORMERR = {
    "no question": query(counts=bytes(8), rest=b""),
    "header alone": QUERY[:12],
    "two questions": query(counts=b"\0\2\0\0\0\0\0\0", rest=QUERY[12:] * 2),
    "65535 questions": query(counts=b"\xff\xff\0\0\0\0\0\0"),
    "name cut in a label": QUERY[:16],
    "name without end": QUERY[:19],
    "type cut": QUERY[:20],
    "no class": QUERY[:22],
    "class cut": QUERY[:23],
    "one octet too many": QUERY + b"\0",
    "a second message behind": QUERY + QUERY,
    "pointer to itself": query(rest=b"\xc0\x0c\0\1\0\1"),
    "pointer into the header": query(rest=b"\xc0\0\0\1\0\1"),
    "pointer forward": query(rest=b"\xc0\x20\0\1\0\1" + bytes(20)),
    "pointer cut": query(rest=b"\xc0"),
    "pointer after a label": query(rest=b"\1a\xc0\x0c\0\1\0\1"),
    "label of kind 01": query(rest=b"\x41a\0\0\1\0\1"),
    "label of kind 10": query(rest=b"\x81a\0\0\1\0\1"),
    "name of 256 octets": query(rest=(b"\x3f" + b"a" * 63) * 3 + b"\x3f" + b"a" * 63 + b"\0\0\1\0\1"),
    "name of 300 labels": query(rest=b"\1a" * 300 + b"\0\0\1\0\1"),
    "type 0": query(rest=b"\1a\0\0\0\0\1"),
    "asks for OPT": query(rest=b"\1a\0\0\x29\0\1"),
    "asks for TSIG": query(rest=b"\1a\0\0\xfa\0\1"),
    "answer counted and missing": query(counts=b"\0\1\0\1\0\0\0\0"),
    "answer present": query(counts=b"\0\1\0\1\0\0\0\0", rest=QUERY[12:] + b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\1\2\3\4"),
    "authority present": query(counts=b"\0\1\0\0\0\1\0\0", rest=QUERY[12:] + b"\xc0\x0c\0\2\0\1\0\0\0\0\0\1\0"),
    "authority counted and missing": query(counts=b"\0\1\0\0\xff\xff\0\0"),
    "additional counted and missing": query(counts=b"\0\1\0\0\0\0\0\1"),
    "OPT cut in its header": with_additional(OPT[:6]),
    "OPT cut in its data": with_additional(b"\0\0\x29\x04\xd0\0\0\0\0\0\x08abc"),
    "OPT with an option cut": with_additional(b"\0\0\x29\x04\xd0\0\0\0\0\0\5\0\x0a\0\x08x"),
    "OPT with half an option header": with_additional(b"\0\0\x29\x04\xd0\0\0\0\0\0\3\0\x0a\0"),
    "two OPT records": with_additional(OPT, OPT),
    "OPT with a name": with_additional(b"\1a" + OPT),
    "OPT and garbage": with_additional(OPT) + b"garbage",
}


@pytest.mark.parametrize("wire", SILENCE, ids=repr)
def test_what_is_no_query_gets_silence(wire: bytes) -> None:
    with pytest.raises(BadQuery) as caught:
        parse_query(wire)
    assert caught.value.answer is None


@pytest.mark.parametrize("wire", FORMERR.values(), ids=FORMERR.keys())
def test_a_malformed_query_gets_formerr(wire: bytes) -> None:
    with pytest.raises(BadQuery) as caught:
        parse_query(wire)
    assert caught.value.answer is not None
    answer = dns.message.from_wire(caught.value.answer)  # dnspython takes it for a well-formed message
    assert (answer.id, answer.rcode(), answer.opcode()) == (0x1234, response_codes.FORMERR, 0)
    assert caught.value.answer[2:4] == b"\x81\x81"  # QR, RD copied; RA
    assert len(caught.value.answer) <= max(len(wire), 12)  # never worth an amplification


@pytest.mark.parametrize("op_code", [2, 3, 4, 5, 15])
def test_other_op_codes_have_one_question_too(op_code: int) -> None:
    record = b"\xc0\x0c\0\1\0\1\0\0\0\5\0\4\1\2\3\4"
    wire = query(flags=bytes((op_code << 3 | 1, 0)), counts=b"\0\1\0\1\0\1\0\0", rest=QUERY[12:] + record * 2)
    message = parse_query(wire)
    assert (message.op_code, len(message.answers), len(message.authorities)) == (op_code, 1, 1)


@pytest.mark.parametrize("op_code", [1, 5, 6, 15])
def test_other_op_codes_without_a_question_are_not_implemented(op_code: int) -> None:
    with pytest.raises(BadQuery) as caught:
        parse_query(query(flags=bytes((op_code << 3 | 1, 0)), counts=bytes(8), rest=b""))
    answer = caught.value.answer
    assert answer == b"\x12\x34" + bytes((0x80 | op_code << 3 | 1, 0x84)) + bytes(8)


def test_an_unknown_edns_version_gets_badvers() -> None:
    with pytest.raises(BadQuery) as caught:
        parse_query(with_additional(b"\0\0\x29\x04\xd0\0\1\0\0\0\0"))
    assert caught.value.answer is not None
    answer = dns.message.from_wire(caught.value.answer)
    assert (answer.rcode(), answer.edns) == (response_codes.BADVERS, 0)


@given(st.one_of(
    st.binary(max_size=64),
    st.tuples(st.integers(0, len(QUERY) - 1), st.integers(0, 255)).map(
        lambda change: QUERY[:change[0]] + bytes((change[1],)) + QUERY[change[0] + 1:]),
))
def test_any_bytes_are_a_query_or_a_bad_one(wire: bytes) -> None:
    try:
        message = parse_query(wire)
    except BadQuery as exc:
        if exc.answer is not None:
            answer = DNSMessage.unpack(exc.answer)
            assert (answer.query, answer.id) == (False, int.from_bytes(wire[:2], "big"))
    else:
        assert message.query
        assert len(message.questions) == 1


def test_fit_and_with_id() -> None:
    answer = DNSMessage.make_query("x", id=1).succeed([RR.TXT("x", "a" * 600)])
    wire = answer.packed
    assert fit(answer, wire, len(wire)) is wire
    cut = DNSMessage.unpack(fit(answer, wire, len(wire) - 1))
    assert (cut.truncation, cut.answers) == (True, [])
    assert DNSMessage.unpack(with_id(wire, 0xABCD)) == DNSMessage.make_query("x", id=0xABCD).succeed(answer.answers)


def test_a_header_answer_repeats_id_and_rd() -> None:
    assert header_answer(b"\xab\xcd\0\0" + bytes(8), response_codes.REFUSED) == b"\xab\xcd\x80\x85" + bytes(8)


# --- answers made in advance ---------------------------------------------------------------------------------------

RECORDS = [RR.A("Spoof.test", "192.0.2.1", ttl=5), RR.TXT("spoof.test.", "hi"), RR.A("other.test", "192.0.2.2")]

queries = st.builds(
    lambda id_, name, type_, udp, flags: _ask(id_, name, type_, udp, flags),
    st.integers(0, 65535), st.sampled_from(["spoof.test", "SPOOF.tEST", "sPoOf.Test"]),
    st.sampled_from([types.A, types.TXT, types.ANY, 65280]),
    st.one_of(st.none(), st.integers(0, 65535)), st.integers(0, 7),
)


def _ask(id_: int, name: str, type_: int, udp: int | None, flags: int) -> bytes:
    message = DNSMessage.make_query(name, type_, id=id_, udp_size=udp)
    message.recursion_desired = bool(flags & 1)
    message.reserved = flags & 2 and 1
    if message.opt is not None and flags & 4:
        message.opt.ttl = 0x8000
    return message.packed


@given(queries, st.sampled_from([RECORDS, RECORDS[:1], [], [RR.TXT("spoof.test", "x" * 700)]]),
       st.sampled_from([response_codes.NOERROR, response_codes.NXDOMAIN, response_codes.REFUSED]))
def test_a_ready_answer_says_what_the_slow_way_says(wire: bytes, records: list[RR], code: int) -> None:
    quick = quick_query(wire)
    assert quick is not None
    fast = DNSMessage.unpack(ReadyAnswer.make("spoof.test", records, code).to(wire, quick))
    request = parse_query(wire)
    slow = request.succeed([
        RR(request.questions[0].name if r.name.lower().startswith("spoof") else r.name, r.type, r.class_, r.ttl,
           r.data) for r in records
    ])
    slow.response_code = code
    assert fast == DNSMessage.unpack(fit(slow, slow.packed, request.udp_limit))


def test_a_ready_answer_over_tcp_is_whole() -> None:
    quick = quick_query(QUERY)
    assert quick is not None
    ready = ReadyAnswer.make("a.test", [RR.TXT("a.test", "x" * 700)])
    assert DNSMessage.unpack(ready.to(QUERY, quick)).truncation
    assert len(DNSMessage.unpack(ready.to(QUERY, quick, 65535)).answers) == 1


def test_a_quick_query_names_what_is_asked() -> None:
    quick = quick_query(query(rest=b"\3WwW\4Test\0\0\x1c\0\1"))
    assert quick is not None
    assert (quick.name, quick.type, quick.class_, quick.limit) == (b"\3www\4test\0", types.AAAA, 1, 512)


@pytest.mark.parametrize("wire", [*SILENCE, *FORMERR.values(), query(flags=b"\x29\0"), query(flags=b"\3\0"),
                                  with_additional(b"\0\0\x29\x04\xd0\0\1\0\0\0\0"),
                                  with_additional(b"\0\0\x29\x04\xd0\0\0\0\0\0\4\0\x0a\0\0")], ids=repr)
def test_the_unusual_is_left_to_the_slow_way(wire: bytes) -> None:
    assert quick_query(wire) is None


@given(st.one_of(
    st.binary(max_size=64),
    st.tuples(st.integers(0, len(QUERY) + len(OPT) - 1), st.integers(0, 255)).map(
        lambda change: with_additional(OPT)[:change[0]] + bytes((change[1],)) + with_additional(OPT)[change[0] + 1:]),
))
def test_what_is_quick_is_a_query(wire: bytes) -> None:
    quick = quick_query(wire)
    if quick is not None:
        message = parse_query(wire)
        assert (quick.type, quick.class_, quick.limit) == (message.questions[0].type, message.questions[0].class_,
                                                           message.udp_limit)


def test_a_ready_answer_needs_values_with_a_wire_form() -> None:
    with pytest.raises(DNSError):
        ReadyAnswer.make("x", [RR.A("x", "192.0.2.1", ttl=-1)])


# --- service bindings ----------------------------------------------------------------------------------------------


def binding(text: str, type_: int = types.HTTPS) -> DNSMessage:
    return DNSMessage.make_query("x.test", type_).succeed([RR.from_text("x.test", type_, text)])


@pytest.mark.parametrize(("before", "after"), [
    ('1 . alpn="h3,h2"', '1 . alpn="h2"'),
    ('1 . alpn="h2,h3-29,h3,http/1.1"', '1 . alpn="h2,http/1.1"'),
    ('1 . alpn="h3"', "1 ."),
    ('1 . alpn="h3" no-default-alpn', None),
    ('1 . alpn="h2,h3" no-default-alpn', '1 . alpn="h2" no-default-alpn'),
    ('1 . key5="\\001\\002" ipv4hint=192.0.2.1', '1 . ipv4hint="192.0.2.1"'),
    ('1 alt.test. mandatory=alpn,port alpn="h3" port=8443', '1 alt.test. mandatory="port" port="8443"'),
    ('1 . mandatory=alpn alpn="h3"', "1 ."),
    ('1 . mandatory=alpn alpn="h3,h2" port=1', '1 . mandatory="alpn" alpn="h2" port="1"'),
])
@pytest.mark.parametrize("type_", [types.HTTPS, types.SVCB])
def test_hints_are_taken_out(before: str, after: str | None, type_: int) -> None:
    if "key5" in before:
        message = binding("1 . ipv4hint=192.0.2.1", type_)
        head = message.answers[0].data
        message.answers[0].data = head + b"\0\5\0\4\0\2\xfe\r"  # ech is key 5
    else:
        message = binding(before, type_)
    original = message.copy()
    stripped = strip_http3_hints(message)
    assert [record.data_text for record in stripped.answers] == ([after] if after else [])
    assert message == original  # pure


@pytest.mark.parametrize("text", ['1 . alpn="h2"', "1 .", "0 alias.test.", '1 . port="443" ipv4hint="192.0.2.1"'])
def test_without_hints_the_message_is_the_same_object(text: str) -> None:
    message = binding(text)
    assert strip_http3_hints(message) is message


def test_additional_records_are_looked_at_too() -> None:
    message = DNSMessage.make_query("x.test").succeed([RR.A("x.test", "192.0.2.1")])
    message.additionals.append(RR.HTTPS("x.test", '1 . alpn="h3,h2"'))
    stripped = strip_http3_hints(message)
    assert [record.data_text for record in stripped.additionals] == ['1 . alpn="h2"']
    assert stripped.answers == message.answers


@pytest.mark.parametrize("data", [b"", b"\0\1", b"\0\1\1a", b"\0\1\0\0", b"\0\1\0\0\1\0\5ab", b"\0\1\0\0\1\0\2\5h"])
def test_a_binding_that_does_not_parse_stays(data: bytes) -> None:
    message = DNSMessage.make_query("x").succeed([RR("x", types.HTTPS, 1, 0, data)])
    assert strip_http3_hints(message) is message


@given(st.binary(max_size=40))
def test_stripping_never_raises(data: bytes) -> None:
    strip_http3_hints(DNSMessage.make_query("x").succeed([RR("x", types.HTTPS, 1, 0, data)]))
