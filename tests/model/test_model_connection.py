"""Connections as logs show them."""

from __future__ import annotations

from rulesproxy.model.connection import Client


def test_a_peer_is_written_as_an_address_and_not_as_a_tuple() -> None:
    assert Client(peername=("192.0.2.1", 4711)).peer == "192.0.2.1:4711"
    assert Client(peername=("2001:db8::1", 4711)).peer == "[2001:db8::1]:4711"
    assert Client().peer == "unknown"
