"""What the option `mode` asks for: the proxy's listeners, and those for DNS and UDP, from start to stop."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Sequence

from rulesproxy.addons.core_options import ProxyOptions
from rulesproxy.errors import OptionsError, StartupError
from rulesproxy.model.connection import Address
from rulesproxy.model.names import host_for_url, is_ip
from rulesproxy.net.dns_forward import Forwarder
from rulesproxy.net.resolve import ResolveError, Resolver
from rulesproxy.proxy.dns.server import DnsServer
from rulesproxy.proxy.modes import Mode, is_loopback, parse_mode
from rulesproxy.proxy.raw.udp import UdpProxy
from rulesproxy.proxy.server import Proxy

log = logging.getLogger("rulesproxy")

_PURPOSES = {"regular": "HTTP and HTTPS", "upstream": "HTTP and HTTPS through {}", "socks5": "SOCKS5",
             "transparent": "redirected connections", "dns": "DNS", "reverse": "{}"}


def listeners(options: ProxyOptions) -> list[Mode]:
    """What the option `mode` asks for, and `regular` where that is DNS alone. Raises OptionsError or StartupError."""
    try:
        modes = [parse_mode(spec) for spec in options.mode]
    except ValueError as exc:
        raise OptionsError(str(exc)) from None
    if all(mode.name == "dns" for mode in modes):
        modes.insert(0, parse_mode("regular"))
    _check_places(modes)
    if options.upstream_auth and not any(mode.name == "upstream" for mode in modes):
        log.warning("upstream_auth is not used: no mode is upstream, and the proxies of rules have their own auth")
    for mode in modes:
        if options.proxy_auth and not mode.is_proxy:
            log.warning("%s: proxy_auth does not hold here: clients do not know that they speak to a proxy", mode)
        if is_loopback(mode.host):
            continue
        if not options.allow_remote:
            raise StartupError(f"{mode} can be reached from other machines, and whoever reaches a proxy can use it; "
                               "add --allow-remote if that is meant")
        if not (options.proxy_auth and mode.is_proxy):
            log.warning("%s can be reached from other machines: whoever reaches it can use it", mode)
    return modes


def _check_places(modes: Sequence[Mode]) -> None:
    """Several modes have the same port unless they are told another. Raises StartupError."""
    taken: dict[tuple[str, str, int], Mode] = {}
    for mode in modes:
        for kind in ("tcp", "udp") if mode.transport == "dns" else (mode.transport,):
            other = taken.setdefault((kind, mode.host, mode.port), mode)
            if other is not mode and mode.port:
                written = f"{mode.name}:{mode.data}" if mode.data else mode.name
                raise StartupError(f"{other.name} and {mode.name} cannot both listen on "
                                   f"{host_for_url(mode.host)}:{mode.port}; give one another port: "
                                   f"--mode {written}@{mode.port + 1 if mode.port < 65535 else 'PORT'}")


def purpose(mode: Mode) -> str:
    """What a listener is for, in a few words."""
    return _PURPOSES[mode.name].format(mode.data)


class Listeners:
    """All listeners of one process; `start` once, `stop` once. The caller's `proxy` is started and stopped here."""

    def __init__(self, options: ProxyOptions, proxy: Proxy, forwarder: Forwarder, resolver: Resolver) -> None:
        self._options = options
        self._proxy = proxy
        self._forwarder = forwarder
        self._resolver = resolver
        self.dns_servers: list[DnsServer] = []
        self.udp_proxies: list[UdpProxy] = []
        #: What listens where, with real port numbers: TCP modes in their order, then the others in theirs.
        self.places: list[tuple[Mode, Address]] = []

    async def start(self, modes: Sequence[Mode]) -> None:
        """Raises StartupError; what listens by then is for `stop` to end."""
        served = [mode for mode in modes if mode.transport == "tcp"]
        try:
            await self._proxy.start()
        except OSError as exc:  # it has closed again what it had opened
            raise _cannot_listen(served[len(self._proxy.addresses)], exc) from exc
        self.places += zip(served, self._proxy.addresses, strict=True)
        for mode in modes:
            if mode.transport == "dns":
                await self._start_dns(mode)
            elif mode.transport == "udp":
                await self._start_udp(mode)

    async def stop(self, grace: float) -> None:
        """Accept nothing more, let what is open finish for `grace` seconds, end it."""
        await asyncio.gather(self._proxy.stop(grace), *(server.stop(grace) for server in self.dns_servers),
                             *(server.stop(grace) for server in self.udp_proxies))

    async def _start_dns(self, mode: Mode) -> None:
        forwarder = self._forwarder if mode.destination is None else await self._forwarder_to(mode, mode.destination)
        server = DnsServer(self._proxy.core.addons, forwarder, connections=self._options.connections, mode=mode.name)
        try:
            await server.start(mode.host, mode.port)
        except OSError as exc:
            raise _cannot_listen(mode, exc) from exc
        self.dns_servers.append(server)
        self._listens(mode, server.address)

    async def _forwarder_to(self, mode: Mode, destination: Address) -> Forwarder:
        """Asks one name server, whose own name is looked up once."""
        host, port = destination
        try:
            addresses = (host,) if is_ip(host) else await self._resolver.addresses(host)
        except ResolveError as exc:
            raise StartupError(f"mode {mode}: {exc}") from None
        servers = [f"{host_for_url(address)}:{port}" for address in addresses]
        return Forwarder(servers, timeout=self._options.dns_timeout)

    async def _start_udp(self, mode: Mode) -> None:
        assert mode.destination is not None
        server = UdpProxy(self._proxy.core, mode.name, mode.destination)
        try:
            await server.start(mode.host, mode.port)
        except OSError as exc:
            raise _cannot_listen(mode, exc) from exc
        self.udp_proxies.append(server)
        self._listens(mode, server.address)

    def _listens(self, mode: Mode, address: Address) -> None:
        self.places.append((mode, address))
        self._proxy.core.listening.add(address)  # not for clients of the proxy either


def _cannot_listen(mode: Mode, exc: OSError) -> StartupError:
    place = f"{host_for_url(mode.host)}:{mode.port}"
    if isinstance(exc, socket.gaierror):
        return StartupError(f"cannot listen on {place}: {mode.host} has no address")
    match exc.errno:
        case errno.EADDRINUSE:
            kind = f"{mode.name}:{mode.data}" if mode.data else mode.name
            why = f"the port is in use; stop what uses it, or choose another with --mode {kind}@HOST:PORT"
        case errno.EACCES:
            why = "permission denied; ports below 1024 are for privileged users"
        case errno.EADDRNOTAVAIL:
            why = "this machine does not have that address"
        case _:
            why = (exc.strerror or str(exc)).lower()
    return StartupError(f"cannot listen on {place}: {why}")
