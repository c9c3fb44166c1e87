"""`--mode` specifications: which protocol a listener speaks, and where.

In: `mode[:data][@[host:]port]`. Out: a `Mode`. The last `@` splits, because the data of later modes may hold one.
"""

from __future__ import annotations

from dataclasses import dataclass

from rulesproxy.model.names import InvalidHost, canonical_host, host_for_url

DEFAULT_HOST = "127.0.0.1"
DEFAULT_MODE_PORTS = {"regular": 8080, "dns": 8053}
_LATER_MODES = frozenset({"reverse", "socks5", "transparent", "upstream", "local", "wireguard", "tun"})


@dataclass(frozen=True, slots=True)
class Mode:
    """One listener as asked for. Port 0 takes any free port."""

    name: str
    data: str
    host: str
    port: int

    def __str__(self) -> str:
        data = f":{self.data}" if self.data else ""
        return f"{self.name}{data}@{host_for_url(self.host)}:{self.port}"


def parse_mode(spec: str) -> Mode:
    """Raises ValueError with one line that says what is wrong with the specification."""
    head, at, where = spec.rpartition("@")
    if not at:
        head, where = spec, ""
    name, _, data = head.partition(":")
    if name not in DEFAULT_MODE_PORTS:
        known = " and ".join(DEFAULT_MODE_PORTS)
        if name in _LATER_MODES:
            raise ValueError(f"mode {spec!r}: {name!r} is not available yet; there are {known}")
        raise ValueError(f"mode {spec!r}: there is no mode {name!r}; there are {known}")
    if data:
        raise ValueError(f"mode {spec!r}: {name!r} takes no data; write {name}@host:port")
    if at and not where:
        raise ValueError(f"mode {spec!r}: nothing follows the @; write {name}@host:port or {name}@port")
    host, port = parse_listen_address(where, DEFAULT_MODE_PORTS[name]) if where else (
        DEFAULT_HOST, DEFAULT_MODE_PORTS[name])
    return Mode(name, data, host, port)


def parse_listen_address(text: str, default_port: int) -> tuple[str, int]:
    """`host:port`, `port`, `:port` or `[v6]:port`. Raises ValueError."""
    if text.isdigit():
        host, port_text = "", text
    elif ":" not in text or text.endswith("]"):
        host, port_text = text, str(default_port)
    else:
        host, _, port_text = text.rpartition(":")
    if not (port_text.isascii() and port_text.isdigit()) or int(port_text) > 65535:
        raise ValueError(f"{text!r}: the port must be a number from 0 to 65535, not {port_text!r}")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError(f"{text!r}: write an IPv6 address in brackets, [::1]:{default_port}")
    try:
        return canonical_host(host) if host else DEFAULT_HOST, int(port_text)
    except InvalidHost as exc:
        raise ValueError(f"{text!r}: {exc}") from None
