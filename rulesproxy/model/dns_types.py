"""Names for the numbers in DNS messages: record types, classes, response codes and op codes (IANA registries).

`types.A` is 1, `types.to_str(1)` is `"A"`, `types.from_str("A")` is 1; a number without a name is `TYPE1234`
(RFC 3597 §5) and reads back.
"""

from __future__ import annotations

from typing import Any, ClassVar


class _Registry:
    """A namespace of upper-case integer constants with look-ups both ways."""

    PREFIX: ClassVar[str]
    names: ClassVar[dict[int, str]]
    codes: ClassVar[dict[str, int]]

    def __init_subclass__(cls, prefix: str, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.PREFIX = prefix
        cls.codes = {key: value for key, value in vars(cls).items() if isinstance(value, int)}
        cls.names = {value: key for key, value in cls.codes.items()}

    @classmethod
    def to_str(cls, code: int) -> str:
        return cls.names.get(code) or f"{cls.PREFIX}{code}"

    @classmethod
    def from_str(cls, text: str) -> int:
        """The number of a name, in any case. Raises ValueError for an unknown one."""
        upper = text.upper()
        code = cls.codes.get(upper)
        if code is not None:
            return code
        digits = upper.removeprefix(cls.PREFIX)
        if digits != upper and digits.isascii() and digits.isdigit() and int(digits) <= 0xFFFF:
            return int(digits)
        raise ValueError(f"unknown DNS {cls.__name__.removesuffix('s').replace('_', ' ')}: {text!r}")


class types(_Registry, prefix="TYPE"):
    A = 1
    NS = 2
    MD = 3
    MF = 4
    CNAME = 5
    SOA = 6
    MB = 7
    MG = 8
    MR = 9
    NULL = 10
    PTR = 12
    HINFO = 13
    MINFO = 14
    MX = 15
    TXT = 16
    RP = 17
    AFSDB = 18
    RT = 21
    SIG = 24
    KEY = 25
    PX = 26
    AAAA = 28
    LOC = 29
    NXT = 30
    SRV = 33
    NAPTR = 35
    KX = 36
    CERT = 37
    DNAME = 39
    OPT = 41
    APL = 42
    DS = 43
    SSHFP = 44
    IPSECKEY = 45
    RRSIG = 46
    NSEC = 47
    DNSKEY = 48
    DHCID = 49
    NSEC3 = 50
    NSEC3PARAM = 51
    TLSA = 52
    SMIMEA = 53
    HIP = 55
    CDS = 59
    CDNSKEY = 60
    OPENPGPKEY = 61
    CSYNC = 62
    ZONEMD = 63
    SVCB = 64
    HTTPS = 65
    SPF = 99
    EUI48 = 108
    EUI64 = 109
    TKEY = 249
    TSIG = 250
    IXFR = 251
    AXFR = 252
    ANY = 255
    URI = 256
    CAA = 257


class classes(_Registry, prefix="CLASS"):
    IN = 1
    CH = 3
    HS = 4
    NONE = 254
    ANY = 255


class response_codes(_Registry, prefix="RCODE"):
    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    YXDOMAIN = 6
    YXRRSET = 7
    NXRRSET = 8
    NOTAUTH = 9
    NOTZONE = 10
    BADVERS = 16
    BADKEY = 17
    BADTIME = 18
    BADCOOKIE = 23


class op_codes(_Registry, prefix="OPCODE"):
    QUERY = 0
    IQUERY = 1
    STATUS = 2
    NOTIFY = 4
    UPDATE = 5
    DSO = 6
