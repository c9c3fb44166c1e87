"""`Core`: what every session of one proxy shares.

Comes in: addons, certificate authority, resolver, settings. Goes out: one object that sessions, tunnels and the
upstream pool take their services from. It knows nothing of protocols.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Set
from ipaddress import ip_address
from typing import TYPE_CHECKING, Protocol

from rulesproxy.addons.manager import AddonManager
from rulesproxy.certs.authority import Authority
from rulesproxy.certs.contexts import ClientDemands, ServerContexts
from rulesproxy.certs.custom import CustomCertificates
from rulesproxy.certs.files import CertificateError
from rulesproxy.model.connection import Address
from rulesproxy.model.names import is_ip
from rulesproxy.net.local import is_local
from rulesproxy.net.resolve import Resolver
from rulesproxy.proxy.pinned import PinnedClients
from rulesproxy.proxy.settings import Settings
from rulesproxy.proxy.upstream.tls import ServerTls

if TYPE_CHECKING:
    from rulesproxy.proxy.session import Session
    from rulesproxy.proxy.upstream.pool import UpstreamPool
    from rulesproxy.proxy.virtual_host import VirtualHost

log = logging.getLogger("rulesproxy")

_CLIENT_TLS_OPTIONS = frozenset(("certs", "client_ca", "request_client_cert", "tls_version_client_min"))


class Conversation(Protocol):
    """What lasts beyond one exchange, and so may outlive the rules it was begun with."""

    def go_away(self) -> None:
        """The proxy stops: end as soon as that harms nobody."""
        ...

    def reconsider(self) -> bool:
        """The rules have changed. True if it ends because of that."""
        ...


class Core:
    """Services and state of a running proxy. `upstream` is set by `Proxy`, which owns both."""

    __slots__ = ("addons", "authority", "closing", "contexts", "conversations", "listening", "pinned", "resolver",
                 "server_tls", "sessions", "settings", "unnamed_relays", "upstream", "virtual_host")

    upstream: UpstreamPool

    def __init__(self, addons: AddonManager, authority: Authority, resolver: Resolver,
                 settings: Settings | None = None, virtual_host: VirtualHost | None = None) -> None:
        self.addons = addons
        self.authority = authority
        self.contexts = ServerContexts(authority)
        self.server_tls = ServerTls()
        self.pinned = PinnedClients()
        self.resolver = resolver
        self.settings = settings if settings is not None else Settings()
        self.virtual_host = virtual_host
        #: Where our own listeners are, bound addresses with real port numbers.
        self.listening: set[Address] = set()
        self.sessions: set[Session] = set()
        #: UDP flows, and WebSocket connections within sessions.
        self.conversations: set[Conversation] = set()
        #: Tunnels to bare addresses without a server name that no rule could decide on (rule-language 5.1).
        self.unnamed_relays = 0
        #: True from the moment the proxy stops: connections are not kept alive any more.
        self.closing = False
        self.update_tls()

    def update_tls(self) -> None:
        """Have new handshakes with clients follow the settings. Raises CertificateError; nothing has changed then."""
        settings = self.settings
        try:
            custom = CustomCertificates(settings.certs)
        except CertificateError as exc:
            raise CertificateError(f"option certs: {exc}") from exc
        for entry in custom.expired:
            log.warning("%s: the certificate for %s is not valid at this time", entry.path, entry.pattern)
        self.contexts.configure(ClientDemands(settings.tls_version_client_min, settings.request_client_cert,
                                              settings.client_ca), custom)

    def options_changed(self, names: Set[str]) -> None:
        """For `Options.observe`, once the settings follow them."""
        if not names & _CLIENT_TLS_OPTIONS:
            return
        try:
            self.update_tls()
        except CertificateError as exc:
            log.error("%s; what was set before holds", exc)

    def is_own_address(self, host: str, port: int) -> bool:
        """True if dialling `host:port` would reach one of our own listeners: following it would loop.

        `host` is an address or a canonical name; of names only `localhost` is judged here, other names when their
        addresses are known.
        """
        candidates = [address for address, listening_port in self.listening if listening_port == port]
        if not candidates:
            return False
        if host == "localhost":
            return True
        return is_ip(host) and _reaches(host, candidates)

    def close_idle_sessions(self) -> None:
        """Close the connections that wait for a next request; the others finish what they do."""
        for live in (*self.sessions, *self.conversations):
            live.go_away()

    def reconsider_tunnels(self) -> int:
        """Ask the policy again about every open tunnel; those it now decides differently end when they are quiet.

        Answers how many (rule-language 6.3).
        """
        if self.settings.stale_tunnels == "keep":
            return 0
        return sum([live.reconsider() for live in (*self.sessions, *self.conversations)])


def _reaches(host: str, listening: Iterable[str]) -> bool:
    target = ip_address(host)
    mapped = getattr(target, "ipv4_mapped", None)
    target = mapped or target
    # Linux connects 0.0.0.0 and :: to this machine; a wildcard listener is reached on every address it has.
    local = target.is_loopback or target.is_unspecified
    for text in listening:
        own = ip_address(text)
        if own == target or (target.is_unspecified and own.is_loopback):
            return True
        if own.is_unspecified and (local or is_local(str(target))):
            return True
    return False
