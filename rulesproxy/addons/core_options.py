"""The proxy's own options: one declaration each, typed for the code that reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from rulesproxy.addons.option_types import Size
from rulesproxy.addons.options import Options

_OPTIONAL = Optional[str]  # noqa: UP045 - one spelling for all declarations, as scripts write it
_STRINGS = Sequence[str]
_VERSIONS = ("TLS1", "TLS1_1", "TLS1_2", "TLS1_3")
_TINY = 0.01  # seconds; a time limit of zero would refuse everything


class ProxyOptions(Options):
    """Options as `rulesproxy run` knows them. The annotations repeat the declarations for the type checker."""

    mode: tuple[str, ...]
    allow_remote: bool
    proxy_auth: str | None
    keep_host_header: bool
    confdir: str | None
    rules: tuple[str, ...]
    profile: str | None
    identity: str
    decrypt: str
    unnamed: str
    stale_tunnels: str
    verify_upstream: bool
    upstream_ca: str | None
    client_certs: str | None
    certs: tuple[str, ...]
    request_client_cert: str
    client_ca: str | None
    tls_version_client_min: str
    tls_version_server_min: str
    upstream_auth: str | None
    resolvers: tuple[str, ...]
    addon_errors: str
    request_line_limit: int
    head_limit: int
    field_limit: int
    connect_timeout: float
    tls_timeout: float
    head_timeout: float
    body_timeout: float
    idle_timeout: float
    dns_timeout: float
    udp_timeout: float
    rule_body_limit: int
    websocket_message_limit: int
    connections: int
    grace: float
    http2: bool

    def __init__(self) -> None:
        super().__init__()
        self._declare_listening()
        self._declare_rules()
        self._declare_tls()
        self._declare_limits()

    def _declare_listening(self) -> None:
        self.add("mode", _STRINGS, (),
                 "What to listen as, and where: `MODE[:DATA][@[HOST:]PORT]`. `regular@127.0.0.1:8080`, "
                 "`reverse:http|https|tcp|tls|udp|dns://HOST:PORT@8000`, `upstream:http|https://HOST:PORT`, "
                 "`socks5@1080`, `transparent@8081`, `dns@8053`. Given several times, all of them run; "
                 "with `dns` alone, `regular` too.")
        self.add("proxy_auth", _OPTIONAL, None,
                 "Who may use the proxy, in `regular`, `upstream` and `socks5` modes: `USER:PASSWORD`, `@FILE` for the "
                 "users of an htpasswd file (bcrypt, apr1 or {SHA}), or `any` for everybody who gives a name.",
                 secret=True)
        self.add("keep_host_header", bool, False,
                 "In `reverse` modes, send Host on as the client sent it. Otherwise the destination is told its own "
                 "name.")
        self.add("allow_remote", bool, False,
                 "Allow listening on addresses other machines can reach. Whoever reaches the proxy can use it.")
        self.add("confdir", _OPTIONAL, None,
                 "The folder with the certificate authority and `config.yaml`. Without it `$RULESPROXY_CONFDIR`, "
                 "`$XDG_CONFIG_HOME/rulesproxy` or `~/.config/rulesproxy`. Cannot be set in `config.yaml`.")
        self.add("connections", int, 10_000,
                 "The most client connections at a time; further ones get a 503. Fewer, when the system's limit on "
                 "open files (`ulimit -n`) has no room for them.", minimum=1)
        self.add("http2", bool, True,
                 "Speak HTTP/2 with clients and servers that want it. `false` leaves HTTP/1.1 for all of them.")
        self.add("grace", float, 5.0, "Seconds that open exchanges get to finish at shutdown.", minimum=0)

    def _declare_rules(self) -> None:
        self.add("rules", _STRINGS, (),
                 "The rule files and folders in use and the digest of their content. Kept by the reloader: name rules "
                 "on the command line.")
        self.add("profile", _OPTIONAL, None,
                 "The profile whose variables hold and whose rules are on; may change while the proxy runs.")
        self.add("stale_tunnels", str, "close",
                 "What happens after a reload to open tunnels that the new rules would decide differently: `close` at "
                 "their next silence, or `keep` until they end.", ("close", "keep"))
        self.add("rule_body_limit", Size, 10 << 20,
                 "The most bytes of a body, as received, that are held back for a rule or a script. A longer one "
                 "streams.")
        self.add("websocket_message_limit", Size, 16 << 20,
                 "The largest WebSocket message, inflated, that a rule or a script can be shown; a larger one closes "
                 "the connection with 1009.", minimum=1)
        self.add("addon_errors", str, "continue",
                 "What happens when a script raises: `continue` with the next addon, or `refuse` the exchange: a 500 "
                 "page while an answer is possible, otherwise the flow is killed.", ("continue", "refuse"))

    def _declare_tls(self) -> None:
        self.add("decrypt", str, "auto",
                 "Which TLS is decrypted: `auto`, what a rule needs, and everything while a script has HTTP hooks; "
                 "`named`, only hosts that rules name; `none`, nothing.", ("auto", "named", "none"))
        self.add("unnamed", str, "relay",
                 "What happens to TLS for a bare address without a server name: `relay`, `intercept` or `refuse`.",
                 ("relay", "intercept", "refuse"))
        self.add("identity", str, "refuse",
                 "What happens when a decrypted request names another host than its tunnel: `refuse` with 421, or "
                 "`warn` and go on.", ("refuse", "warn"))
        self.add("verify_upstream", bool, True, "Check the certificates of servers.")
        self.add("upstream_ca", _OPTIONAL, None,
                 "A PEM file with authorities to trust for servers, beside the system's.")
        self._declare_tls_details()
        self.add("upstream_auth", _OPTIONAL, None,
                 "`USER:PASSWORD` for the proxies that `upstream` modes go through; it is sent to no others. A rule "
                 "with `upstream_proxy` has an `auth` of its own.", secret=True)
        self.add("resolvers", _STRINGS, (),
                 "Name servers (`ADDRESS` or `ADDRESS:PORT`) to ask instead of the system's resolver, in order.")

    def _declare_tls_details(self) -> None:
        self.add("tls_version_client_min", str, "TLS1_2", "The oldest TLS that clients may speak.", _VERSIONS)
        self.add("tls_version_server_min", str, "TLS1_2",
                 "The oldest TLS that servers may speak; `TLS1` and `TLS1_1` allow weak keys and signatures too. A "
                 "rule's `tls: {min_version: …}` decides for its hosts.", _VERSIONS)
        self.add("client_certs", _OPTIONAL, None,
                 "What to show to servers that ask for a certificate: a PEM file with certificate and key for all of "
                 "them, or a folder with a HOST.pem for each. A rule's `tls: {client_cert: FILE}` comes first.")
        self.add("certs", _STRINGS, (),
                 "Certificates to show to clients instead of those made here: `[PATTERN=]FILE`, where the PEM file "
                 "holds certificate, chain and key, and the pattern is a host, `*.NAME`, `**.NAME` or, if left out, "
                 "every host. A changed file is noticed.")
        self.add("request_client_cert", str, "no",
                 "Whether clients are asked for a certificate in TLS that ends here: `no`, `optional` (one that is "
                 "shown must be good) or `required`. Plain HTTP and tunnels that are relayed do not ask for any.",
                 ("no", "optional", "required"))
        self.add("client_ca", _OPTIONAL, None, "A PEM file with the authorities for certificates of clients.")

    def _declare_limits(self) -> None:
        self.add("request_line_limit", Size, 16 << 10, "The longest request line; a longer one gets a 414.", minimum=64)
        self.add("head_limit", Size, 64 << 10, "The largest head of a message; a larger request gets a 431.",
                 minimum=256)
        self.add("field_limit", int, 200, "The most header fields of a message; a request with more gets a 431.",
                 minimum=1)
        self.add("connect_timeout", float, 10.0, "Seconds to reach a server, all its addresses together.",
                 minimum=_TINY)
        self.add("tls_timeout", float, 10.0, "Seconds for a TLS handshake, on either side.", minimum=_TINY)
        self.add("head_timeout", float, 10.0, "Seconds from the first byte of a request head to its last.",
                 minimum=_TINY)
        self.add("body_timeout", float, 60.0,
                 "Seconds a body may stand still, or take for its next 1024 bytes when its length is known.",
                 minimum=_TINY)
        self.add("idle_timeout", float, 300.0, "Seconds a connection may be silent between exchanges, or a tunnel "
                 "altogether.", minimum=_TINY)
        self.add("dns_timeout", float, 5.0, "Seconds for a DNS answer, all resolvers together.", minimum=_TINY)
        self.add("udp_timeout", float, 60.0, "Seconds after which a UDP flow in which nothing is sent has ended.",
                 minimum=_TINY)
