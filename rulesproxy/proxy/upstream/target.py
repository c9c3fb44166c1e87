"""What a request needs of a connection to a server, and the one error that says why there is none."""

from __future__ import annotations

from typing import NamedTuple

from rulesproxy.certs.verdicts import Verdict
from rulesproxy.model.connection import Address
from rulesproxy.model.effects import TlsDemands, Via
from rulesproxy.model.names import authority
from rulesproxy.model.policy import NameAnswer


class Target(NamedTuple):
    """What a request needs of a connection: equal targets can share one.

    `host` and `port` are what was asked for, before `server_connect` or a look-up changes where that leads. `sni` is
    the name sent and verified (an address is verified, never sent); None: `host`. `spoofed` is what rules answer for
    the host, which may be different for another client or after an edit.

    `via` is the proxy to go through, `via_spoofed` what rules answer for its name. `absolute_form`: the requests are
    for that proxy itself to forward (RFC 9112 §3.2.2), else they go through a tunnel that it opens. `server_tls` is
    what rules ask of TLS.
    """

    host: str
    port: int
    scheme: str = "http"
    sni: str | None = None
    verify: bool = True
    alpn: tuple[str, ...] = ()
    spoofed: NameAnswer | None = None
    via: Via | None = None
    via_spoofed: NameAnswer | None = None
    absolute_form: bool = False
    server_tls: TlsDemands | None = None

    @property
    def tls(self) -> bool:
        return self.scheme == "https"

    @property
    def server_name(self) -> str:
        return self.sni or self.host

    def __str__(self) -> str:
        through = f" through {self.via}" if self.via is not None else ""
        return f"{self.scheme}://{authority(self.host, self.port, self.scheme)}{through}"


class UpstreamError(Exception):
    """No connection: what to show the client. `status` is 502 or 504, `rule` the rule that is to blame, if one is,
    `untrusted` what is wrong with the server's certificate, if that was the reason."""

    def __init__(self, message: str, status: int = 502, *, title: str = "Server unreachable", hint: str = "",
                 rule: str = "", untrusted: Verdict | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.title = title
        self.hint = hint
        self.rule = rule
        self.untrusted = untrusted

    def again(self) -> UpstreamError:
        """The same for another exchange."""
        return UpstreamError(self.message, self.status, title=self.title, hint=self.hint, rule=self.rule,
                             untrusted=self.untrusted)


def place(address: Address | None) -> str:
    """`host:port` as people write it."""
    return authority(address[0], address[1], "") if address else "?"


def failure_status(exc: OSError) -> int:
    """504 when the server was silent, 502 when it refused (RFC 9110 §15.6)."""
    return 504 if "timed out" in str(exc) else 502
