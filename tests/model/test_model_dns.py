"""DNS messages keep what they are told, on the wire and back; dnspython reads what they write."""

from __future__ import annotations

import json
import string

import dns.message
import dns.rcode
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rulesproxy.model import dns_wire
from rulesproxy.model.connection import Client, Server
from rulesproxy.model.dns import (
    DNSError,
    DNSFlow,
    DNSMessage,
    Question,
    ResourceRecord,
    classes,
    op_codes,
    response_codes,
    types,
)

RR = ResourceRecord

# --- names ---------------------------------------------------------------------------------------------------------

plain_labels = st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=20)
plain_names = st.lists(plain_labels, min_size=1, max_size=8).map(".".join)
raw_labels = st.lists(st.binary(min_size=1, max_size=63), max_size=3)


@given(raw_labels)
def test_any_label_survives_the_way_through_text(labels: list[bytes]) -> None:
    wire = dns_wire.join_labels(labels)
    name, end = dns_wire.read_name(wire, 0)
    assert end == len(wire)
    assert dns_wire.pack_name(name) == wire


def test_names_have_no_final_dot_and_the_root_is_one() -> None:
    assert dns_wire.read_name(b"\3www\7example\0", 0) == ("www.example", 13)
    assert dns_wire.read_name(b"\0", 0) == (".", 1)
    assert dns_wire.pack_name("www.example.") == dns_wire.pack_name("www.example") == b"\3www\7example\0"
    assert dns_wire.pack_name(".") == b"\0"


def test_a_dot_inside_a_label_is_escaped() -> None:
    assert dns_wire.read_name(b"\3a.b\0", 0)[0] == "a\\.b"


@pytest.mark.parametrize(("labels", "host"), [
    ([b"x", b"lab", b"test"], "x.lab.test"), ([b"x.lab", b"test"], "x\\046lab.test"),
    ([b"x\\", b"lab"], "x\\\\.lab"), ([b"\\.", b"\xff."], "\\\\\\046.\\255\\046"),
])
def test_the_host_of_a_question_has_dots_between_labels_only(labels: list[bytes], host: str) -> None:
    name, _ = dns_wire.read_name(dns_wire.join_labels(labels), 0)
    assert Question(name).host == host
    assert dns_wire.pack_name(host) == dns_wire.join_labels(labels)


def test_unicode_names_become_a_labels() -> None:
    assert dns_wire.pack_name("bücher.example") == b"\x0dxn--bcher-kva\7example\0"


