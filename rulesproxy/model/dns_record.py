"""One question and one resource record of a DNS message, and the data of the common record types."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Any

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype

from rulesproxy.model import dns_wire
from rulesproxy.model.dns_types import classes, types
from rulesproxy.model.dns_wire import DNSError

DEFAULT_TTL = 60
_ESCAPE = re.compile(r"\\(?:\d{3}|.)")


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. `name` has no final dot and the case it was asked with."""

    name: str
    type: int = types.A
    class_: int = classes.IN

    @property
    def key(self) -> tuple[str, int, int]:
        """Equal for questions that ask the same: names compare without case (RFC 4343)."""
        return dns_wire.fold(self.name), self.type, self.class_

    @property
    def host(self) -> str:
        """The name for those who take it apart at its dots: one inside a label is written `\\046`."""
        if "\\" not in self.name:
            return self.name
        return _ESCAPE.sub(lambda found: "\\046" if found[0] == "\\." else found[0], self.name)

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "type": types.to_str(self.type), "class": classes.to_str(self.class_)}

    def __str__(self) -> str:
        return f"{self.name} {types.to_str(self.type)}"


@dataclass(slots=True)
class ResourceRecord:
    """A record; `data` is its wire form with every name uncompressed, `ttl` is seconds.

    The constructors named like types raise DNSError (a ValueError) for values that have no wire form; so do the
    properties when the data is not of their kind.
    """

    name: str
    type: int
    class_: int
    ttl: int
    data: bytes

    # --- constructors ----------------------------------------------------------------------------------------

    @classmethod
    def A(cls, name: str, ip: str | IPv4Address, *, ttl: int = DEFAULT_TTL) -> ResourceRecord:
        return cls(name, types.A, classes.IN, ttl, _packed_ip(IPv4Address, ip))

    @classmethod
    def AAAA(cls, name: str, ip: str | IPv6Address, *, ttl: int = DEFAULT_TTL) -> ResourceRecord:
        return cls(name, types.AAAA, classes.IN, ttl, _packed_ip(IPv6Address, ip))

    @classmethod
    def CNAME(cls, alias: str, canonical: str, *, ttl: int = DEFAULT_TTL) -> ResourceRecord:
        return cls(alias, types.CNAME, classes.IN, ttl, dns_wire.pack_name(canonical))

    @classmethod
    def PTR(cls, name: str, target: str, *, ttl: int = DEFAULT_TTL) -> ResourceRecord:
        return cls(name, types.PTR, classes.IN, ttl, dns_wire.pack_name(target))

    @classmethod
    def NS(cls, name: str, server: str, *, ttl: int = DEFAULT_TTL) -> ResourceRecord:
        return cls(name, types.NS, classes.IN, ttl, dns_wire.pack_name(server))

    @classmethod
    def TXT(cls, name: str, text: str | bytes, *, ttl: int = DEFAULT_TTL) -> ResourceRecord:
        """Text beyond 255 octets becomes several character strings of one record."""
        raw = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
        return cls(name, types.TXT, classes.IN, ttl, dns_wire.pack_strings(raw))

    @classmethod
    def MX(cls, name: str, preference: int, exchange: str, *, ttl: int = DEFAULT_TTL) -> ResourceRecord:
        return cls(name, types.MX, classes.IN, ttl, _shorts(preference) + dns_wire.pack_name(exchange))

    @classmethod
    def SRV(cls, name: str, priority: int, weight: int, port: int, target: str, *,
            ttl: int = DEFAULT_TTL) -> ResourceRecord:
        return cls(name, types.SRV, classes.IN, ttl, _shorts(priority, weight, port) + dns_wire.pack_name(target))

    @classmethod
    def HTTPS(cls, name: str, text: str, *, ttl: int = DEFAULT_TTL) -> ResourceRecord:
        """`text` as in a zone file (RFC 9460 §2.1): `1 . alpn="h2" ipv4hint=192.0.2.1`."""
        return cls.from_text(name, types.HTTPS, text, ttl=ttl)

    @classmethod
    def from_text(cls, name: str, type_: int, text: str, *, ttl: int = DEFAULT_TTL) -> ResourceRecord:
        """A record of any type from its zone-file form (`10 mail.example.com` for MX), or `\\# length hex`."""
        try:
            rdata = dns.rdata.from_text("IN", dns.rdatatype.RdataType.make(type_), text, origin=dns.name.root)
            data = rdata.to_wire(origin=dns.name.root)
        except (dns.exception.DNSException, ValueError, UnicodeError) as exc:
            raise DNSError(f"{text!r} is not the data of a {types.to_str(type_)} record: {exc}") from None
        return cls(name, type_, classes.IN, ttl, data or b"")

    # --- the data as values ----------------------------------------------------------------------------------

    @property
    def ipv4_address(self) -> IPv4Address:
        """The address of an A record."""
        return IPv4Address(_sized(self.data, 4))

    @ipv4_address.setter
    def ipv4_address(self, ip: str | IPv4Address) -> None:
        self.data = _packed_ip(IPv4Address, ip)

    @property
    def ipv6_address(self) -> IPv6Address:
        """The address of an AAAA record."""
        return IPv6Address(_sized(self.data, 16))

    @ipv6_address.setter
    def ipv6_address(self, ip: str | IPv6Address) -> None:
        self.data = _packed_ip(IPv6Address, ip)

    @property
    def domain_name(self) -> str:
        """The name in the data of a CNAME, NS, PTR or DNAME record."""
        name, end = dns_wire.read_name(self.data, 0)
        if end != len(self.data):
            raise DNSError("the data is more than a name")
        return name

    @domain_name.setter
    def domain_name(self, name: str) -> None:
        self.data = dns_wire.pack_name(name)

    @property
    def text(self) -> str:
        """The character strings of a TXT record, joined; invalid UTF-8 comes as surrogates."""
        return b"".join(dns_wire.read_strings(self.data)).decode("utf-8", "surrogateescape")

    @text.setter
    def text(self, text: str) -> None:
        self.data = dns_wire.pack_strings(text.encode("utf-8", "surrogateescape"))

    @property
    def data_text(self) -> str:
        """The data as a zone file has it; `\\# length hex` (RFC 3597 §5) where it does not parse as its type."""
        try:
            rdata = dns.rdata.from_wire(dns.rdataclass.RdataClass.make(self.class_),
                                        dns.rdatatype.RdataType.make(self.type), self.data, 0, len(self.data))
            return rdata.to_text(origin=dns.name.root, relativize=False)
        except (dns.exception.DNSException, ValueError):
            return f"\\# {len(self.data)} {self.data.hex()}".rstrip()

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "type": types.to_str(self.type), "class": classes.to_str(self.class_),
                "ttl": self.ttl, "data": self.data_text}

    def __str__(self) -> str:
        return f"{self.name} {self.ttl} {types.to_str(self.type)} {self.data_text}"


def _packed_ip(kind: type[IPv4Address] | type[IPv6Address], ip: str | IPv4Address | IPv6Address) -> bytes:
    try:
        return kind(str(ip)).packed
    except AddressValueError as exc:
        raise DNSError(str(exc)) from None


def _sized(data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise DNSError(f"the data has {len(data)} octets where an address has {size}")
    return data


def _shorts(*numbers: int) -> bytes:
    try:
        return struct.pack(f"!{len(numbers)}H", *numbers)
    except struct.error:
        raise DNSError(f"{', '.join(map(str, numbers))}: each must be a number from 0 to 65535") from None
