"""The table of expectations itself: it names every hook, and tells a right log from a wrong one."""

from __future__ import annotations

import pytest

import rulesproxy.app as _app
from rulesproxy.addons.hooks import ALL_HOOKS
from tests.hooks.expectations import END, EXPECTED, START, Expected

assert _app is not None  # importing it declares the hooks


def test_every_hook_is_expected_somewhere() -> None:
    named = {name for expected in EXPECTED.values() for name in expected.names}
    ours = {name for name, hook in ALL_HOOKS.items() if hook.__module__.startswith("rulesproxy.")}  # tests declare some
    assert named == ours
    assert len(ours) == 42
    assert len(EXPECTED) >= 25


RACE = Expected(("client_connected",), (("request", "response"), ("request", "error")), ("client_disconnected",))


@pytest.mark.parametrize(("log", "right"), [
    (["client_connected", "request", "request", "error", "response", "client_disconnected"], True),
    (["client_connected", "request", "response", "request", "error", "client_disconnected"], True),
    (["client_connected", "response", "request", "request", "error", "client_disconnected"], False),
    (["client_connected", "request", "request", "error", "client_disconnected"], False),
    (["client_connected", "request", "request", "error", "response"], False),
    (["request", "request", "error", "response", "client_connected", "client_disconnected"], False),
    (["client_connected", "request", "request", "error", "response", "server_disconnected", "client_disconnected"],
     False),
])
def test_expectations_compare(log: list[str], right: bool) -> None:
    assert (RACE.difference([*START, *log, *END]) == "") is right
