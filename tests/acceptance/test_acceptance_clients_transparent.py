"""Every client that knows nothing of a proxy: the firewall of another network namespace leads it there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.acceptance.clients.programs import check
from tests.acceptance.clients.table import CLIENTS
from tests.acceptance.clients.world import World, run_transparent_world
from tests.support.certificates import OriginCA
from tests.support.tools import require_tool

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory, origin_ca: OriginCA) -> AsyncIterator[World]:
    require_tool("nginx")
    require_tool("bash")
    async with run_transparent_world(tmp_path_factory.mktemp("transparent-clients"), origin_ca) as world:
        yield world


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp().parent / "node-modules"


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_client_behind_a_transparent_proxy(world: World, client: str, modules: Path) -> None:
    await check(world, client, ("transparent",), modules)
