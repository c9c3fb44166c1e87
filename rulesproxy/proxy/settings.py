"""What the proxy core can be told: timeouts, limits and policies, as plain attributes."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from rulesproxy.addons.errors import OptionsError
from rulesproxy.codecs.http1 import Limits
from rulesproxy.model.via import parse_auth
from rulesproxy.proxy.passwords import Verifier, make_verifier

_LIMITS = Limits()
_PATHS = ("upstream_ca", "client_certs", "client_ca")


@dataclass(slots=True)
class Settings:
    """Times are seconds, sizes bytes. Assigning to an attribute takes effect from the next wait on."""

    connect_timeout: float = 10.0
    #: From the first byte of a request to the end of its head.
    head_timeout: float = 10.0
    tls_timeout: float = 10.0
    #: Silence between requests, in relayed tunnels, and while an answer is awaited.
    idle_timeout: float = 300.0
    #: Silence in a UDP flow.
    udp_timeout: float = 60.0
    #: Silence in the middle of a body, and a client that does not take what it asked for.
    body_timeout: float = 60.0
    #: A request line, a head with its end, and how many fields a head may have.
    request_line_limit: int = _LIMITS.request_line
    head_limit: int = _LIMITS.head
    field_limit: int = _LIMITS.fields
    #: The largest body kept in memory because a rule or an addon wants it whole.
    rule_body_limit: int = 10 * 1024 * 1024
    #: The largest WebSocket message, inflated, where messages are looked at.
    websocket_message_limit: int = 16 * 1024 * 1024
    #: What happens when Host and the name of the tunnel disagree: "refuse" (421) or "warn".
    identity: str = "refuse"
    verify_upstream: bool = True
    upstream_ca: Path | None = None
    #: Certificates to show to servers: a file, or a folder of HOST.pem.
    client_certs: Path | None = None
    #: Certificates to show to clients instead of leaves: `[PATTERN=]FILE`.
    certs: tuple[str, ...] = ()
    #: Whether clients are asked for a certificate ("no", "optional", "required"), and who must have signed it.
    request_client_cert: str = "no"
    client_ca: Path | None = None
    #: The oldest TLS spoken (certs/versions.py).
    tls_version_client_min: str = "TLS1_2"
    tls_version_server_min: str = "TLS1_2"
    #: `user:password` for the proxies of `upstream` modes.
    upstream_auth: str | None = field(default=None, repr=False)
    #: Who may use the proxy; None: everybody who reaches it.
    proxy_auth: Verifier | None = None
    #: What that was made of.
    proxy_auth_text: str | None = field(default=None, repr=False)
    #: In reverse mode: Host goes on as the client sent it.
    keep_host_header: bool = False
    connections: int = 10_000
    #: Speak HTTP/2 too, with clients and with servers.
    http2: bool = True
    #: "close" ends tunnels that new rules would treat differently, "keep" leaves them.
    stale_tunnels: str = "close"

    @classmethod
    def from_options(cls, options: Any) -> Self:
        """Take the attributes of the same names from an options object; what it lacks keeps its default."""
        settings = cls()
        settings.update_from(options)
        return settings

    @property
    def limits(self) -> Limits:
        """For the codec of a new connection."""
        return Limits(request_line=self.request_line_limit, head=self.head_limit, fields=self.field_limit)

    def update_from(self, options: Any) -> None:
        """Raises OptionsError, with nothing changed, for what only a closer look shows to be wrong."""
        self._take_users(getattr(options, "proxy_auth", None), getattr(options, "upstream_auth", None))
        for setting in fields(self):
            value = getattr(options, setting.name, None)
            if value is None or setting.name == "proxy_auth":
                continue
            setattr(self, setting.name, Path(value).expanduser() if setting.name in _PATHS else value)

    def _take_users(self, users: str | None, upstream: str | None) -> None:
        option = "upstream_auth"
        try:
            if upstream:
                parse_auth(upstream)
            option = "proxy_auth"
            if users != self.proxy_auth_text:
                self.proxy_auth = make_verifier(users) if users else None
                self.proxy_auth_text = users
        except ValueError as exc:
            raise OptionsError(f"option {option}: {exc}") from None
