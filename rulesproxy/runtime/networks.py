"""Sets of IP addresses and networks."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

_BITS = {4: 32, 6: 128}


@lru_cache(maxsize=4096)
def _address(text: str) -> tuple[int, int] | None:
    """`(version, number)`; an IPv4 address in IPv6 clothes is the IPv4 address, a zone index does not count."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.version, int(address)


class Networks:
    """`text in networks`: one look-up per prefix length, however many networks there are."""

    __slots__ = ("_by_length",)

    def __init__(self, *networks: str) -> None:
        """Raises ValueError for what is not an address or a network."""
        by_length: dict[tuple[int, int], set[int]] = {}
        for text in networks:
            network = ipaddress.ip_network(text)
            shift = _BITS[network.version] - network.prefixlen
            by_length.setdefault((network.version, shift), set()).add(int(network.network_address) >> shift)
        self._by_length = tuple((version, shift, numbers) for (version, shift), numbers in by_length.items())

    def __contains__(self, text: object) -> bool:
        found = _address(text) if isinstance(text, str) else None
        if found is None:
            return False
        version, number = found
        return any(v == version and number >> shift in numbers for v, shift, numbers in self._by_length)


@lru_cache(maxsize=1024)
def networks(*texts: str) -> Networks:
    """The set of these addresses and networks."""
    return Networks(*texts)
