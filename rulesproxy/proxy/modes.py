"""`--mode` specifications: what a listener is to its clients, and where it listens.

In: `mode[:data][@[host:]port]`. Out: a `Mode`. The last `@` splits, so data may hold one; credentials in it are an
error, because command lines are read by others.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from rulesproxy.model.connection import Address
from rulesproxy.model.names import InvalidHost, canonical_host, host_for_url, is_ip

DEFAULT_HOST = "127.0.0.1"
#: The modes there are, with the port each listens on unless told otherwise.
DEFAULT_MODE_PORTS = {"regular": 8080, "reverse": 8080, "upstream": 8080, "socks5": 1080, "transparent": 8081,
                      "dns": 8053}
#: Schemes of a destination, by mode, with the port of a URL that has none (0: it must have one).
DESTINATIONS = {
    "reverse": {"http": 80, "https": 443, "tcp": 0, "tls": 0, "udp": 0, "dns": 53},
    "upstream": {"http": 80, "https": 443},
}
_LATER_MODES = frozenset({"local", "wireguard", "tun"})
#: What other programs call them.
_FOREIGN_MODES = {"http": "regular", "https": "regular", "forward": "regular", "socks": "socks5", "socks5h": "socks5",
                  "tproxy": "transparent"}
_PLACE = re.compile(r"(?://)?((?:[^/@:]*|\[[^/@]*\]):?[0-9]{1,5})\Z")
_HOST_AND_PORT = re.compile(r"[^/@\s:]+(?::[0-9]{1,5})?\Z")
_LISTEN_HOST = re.compile(r"(?i)(?:\[.*\]|[\d.]*|localhost)\Z")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)(.*)\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Mode:
    """One listener as asked for. Port 0 takes any free port.

    `reverse` and `upstream` lead to a `destination`, spoken to in `scheme`; `data` is both as they were written.
    """

    name: str
    data: str
    host: str
    port: int
    scheme: str = ""
    destination: Address | None = None

    @property
    def transport(self) -> str:
        """What `Proxy` does not serve is `udp` or `dns`."""
        if self.name == "dns" or self.scheme == "dns":
            return "dns"
        return "udp" if self.scheme == "udp" else "tcp"

    @property
    def is_proxy(self) -> bool:
        """Its clients know that they speak to a proxy and can be asked who they are."""
        return self.name in ("regular", "upstream", "socks5")

    def __str__(self) -> str:
        data = f":{self.data}" if self.data else ""
        return f"{self.name}{data}@{host_for_url(self.host)}:{self.port}"


def parse_mode(spec: str) -> Mode:
    """Raises ValueError with one line that says what is wrong with the specification and what to write."""
    try:
        return _parse(spec)
    except ValueError as exc:
        raise ValueError(f"mode {_shown(spec)}: {exc}") from None


def _parse(spec: str) -> Mode:
    head, at, where = spec.rpartition("@")
    if not at:
        head, where = spec, ""
    name, colon, data = head.partition(":")
    if name not in DEFAULT_MODE_PORTS:
        raise ValueError(_unknown_mode(name))
    schemes = DESTINATIONS.get(name)
    if schemes is None and colon:
        place = _PLACE.match(data) if not at else None
        raise ValueError(f"{name!r} takes no data; write {name}@{place[1] if place else 'host:port'}")
    if schemes is not None:
        _refuse_credentials(name, data, where)
    scheme, destination = _destination(name, data, schemes) if schemes is not None else ("", None)
    if at and not where:
        raise ValueError(f"nothing follows the @; write {head}@host:port or {head}@port")
    default_port = DEFAULT_MODE_PORTS["dns" if scheme == "dns" else name]
    host, port = parse_listen_address(where, default_port) if where else (DEFAULT_HOST, default_port)
    return Mode(name, data, host, port, scheme, destination)


def _unknown_mode(name: str) -> str:
    known = ", ".join(DEFAULT_MODE_PORTS)
    if name in _LATER_MODES:
        return f"{name!r} is not available; there are {known}"
    lower = name.lower()
    near = difflib.get_close_matches(_FOREIGN_MODES.get(lower, lower), DEFAULT_MODE_PORTS, n=1)
    meant = f"regular@{name}" if name.isdigit() else near[0] if near else ""
    return f"there is no mode {name!r}{f' (did you mean {meant}?)' if meant else ''}; there are {known}"


def _refuse_credentials(name: str, data: str, where: str) -> None:
    """`upstream:http://me:secret@proxy:3128` would otherwise mean: listen on the port 3128 of `proxy`."""
    host = where.rpartition(":")[0] if ":" in where else where
    listens_on_a_name = bool(where) and _LISTEN_HOST.match(host) is None
    if "@" not in data and not listens_on_a_name:
        return
    if name == "upstream":
        raise ValueError("credentials do not belong in a mode, where others can read them; "
                         "write upstream:http://host:port and set upstream_auth to user:password")
    if "@" in data:
        raise ValueError("a destination has no credentials; write reverse:https://host:port "
                         "and set the Authorization header with a rule")
    raise ValueError(f"{host!r} after the last @ is where to listen, and is no address; "
                     "a destination has no credentials; write reverse:https://host:port@8080")


def _destination(name: str, data: str, schemes: dict[str, int]) -> tuple[str, Address]:
    first = next(iter(schemes))
    example = f"{name}:{first}://host:port"
    if not data:
        raise ValueError(f"{name!r} needs a destination; write {example}")
    match = _URL.match(data)
    if match is None:
        place = data if _HOST_AND_PORT.match(data) else "host:port"
        raise ValueError(f"{data!r} is no URL; write {name}:{'|'.join(schemes)}://{place}")
    scheme, authority, rest = match[1].lower(), match[2], match[3]
    if scheme not in schemes:
        rule = "; SOCKS5 proxies are for rules with upstream_proxy" if (name, scheme) == ("upstream", "socks5") else ""
        raise ValueError(f"{name!r} knows no {scheme}://; write {name}:{'|'.join(schemes)}://host:port{rule}")
    if rest not in ("", "/"):
        raise ValueError(f"a destination has no path; write {name}:{scheme}://{authority} and rewrite paths with rules")
    return scheme, _authority(name, scheme, authority, schemes[scheme])


def _authority(name: str, scheme: str, text: str, default_port: int) -> Address:
    match = re.fullmatch(r"(\[[^\]]*\]|[^:\[\]]*)(?::(.*))?", text)
    if match is None:
        raise ValueError(f"{text!r}: write an IPv6 address in brackets, {name}:{scheme}://[2001:db8::1]:port")
    host_text, port_text = match[1], match[2] or ""
    if not host_text:
        raise ValueError(f"the destination has no host; write {name}:{scheme}://host:port")
    if not port_text and not default_port:
        raise ValueError(f"{scheme}:// has no usual port; write {name}:{scheme}://{text.rstrip(':')}:port")
    port = _port(port_text, 1) if port_text else default_port
    try:
        return canonical_host(host_text), port
    except InvalidHost as exc:
        raise ValueError(str(exc)) from None


def parse_listen_address(text: str, default_port: int) -> Address:
    """`host:port`, `port`, `:port` or `[v6]:port`. Raises ValueError."""
    if text[:1].isdigit() and "." not in text and ":" not in text:  # 8080x is no machine either
        host, port_text = "", text
    elif ":" not in text or text.endswith("]"):
        host, port_text = text, str(default_port)
    else:
        host, _, port_text = text.rpartition(":")
    port = _port(port_text, 0)
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError(f"{text!r}: write an IPv6 address in brackets, [::1]:{default_port}")
    try:
        return canonical_host(host) if host else DEFAULT_HOST, port
    except InvalidHost as exc:
        raise ValueError(f"{text!r}: {exc}") from None


def _port(text: str, lowest: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and lowest <= int(text) <= 65535):
        raise ValueError(f"the port must be a number from {lowest} to 65535, not {text!r}")
    return int(text)


def _shown(spec: str) -> str:
    """The specification for a message, without what may be a password."""
    return repr(re.sub(r"(://)[^@]*@(?=.*[^0-9:])", r"\1…@", spec) if spec.count("@") else spec)


def is_loopback(host: str) -> bool:
    """True for a place to listen that other machines cannot reach."""
    return host == "localhost" or (is_ip(host) and (host == "::1" or host.startswith("127.")))
