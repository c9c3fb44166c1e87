"""Which addresses are this machine's own."""

from __future__ import annotations

import socket


def is_local(address: str) -> bool:
    """Whether a literal address is one of this machine's: only those can be bound."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True
