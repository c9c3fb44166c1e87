"""Acceptance line 3, first half: the log of each scenario is the one that was expected before it was ever run."""

from __future__ import annotations

import pytest

from rulesproxy.certs.authority import Authority
from tests.hooks.expectations import EXPECTED
from tests.hooks.scenarios_other import SCENARIOS
from tests.hooks.scene import scene
from tests.support.certificates import OriginCA
from tests.support.leaks import until


def test_every_expectation_has_its_scenario() -> None:
    assert set(SCENARIOS) == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
async def test_scenario(name: str, no_leaks: None, authority: Authority, origin_ca: OriginCA) -> None:
    async with scene(authority, origin_ca) as made:
        await SCENARIOS[name](made)
        recorder = made.recorder
        await until(lambda: recorder.names.count("client_connected") == recorder.names.count("client_disconnected"))
    difference = EXPECTED[name].difference([hook for hook, _ in recorder.events])
    assert not difference, difference
