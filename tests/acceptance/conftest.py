"""Fixtures that start the real command."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.command import RulesProxy, run_rulesproxy
from tests.support.certificates import OriginCA
from tests.support.dns_upstream import FakeResolver
from tests.support.nginx import Nginx

Start = Callable[..., Awaitable[RulesProxy]]
MakeNginx = Callable[..., Awaitable[Nginx]]
MakeResolver = Callable[[dict[tuple[str, str], list[str]]], Awaitable[FakeResolver]]


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """Where a test's rule file is to be written: alone in its folder."""
    folder = tmp_path / "rules"
    folder.mkdir()
    return folder / "rules.yaml"


@pytest.fixture
async def make_resolver(no_leaks: None) -> AsyncIterator[MakeResolver]:
    """`await make_resolver(table)`: a name server that knows these names only."""
    async with AsyncExitStack() as stack:
        async def make(table: dict[tuple[str, str], list[str]]) -> FakeResolver:
            return await stack.enter_async_context(FakeResolver(table))

        yield make


@pytest.fixture
async def start(no_leaks: None, make_resolver: MakeResolver, origin_ca: OriginCA, tmp_path: Path
                ) -> AsyncIterator[Start]:
    """`await start(RULES or option, …, dns=…, dev=…)`: the command, trusting the test origins; ended after the test."""
    async with AsyncExitStack() as stack:
        async def run(*arguments: str | Path, **options: Any) -> RulesProxy:
            return await stack.enter_async_context(run_rulesproxy(
                tmp_path / "conf", *arguments, "--set", f"upstream_ca={origin_ca.pem}", **options))

        yield run
