"""Who counts as refusing our certificates, and that nothing grows with them."""

from __future__ import annotations

from rulesproxy.net.stream import ConnectionClosed
from rulesproxy.net.tls import TLSError
from rulesproxy.proxy.pinned import ENOUGH, PinnedClients, pass_through_rule, refuses_certificate


def test_tables_of_refusals_are_bounded() -> None:
    pinned = PinnedClients(limit=10)
    for number in range(1000):
        for _ in range(ENOUGH):
            pinned.refused(f"192.0.2.{number % 250}", f"host{number}.test")
    assert len(pinned) == 10 and len(pinned.suggestions) == 10


def test_what_counts_as_refusing() -> None:
    assert refuses_certificate(TLSError("…", alert="unknown ca")) and refuses_certificate(ConnectionClosed("gone"))
    assert not refuses_certificate(TLSError("…", alert="handshake failure"))
    assert not refuses_certificate(TLSError("timed out")) and not refuses_certificate(RuntimeError())


def test_rules_for_addresses_name_a_host() -> None:
    assert 'match: {host: "192.0.2.1"}' in pass_through_rule("192.0.2.1")
    assert 'name: leave-2001-db8--1-alone' in pass_through_rule("2001:db8::1")