@pytest.mark.parametrize("name", ["a" * 64, "a..b", ".".join(["a" * 63] * 4), ".a", "\\999"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(DNSError):
        dns_wire.pack_name(name)


@pytest.mark.parametrize(("one", "other"), [("WWW.Example.com", "www.example.COM"), ("a.b.", "a.b"), (".", ".")])
def test_names_compare_without_case(one: str, other: str) -> None:
    assert Question(one).key == Question(other).key


def test_only_ascii_letters_fold() -> None:
    # RFC 4343 §3: octets outside A-Z compare as they are; U+212A is a Kelvin sign, not a k.
    assert dns_wire.fold("\u212a.test") != dns_wire.fold("k.test")


@pytest.mark.parametrize("wire", [
    b"", b"\3ww", b"\3www", b"\x40a\0", b"\x80a\0", b"\xc0", b"\xc0\x0c", b"\xc0\x00",
    (b"\x3f" + b"a" * 63) * 4 + b"\0",
])
def test_a_name_that_ends_nowhere_is_refused(wire: bytes) -> None:
    with pytest.raises(DNSError):
        dns_wire.read_name(bytes(12) + wire, 12)


def test_pointers_lead_backwards_only() -> None:
    wire = bytes(12) + b"\1a\xc0\x10" + b"\1b\xc0\x0c"
    with pytest.raises(DNSError):
        dns_wire.read_name(wire, 12)  # forward
    with pytest.raises(DNSError):
        dns_wire.read_name(wire, 16)  # back, and then forward again: a loop


# --- records -------------------------------------------------------------------------------------------------------

RECORDS = [
    (RR.A("x.test", "192.0.2.1"), types.A, "192.0.2.1"),
    (RR.AAAA("x.test", "2001:db8::1"), types.AAAA, "2001:db8::1"),
    (RR.CNAME("x.test", "target.test"), types.CNAME, "target.test."),
    (RR.PTR("1.2.0.192.in-addr.arpa", "x.test"), types.PTR, "x.test."),
    (RR.NS("x.test", "ns.test"), types.NS, "ns.test."),
    (RR.TXT("x.test", "hello \"you\""), types.TXT, '"hello \\"you\\""'),
    (RR.MX("x.test", 10, "mail.test"), types.MX, "10 mail.test."),
    (RR.SRV("_x._tcp.test", 1, 2, 443, "srv.test"), types.SRV, "1 2 443 srv.test."),
    (RR.HTTPS("x.test", '1 . alpn="h2" ipv4hint=192.0.2.1'), types.HTTPS, '1 . alpn="h2" ipv4hint="192.0.2.1"'),
    (RR.from_text("x.test", types.CAA, '0 issue "ca.test"'), types.CAA, '0 issue "ca.test"'),
    (RR.from_text("x.test", 65280, "\\# 3 010203"), 65280, "\\# 3 010203"),
]


@pytest.mark.parametrize(("record", "type_", "text"), RECORDS, ids=[types.to_str(case[1]) for case in RECORDS])
def test_constructors_write_what_dnspython_reads(record: RR, type_: int, text: str) -> None:
    assert (record.type, record.class_, record.ttl) == (type_, classes.IN, 60)
    answer = DNSMessage.make_query(record.name, type_).succeed([record])
    read = dns.message.from_wire(answer.packed)
    assert [rdata.to_text() for rrset in read.answer for rdata in rrset] == [text]
    assert record.data_text == text


def test_record_data_reads_as_values() -> None:
    assert str(RR.A("x", "192.0.2.1").ipv4_address) == "192.0.2.1"
    assert str(RR.AAAA("x", "2001:DB8:0::1").ipv6_address) == "2001:db8::1"
    assert RR.CNAME("x", "Target.test.").domain_name == "Target.test"
    assert RR.TXT("x", "é" * 200).text == "é" * 200
    assert RR.TXT("x", b"\xff").text == "\udcff"
    assert RR.TXT("x", "").data == b"\0"


def test_record_data_can_be_assigned_as_values() -> None:
    record = RR.A("x", "192.0.2.1")
    record.ipv4_address = "192.0.2.2"
    assert record == RR.A("x", "192.0.2.2")
    record = RR.AAAA("x", "::1")
    record.ipv6_address = "::2"
    assert record == RR.AAAA("x", "::2")
    record = RR.CNAME("x", "a")
    record.domain_name = "b"
    assert record == RR.CNAME("x", "b")
    record = RR.TXT("x", "a")
    record.text = "b"
    assert record == RR.TXT("x", "b")


@pytest.mark.parametrize("make", [
    lambda: RR.A("x", "::1"), lambda: RR.A("x", "300.0.0.1"), lambda: RR.AAAA("x", "192.0.2.1"),
    lambda: RR.MX("x", 70000, "mail"), lambda: RR.SRV("x", -1, 0, 0, "srv"), lambda: RR.CNAME("x", "a..b"),
    lambda: RR.HTTPS("x", "nonsense"), lambda: RR.from_text("x", types.MX, "mail"),
    lambda: RR.from_text("x", types.A, "1.2.3"), lambda: RR.TXT("x", "a").ipv4_address,
    lambda: RR.A("x", "192.0.2.1").ipv6_address, lambda: RR.A("x", "192.0.2.1").domain_name,
    lambda: RR("x", types.TXT, 1, 0, b"\5ab").text,
])
def test_values_without_a_wire_form_are_value_errors(make: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        make()  # type: ignore[operator]


def test_data_that_is_not_of_its_type_shows_as_hex() -> None:
    assert RR("x", types.A, 1, 0, b"\1\2").data_text == "\\# 2 0102"
    assert RR("x", types.A, 1, 0, b"").data_text == "\\# 0"


# --- messages ------------------------------------------------------------------------------------------------------

u16 = st.integers(0, 0xFFFF)
raw_names = raw_labels.map(lambda labels: dns_wire.read_name(dns_wire.join_labels(labels), 0)[0])
names = st.one_of(plain_names, raw_names, st.just("."))
opaque = st.builds(RR, names, st.integers(258, 0xFFFF), u16, st.integers(0, 2**32 - 1), st.binary(max_size=60))
known = st.one_of(
    st.builds(RR.A, names, st.ip_addresses(v=4)), st.builds(RR.AAAA, names, st.ip_addresses(v=6)),
    st.builds(RR.CNAME, names, names), st.builds(RR.MX, names, u16, names), st.builds(RR.PTR, names, names),
    st.builds(RR.TXT, names, st.binary(max_size=300)), st.builds(RR.SRV, names, u16, u16, u16, names),
)
sections = st.lists(st.one_of(known, opaque), max_size=5)
messages = st.builds(
    DNSMessage, u16, st.booleans(), st.integers(0, 15), st.booleans(), st.booleans(), st.booleans(), st.booleans(),
    st.integers(0, 7), st.integers(0, 15), st.lists(st.builds(Question, names, u16, u16), max_size=2), sections,
    sections, sections,
)


@given(messages)
@example(DNSMessage(0, True))
def test_messages_survive_the_wire(message: DNSMessage) -> None:
    assert DNSMessage.unpack(message.packed) == message


@given(plain_names, st.lists(known, max_size=6))
def test_dnspython_reads_the_same_message(name: str, records: list[RR]) -> None:
    message = DNSMessage.make_query(name, types.ANY, id=7, udp_size=1232).succeed(records)
    theirs = dns.message.from_wire(message.packed, one_rr_per_rrset=True)
    assert theirs.id == 7
    assert theirs.question[0].name.to_text(omit_final_dot=True) == name
    assert [(r.name.to_text(omit_final_dot=True), int(r.rdtype), r.ttl) for r in theirs.answer] \
        == [(r.name, r.type, r.ttl) for r in records]
    assert [r[0].to_wire() for r in theirs.answer] == [r.data for r in records]


@given(plain_names, st.lists(known, max_size=6))
def test_we_read_what_dnspython_writes(name: str, records: list[RR]) -> None:
    """dnspython compresses names inside record data: they must come out whole. It may point at the same name in
    another case, so case is not compared here."""
    theirs = dns.message.from_wire(DNSMessage.make_query(name).succeed(records).packed, one_rr_per_rrset=True)
    ours = DNSMessage.unpack(theirs.to_wire())
    assert [(r.type, r.data.lower()) for r in ours.answers] == [(r.type, r.data.lower()) for r in records]


@given(st.binary(max_size=80))
def test_bytes_are_a_message_or_a_dns_error(wire: bytes) -> None:
    try:
        message = DNSMessage.unpack(wire)
    except DNSError:
        return
    assert DNSMessage.unpack(message.packed) == message
    json.dumps(message.to_json())


def test_compression_keeps_the_case_of_names() -> None:
    message = DNSMessage.make_query("A.example.com").succeed([RR.A("a.Example.com", "192.0.2.1")])
    assert DNSMessage.unpack(message.packed).answers[0].name == "a.Example.com"


def test_equal_names_are_compressed() -> None:
    one = DNSMessage.make_query("www.example.com").succeed([RR.A("www.example.com", "192.0.2.1")]).packed
    assert one.count(b"\7example") == 1
    assert len(one) == 12 + 17 + 4 + 2 + 14


@pytest.mark.parametrize("type_", [types.NS, types.CNAME, types.PTR, types.DNAME])
def test_compressed_names_in_data_are_expanded(type_: int) -> None:
    head = DNSMessage(1, False, questions=[Question("a.test")]).packed
    wire = head[:6] + b"\0\1" + head[8:] + b"\xc0\x0c" + type_.to_bytes(2, "big") + b"\0\1\0\0\0\1\0\4\1b\xc0\x0e"
    assert DNSMessage.unpack(wire).answers[0].domain_name == "b.test"


@pytest.mark.parametrize("data", [b"", b"\xc0\xff", b"\1", b"\5abc", b"\1a\xc0"])
def test_data_that_does_not_parse_is_kept_as_it_is(data: bytes) -> None:
    message = DNSMessage(1, False, answers=[RR("x", types.CNAME, 1, 0, data)])
    assert DNSMessage.unpack(message.packed).answers[0].data == data


def test_naptr_names_are_expanded() -> None:
    fixed = b"\0\1\0\2\1u\3sip\0"
    head = DNSMessage(1, False, questions=[Question("a.test")]).packed
    rdata = fixed + b"\xc0\x0c"
    wire = head[:6] + b"\0\1" + head[8:] + b"\xc0\x0c\0\x23\0\1\0\0\0\1" + len(rdata).to_bytes(2, "big") + rdata
    assert DNSMessage.unpack(wire).answers[0].data == fixed + b"\1a\4test\0"


# --- answering -----------------------------------------------------------------------------------------------------


def test_an_answer_repeats_id_question_and_case() -> None:
    query = DNSMessage.make_query("wWw.ExAmple.com", id=77)
    query.reserved = 0b011  # AD and CD
    answer = query.succeed([RR.A("wWw.ExAmple.com", "192.0.2.1")])
    assert (answer.id, answer.query, answer.questions) == (77, False, query.questions)
    assert (answer.recursion_desired, answer.recursion_available, answer.truncation) == (True, True, False)
    assert answer.reserved == 0b001  # CD is copied, AD is a claim that we do not make
    assert answer.opt is None


def test_succeed_without_records_says_that_there_is_no_data() -> None:
    answer = DNSMessage.make_query("x").succeed()
    assert (answer.response_code, answer.answers) == (response_codes.NOERROR, [])


@pytest.mark.parametrize("code", [response_codes.NXDOMAIN, response_codes.REFUSED, response_codes.SERVFAIL])
def test_fail_carries_the_code(code: int) -> None:
    read = dns.message.from_wire(DNSMessage.make_query("x").fail(code).packed)
    assert read.rcode() == code
    assert not read.answer


def test_noerror_is_no_failure_and_answers_are_not_answered() -> None:
    query = DNSMessage.make_query("x")
    with pytest.raises(ValueError, match="succeed"):
        query.fail(response_codes.NOERROR)
    with pytest.raises(ValueError, match="query"):
        query.succeed().fail(response_codes.NXDOMAIN)


def test_edns_is_answered_when_asked() -> None:
    query = DNSMessage.make_query("x", udp_size=4096)
    opt = query.opt
    assert opt is not None
    opt.ttl = 0x8000
    answer = dns.message.from_wire(query.succeed().packed)
    assert (answer.edns, answer.payload, answer.ednsflags) == (0, 1232, 0x8000)


def test_codes_beyond_fifteen_travel_in_the_opt_record() -> None:
    answer = DNSMessage.make_query("x", udp_size=512).fail(response_codes.BADVERS)
    assert dns.message.from_wire(answer.packed).rcode() == dns.rcode.BADVERS
    assert DNSMessage.unpack(answer.packed).response_code == response_codes.BADVERS
    with pytest.raises(ValueError, match="EDNS"):
        DNSMessage.make_query("x").fail(response_codes.BADVERS)
    with pytest.raises(DNSError, match="OPT"):
        DNSMessage(1, False, response_code=16).packed  # noqa: B018 - the property raises


@pytest.mark.parametrize(("size", "limit"), [(None, 512), (0, 512), (300, 512), (512, 512), (900, 900),
                                             (1232, 1232), (4096, 1232), (65535, 1232)])
def test_the_client_says_how_large_an_answer_may_be(size: int | None, limit: int) -> None:
    assert DNSMessage.make_query("x", udp_size=size).udp_limit == limit


def test_truncated_keeps_question_and_edns_only() -> None:
    answer = DNSMessage.make_query("x", udp_size=1232).succeed([RR.A("x", "192.0.2.1")])
    answer.additionals.append(RR.A("y", "192.0.2.2"))
    cut = answer.truncated()
    assert (cut.truncation, cut.answers, cut.questions) == (True, [], answer.questions)
    assert [record.type for record in cut.additionals] == [types.OPT]
    assert answer.answers  # the original stands


@pytest.mark.parametrize("message", [
    DNSMessage(70000, True), DNSMessage(1, True, op_code=16), DNSMessage(1, True, reserved=8),
    DNSMessage(1, True, questions=[Question("x", 70000)]),
    DNSMessage(1, False, answers=[RR("x", 1, 1, -1, b"")]),
    DNSMessage(1, False, answers=[RR("x", 16, 1, 0, bytes(65536))]),
    DNSMessage(1, False, answers=[RR("x", 16, 1, 0, bytes(40000))] * 2),
    DNSMessage(1, False, answers=[RR("a" * 64, 16, 1, 0, b"")]),
    DNSMessage(1, False, answers=[RR("x", 16, 1, 0, "text")]),  # type: ignore[arg-type]
])
def test_a_message_that_does_not_fit_is_a_dns_error(message: DNSMessage) -> None:
    with pytest.raises(DNSError):
        message.packed  # noqa: B018 - the property raises


def test_copies_are_independent() -> None:
    message = DNSMessage.make_query("x").succeed([RR.A("x", "192.0.2.1")])
    copy = message.copy()
    assert copy == message
    copy.answers[0].ttl = 1
    copy.questions.clear()
    assert message.answers[0].ttl == 60
    assert message.questions


def test_json_names_things() -> None:
    answer = DNSMessage.make_query("x.test", id=9).succeed([RR.TXT("x.test", "hi", ttl=5)])
    shown = json.loads(json.dumps(answer.to_json()))
    assert shown["response_code"] == "NOERROR"
    assert shown["op_code"] == "QUERY"
    assert shown["questions"] == [{"name": "x.test", "type": "A", "class": "IN"}]
    assert shown["answers"] == [{"name": "x.test", "type": "TXT", "class": "IN", "ttl": 5, "data": '"hi"'}]
    assert shown["size"] == len(answer.packed) == answer.size


# --- chains --------------------------------------------------------------------------------------------------------


def test_a_chain_is_followed_and_strangers_are_left_out() -> None:
    records = [RR.A("evil.test", "192.0.2.66"), RR.CNAME("B.test", "c.test"), RR.CNAME("a.test", "b.test"),
               RR.A("C.test", "192.0.2.1"), RR.A("c.test", "192.0.2.2"), RR.AAAA("c.test", "::1")]
    answer = DNSMessage.make_query("a.test").succeed(records)
    assert answer.chain("A.test", types.A) == [records[2], records[1], records[3], records[4]]
    assert answer.chain("a.test", types.CNAME) == [records[2]]
    assert answer.chain("nothing.test", types.A) == []


def test_a_circular_chain_is_an_error() -> None:
    answer = DNSMessage.make_query("a").succeed([RR.CNAME("a", "b"), RR.CNAME("b", "a")])
    with pytest.raises(DNSError, match="circle"):
        answer.chain("a", types.A)


# --- registries, flow ----------------------------------------------------------------------------------------------


def test_numbers_and_names() -> None:
    assert types.to_str(types.HTTPS) == "HTTPS"
    assert types.from_str("aaaa") == 28
    assert types.to_str(65280) == "TYPE65280"
    assert types.from_str("TYPE65280") == 65280
    assert classes.from_str("CH") == 3
    assert response_codes.from_str("nxdomain") == 3
    assert op_codes.to_str(15) == "OPCODE15"


@pytest.mark.parametrize("text", ["", "NOPE", "TYPE", "TYPE-1", "TYPE70000", "TYPE١", "65280"])
def test_unknown_names_are_value_errors(text: str) -> None:
    with pytest.raises(ValueError, match="unknown DNS type"):
        types.from_str(text)


def test_a_flow_starts_without_an_answer_and_can_be_killed() -> None:
    flow = DNSFlow(Client(), Server(), DNSMessage.make_query("x"))
    assert (flow.type, flow.response, flow.follow) == ("dns", None, None)
    flow.kill()
    assert flow.error is not None
