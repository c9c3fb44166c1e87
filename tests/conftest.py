"""Fixtures for tests on real sockets. The helpers behind them are in tests/support."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from rulesproxy.certs.authority import Authority
from tests.support.app import RunningApp, run_app
from tests.support.certificates import OriginCA
from tests.support.leaks import nothing_left
from tests.support.nginx import Nginx, run_nginx
from tests.support.proxy import RunningProxy, run_proxy
from tests.support.stage import Stage


@pytest.fixture(scope="session")
def origin_ca(tmp_path_factory: pytest.TempPathFactory) -> OriginCA:
    """The authority that test origins have their certificates from."""
    return OriginCA(tmp_path_factory.mktemp("origin-ca"))


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority of the proxies under test."""
    return Authority.load_or_create(tmp_path_factory.mktemp("proxy-ca") / "conf")


@pytest.fixture
async def no_leaks() -> AsyncIterator[None]:
    """No task and no descriptor survives the test."""
    async with nothing_left():
        yield


@pytest.fixture
async def make_nginx(no_leaks: None, origin_ca: OriginCA, tmp_path: Path) -> AsyncIterator[
        Callable[..., Awaitable[Nginx]]]:
    """`await make_nginx(names=…, locations=…)`: a running nginx, stopped after the test."""
    numbers = count(1)
    async with AsyncExitStack() as stack:
        async def make(**options: Any) -> Nginx:
            folder = tmp_path / f"nginx-{next(numbers)}"
            return await stack.enter_async_context(run_nginx(folder, origin_ca, **options))

        yield make


@pytest.fixture
async def nginx(make_nginx: Callable[..., Awaitable[Nginx]]) -> Nginx:
    """A plain nginx for `localhost` and `127.0.0.1`."""
    return await make_nginx()


@pytest.fixture
async def make_proxy(no_leaks: None, authority: Authority, origin_ca: OriginCA) -> AsyncIterator[
        Callable[..., Awaitable[RunningProxy]]]:
    """`await make_proxy(addon, …, option=value, …)`: a running proxy that trusts the test origins.

    After the test it is stopped, the order of all hooks that fired is checked by the automaton, and nothing may be
    left behind.
    """
    async with AsyncExitStack() as stack:
        async def make(*addons: Any, **options: Any) -> RunningProxy:
            options.setdefault("upstream_ca", str(origin_ca.pem))
            return await stack.enter_async_context(run_proxy(authority, *addons, **options))

        yield make


@pytest.fixture
async def make_app(no_leaks: None, origin_ca: OriginCA, tmp_path: Path) -> AsyncIterator[
        Callable[..., Awaitable[RunningApp]]]:
    """`await make_app(rules, addon, …, option=value, …)`: the whole proxy with these rules, which trusts the test
    origins. Stopped and checked as `make_proxy` does."""
    numbers = count(1)
    async with AsyncExitStack() as stack:
        async def make(rules: str, *addons: Any, **options: Any) -> RunningApp:
            options.setdefault("upstream_ca", str(origin_ca.pem))
            folder = tmp_path / f"app-{next(numbers)}"
            return await stack.enter_async_context(run_app(folder, rules, *addons, **options))

        yield make


@pytest.fixture
async def make_stage(no_leaks: None, authority: Authority) -> AsyncIterator[Callable[..., Stage]]:
    """`make_stage(addon, …, limit=value, …)`: an upstream pool without a proxy in front of it."""
    stages: list[Stage] = []

    def make(*addons: Any, **limits: Any) -> Stage:
        stage = Stage(authority, **limits)
        stage.addons.add(*addons)
        stages.append(stage)
        return stage

    yield make
    for stage in stages:
        await stage.pool.aclose()
        await stage.core.resolver.aclose()
        assert stage.pool.idle_count == 0


@pytest.fixture
async def stage(make_stage: Callable[..., Stage]) -> Stage:
    return make_stage()
