"""What rules may see of an exchange, computed when first asked for.

Everything is captured from immutable values (`headers.fields` is a tuple), so facts taken at the request head stay
what the client sent, whatever rules and scripts change afterwards: response rules read the request here.

Text is UTF-8 with invalid bytes as U+FFFD (rule-language 2.1): never surrogates, which RE2 refuses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from rulesproxy.model.headers import Fields
from rulesproxy.model.names import InvalidHost, authority, canonical_host, canonical_path
from rulesproxy.model.query import parse_query

if TYPE_CHECKING:
    from rulesproxy.model.connection import Client
    from rulesproxy.model.http import Request, Response
    from rulesproxy.model.tls import Tunnel


def header_values(fields: Fields, name: bytes) -> list[str]:
    """Values of the field `name` (lower case), one per line, trimmed."""
    return [value.strip().decode("utf-8", "replace") for key, value in fields if key.lower() == name]


def _safe_host(host: str) -> str:
    try:
        return canonical_host(host)
    except InvalidHost:
        return host.lower()


class Files(Protocol):
    """The one question rules may ask of the file system."""

    def exists(self, root: str, path: str) -> bool:
        """Whether `path` below the folder `root` is a readable regular file."""
        ...


class Facts:
    """What every phase sees. `host` is canonical: the query name, CONNECT host, SNI or request host by phase."""

    __slots__ = ("client_ip", "host", "listener", "mode", "port", "sni", "user")

    def __init__(self, client: Client | None, host: str, port: int = 0, sni: str | None = None) -> None:
        self.host = _safe_host(host)
        self.port = port
        self.sni = _safe_host(sni) if sni else ""
        if client is not None:
            self.client_ip = client.peername[0] if client.peername else ""
            self.mode = client.proxy_mode
            self.listener = client.listener
            self.user = client.user or ""
        else:
            self.client_ip = self.mode = self.listener = self.user = ""


class DnsFacts(Facts):
    """Phase dns. `dns_type` is the mnemonic (`A`, `HTTPS`, `TYPE65400`); `own` is true for the proxy's look-ups."""

    __slots__ = ("dns_type", "own")

    def __init__(self, client: Client | None, name: str, dns_type: str, own: bool = False) -> None:
        super().__init__(client, name)
        self.dns_type = dns_type
        self.own = own


class TunnelFacts(Facts):
    """Phases connect and tls. In phase tls the host is the SNI, else the CONNECT host, and the scheme is known."""

    __slots__ = ("scheme",)

    def __init__(self, tunnel: Tunnel) -> None:
        hello = tunnel.client_hello
        sni = hello.sni if hello is not None else None
        super().__init__(tunnel.client, sni or tunnel.host, tunnel.port, sni)
        self.scheme = "https" if hello is not None else ""


class HttpFacts(Facts):
    """Phases request and response."""

    __slots__ = ("_cookies", "_json", "_path", "_query", "acted", "fields", "files", "method", "request",
                 "request_over", "request_ready", "response", "response_fields", "response_over", "response_ready",
                 "scheme", "status", "target")

    def __init__(self, request: Request, client: Client | None) -> None:
        super().__init__(client, request.host, request.port, client.sni if client is not None else None)
        self.request = request
        self.method = request.method
        self.scheme = request.scheme
        self.target = request.path
        self.fields = request.headers.fields
        self.status = 0
        self.response: Response | None = None
        self.response_fields: Fields = ()
        #: Rules (RuleInfo) that took effect in the request phase, for their response parts.
        self.acted: list[Any] = []
        #: The body of the phase's message is complete and can be decoded.
        self.request_ready = False
        self.response_ready = False
        #: No more of the body will be known than now: it is complete, or it streams.
        self.request_over = False
        self.response_over = False
        #: Whether a local file exists, for `map_local` with `fallthrough`; injected, rules open nothing.
        self.files: Files | None = None
        self._path: str | None = None
        self._query: dict[str, list[str]] | None = None
        self._cookies: dict[str, list[str]] | None = None
        self._json: dict[str, Any] = {}

    def see_response(self, response: Response) -> None:
        """Enter the response phase: the response as it arrived, before any rule touched it."""
        self.response = response
        self.status = response.status_code
        self.response_fields = response.headers.fields

    @property
    def path(self) -> str:
        """The canonical path (rule-language 2.5)."""
        if self._path is None:
            self._path = canonical_path(self.target)
        return self._path

    @property
    def url(self) -> str:
        """The request URL, canonical path, default port omitted."""
        query = self.target.partition("?")[2]
        return f"{self.scheme}://{authority(self.host, self.port, self.scheme)}{self.path}" + (query and "?" + query)

    def query(self, key: str) -> list[str]:
        """Decoded values of a query key, in order; empty when absent."""
        if self._query is None:
            self._query = parse_query(self.target.partition("?")[2])
        return self._query.get(key, [])

    def header(self, name: bytes) -> list[str]:
        """Request field lines of `name` (lower case)."""
        return header_values(self.fields, name)

    def cookie(self, name: str) -> list[str]:
        """Values of the request cookie `name`, all Cookie lines joined first."""
        if self._cookies is None:
            cookies: dict[str, list[str]] = {}
            for line in self.header(b"cookie"):
                for part in line.split(";"):
                    key, equals, value = part.strip().partition("=")
                    if equals:
                        cookies.setdefault(key.strip(), []).append(value.strip())
            self._cookies = cookies
        return self._cookies.get(name, [])

    def response_header(self, name: bytes) -> list[str]:
        """Response field lines of `name` (lower case)."""
        return header_values(self.response_fields, name)

    def request_json(self) -> Any:
        """The request body as JSON, None when it is not JSON or not read."""
        return self._json_of("request", self.request)

    def response_json(self) -> Any:
        """The response body as JSON, None when it is not JSON or not read."""
        return self._json_of("response", self.response)

    def _json_of(self, which: str, message: Any) -> Any:
        if which not in self._json:
            try:
                self._json[which] = message.json()
            except (TypeError, ValueError, AttributeError, RecursionError):
                self._json[which] = None
        return self._json[which]
