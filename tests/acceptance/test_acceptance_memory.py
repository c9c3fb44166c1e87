"""Acceptance line 8, with smaller bodies than by hand (see stream_large.py): bodies stream, whatever is in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.stream_large import BOUND, MIB, Case, cases, measure
from tests.support.certificates import OriginCA

SIZE = 256 * MIB


@pytest.mark.slow
@pytest.mark.parametrize("case", [*cases()], ids=lambda case: " ".join(str(case).split()))
async def test_large_bodies_take_no_memory(case: Case, origin_ca: OriginCA, tmp_path: Path, no_leaks: None) -> None:
    outcome = await measure(case, SIZE, tmp_path / "case", origin_ca)
    assert outcome.growth <= BOUND, str(outcome)
    assert case.stopped or outcome.passed == SIZE
