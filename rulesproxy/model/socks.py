"""What `socks5_auth` receives."""

from __future__ import annotations

from dataclasses import dataclass, field

from rulesproxy.model.connection import Client


@dataclass(slots=True)
class Socks5AuthData:
    """Who a SOCKS client says it is. `valid` is what the option `proxy_auth` says of it, and what counts in the end."""

    client: Client
    user: str
    password: str = field(repr=False)
    valid: bool = False

    @property
    def client_conn(self) -> Client:
        """The same as `client`, as scripts for mitmproxy call it."""
        return self.client

    @property
    def username(self) -> str:
        """The same as `user`, as scripts for mitmproxy call it."""
        return self.user
