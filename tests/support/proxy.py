"""The real proxy, in the test's own event loop, on an ephemeral port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from rulesproxy.addons.core_options import ProxyOptions
from rulesproxy.addons.manager import AddonManager
from rulesproxy.certs.authority import Authority
from rulesproxy.net.resolve import Resolver, SystemResolver
from rulesproxy.proxy.core import Core
from rulesproxy.proxy.server import Proxy
from rulesproxy.proxy.settings import Settings
from rulesproxy.proxy.virtual_host import VirtualHost
from tests.support.automaton import Recorder
from tests.support.tools import Completed, curl

GRACE = 5.0
SECONDS = 15.0


class RunningProxy:
    """A started proxy and what a test wants to know of it."""

    def __init__(self, proxy: Proxy, addons: AddonManager, authority: Authority, recorder: Recorder) -> None:
        self.proxy = proxy
        self.addons = addons
        self.authority = authority
        self.recorder = recorder

    @property
    def core(self) -> Core:
        return self.proxy.core

    @property
    def host(self) -> str:
        return self.proxy.addresses[0][0]

    @property
    def port(self) -> int:
        return self.proxy.addresses[0][1]

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def ca(self) -> Path:
        """The certificate clients of the proxy trust."""
        return self.authority.path

    async def curl(self, *arguments: str, stdin: bytes = b"") -> Completed:
        """curl through the proxy, trusting its authority."""
        return await curl("--cacert", str(self.ca), *arguments, proxy=self.address, stdin=stdin)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A bare connection to the proxy."""
        async with asyncio.timeout(SECONDS):
            return await asyncio.open_connection(self.host, self.port)

    async def talk(self, data: bytes, *, half_close: bool = True) -> bytes:
        """Send bytes, and read until the proxy closes."""
        reader, writer = await self.connect()
        try:
            async with asyncio.timeout(SECONDS):
                writer.write(data)
                if half_close:
                    writer.write_eof()
                return await reader.read()
        finally:
            writer.close()


@asynccontextmanager
async def run_proxy(authority: Authority, *addons: Any, record: bool = True, resolver: Resolver | None = None,
                    modes: tuple[str, ...] = ("regular@127.0.0.1:0",), state: Callable[[], dict[str, Any]] = dict,
                    **options: Any) -> AsyncIterator[RunningProxy]:
    """Start the proxy with these addons and options; stop it and check the order of all hooks that fired.

    The recorder stands first and sees every hook. `record=False` leaves it out, for what depends on nobody handling a
    hook (sharing of server connections).
    """
    proxy_options = ProxyOptions()
    proxy_options.update(**options)
    manager = AddonManager(proxy_options)
    recorder = Recorder()
    manager.add(*([recorder] if record else []), *addons)
    manager.configure_all()
    names = SystemResolver() if resolver is None else resolver
    proxy = Proxy(manager, authority, names, modes=modes,
                  settings=Settings.from_options(proxy_options),
                  virtual_host=VirtualHost(authority.certificate_pem, authority.certificate_der, state))
    await proxy.start()
    try:
        await manager.running()
        yield RunningProxy(proxy, manager, authority, recorder)
    finally:
        await proxy.stop(GRACE)
        await names.aclose()
        await manager.shutdown()
    violations = recorder.order.finish()
    assert not violations, "\n".join([*violations, "", "hooks fired:", *recorder.names])
