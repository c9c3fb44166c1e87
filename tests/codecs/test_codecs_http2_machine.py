"""The state machine as the proxy sets it up: limits, GOAWAY, abuse, and nothing but declared errors."""

from __future__ import annotations

import struct

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, DataReceived, RequestReceived
from h2.exceptions import DenialOfServiceError, FrameTooLargeError, H2Error, ProtocolError
from hypothesis import given, settings
from hypothesis import strategies as st

from rulesproxy.codecs.http2 import CONCURRENT_STREAMS, CONNECTION_WINDOW, STREAM_WINDOW, Abuse, Machine
from rulesproxy.codecs.http2.abuse import LIMIT

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
GET = [(":method", "GET"), (":scheme", "https"), (":authority", "host.test"), (":path", "/")]


def frame(kind: int, flags: int = 0, stream: int = 0, body: bytes = b"") -> bytes:
    return struct.pack(">HBBBL", len(body) >> 8, len(body) & 0xFF, kind, flags, stream) + body


def server() -> Machine:
    machine = Machine(client_side=False, header_list=64 * 1024)
    machine.begin()
    return machine


def joined() -> tuple[H2Connection, Machine]:
    """A client of h2's own and our server, past their SETTINGS."""
    client, machine = H2Connection(H2Configuration(client_side=True)), server()
    client.initiate_connection()
    exchange(client, machine)
    return client, machine


def exchange(one: H2Connection, other: H2Connection) -> None:
    while (data := one.data_to_send()) or (back := other.data_to_send()):
        if data:
            other.receive_data(data)
        else:
            one.receive_data(back)


def test_what_a_client_may_send() -> None:
    client, _ = joined()
    assert client.remote_settings.initial_window_size == STREAM_WINDOW
    assert client.outbound_flow_control_window == CONNECTION_WINDOW
    assert client.remote_settings.max_concurrent_streams == CONCURRENT_STREAMS
    assert client.remote_settings.enable_connect_protocol == 1


def test_nothing_is_pushed_to_us() -> None:
    machine = Machine(client_side=True, header_list=65536)
    machine.begin()
    origin = H2Connection(H2Configuration(client_side=False))
    origin.initiate_connection()
    exchange(machine, origin)
    assert origin.remote_settings.enable_push == 0


def test_the_first_frame_is_settings() -> None:
    with pytest.raises(ProtocolError):
        server().receive_data(PREFACE + frame(6, 0, 0, b"12345678"))


def test_a_frame_that_is_too_large_is_refused_before_it_is_here() -> None:
    machine = server()
    with pytest.raises(FrameTooLargeError):
        machine.receive_data(PREFACE + frame(4) + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01")


def test_goaway_ends_nothing_that_goes_on() -> None:
    client, machine = joined()
    client.send_headers(1, GET)
    exchange(client, machine)
    machine.close_connection(ErrorCodes.NO_ERROR)
    machine.data_to_send()
    client.send_data(1, b"more", end_stream=True)
    (event, *_) = machine.receive_data(client.data_to_send())
    assert isinstance(event, DataReceived) and event.data == b"more"
    machine.send_headers(1, [(b":status", b"200")], end_stream=True)
    assert machine.data_to_send()


def test_a_received_goaway_keeps_what_waits_to_be_sent() -> None:
    client, machine = joined()
    client.send_headers(1, GET, end_stream=True)
    exchange(client, machine)
    machine.send_headers(1, [(b":status", b"200")], end_stream=True)
    client.close_connection()
    (event,) = machine.receive_data(client.data_to_send())
    assert isinstance(event, ConnectionTerminated)
    assert machine.data_to_send()


def test_streams_are_counted_one_by_one() -> None:
    client, machine = joined()
    client.remote_settings.max_concurrent_streams = 1000
    client.remote_settings.acknowledge()
    numbers = range(1, 2 * CONCURRENT_STREAMS + 4, 2)
    for number in numbers:
        client.send_headers(number, GET, end_stream=True)
    events = machine.receive_data(client.data_to_send())
    opened = [event.stream_id for event in events if isinstance(event, RequestReceived)]
    assert opened == list(numbers)
    assert [machine.too_many_streams(number) for number in numbers] == [False] * CONCURRENT_STREAMS + [True] * 2


def test_a_compression_table_has_bounds() -> None:
    client, machine = joined()
    client.update_settings({1: 2**31})
    machine.receive_data(client.data_to_send())
    machine.bound_encoder()
    assert machine.encoder.header_table_size <= 64 * 1024


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 255), st.integers(0, 5), st.binary(max_size=24)),
                max_size=12), st.booleans())
def test_random_frames_raise_declared_errors_only(frames: list[tuple[int, int, int, bytes]], asked: bool) -> None:
    client, machine = joined()
    if asked:
        client.send_headers(1, GET)
        exchange(client, machine)
    try:
        for kind, flags, stream, body in frames:
            machine.receive_data(frame(kind, flags, stream, body))
    except H2Error:
        assert machine.data_to_send()  # a GOAWAY says why


@given(st.binary(max_size=200))
def test_random_bytes_raise_declared_errors_only(data: bytes) -> None:
    machine = server()
    try:
        machine.receive_data(PREFACE + frame(4) + data)
    except H2Error:
        assert machine.data_to_send()


def test_abuse_adds_up_and_is_forgiven() -> None:
    abuse = Abuse()
    abuse.at(0.0)
    with pytest.raises(DenialOfServiceError):
        for _ in range(int(LIMIT) + 1):
            abuse.charge(1.0)
    assert abuse.score > LIMIT
    abuse.at(1000.0)
    assert abuse.score == 0.0
    abuse.charge(10.0)
    abuse.sent(1 << 20, whole=False)
    assert abuse.score == 0.0
