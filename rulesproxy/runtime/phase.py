"""The phases in which rules are decided, and the slots they compete for (rule-language 4).

What rule-language 4 calls the message phase is three here, one for each kind of message: they see different keys
(a WebSocket has a handshake with a path, a datagram has not), and an action works on one kind only.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable


class Phase(enum.IntEnum):
    """In the order an exchange passes them. The last three are the message phase, by kind of message."""

    DNS = 0
    CONNECT = 1
    TLS = 2
    REQUEST = 3
    RESPONSE = 4
    WEBSOCKET = 5
    TCP = 6
    UDP = 7


HTTP_PHASES = frozenset((Phase.REQUEST, Phase.RESPONSE))
MESSAGE_PHASES = frozenset((Phase.WEBSOCKET, Phase.TCP, Phase.UDP))
#: Phases in which the request can be seen: a WebSocket has that of its handshake.
REQUEST_PHASES = HTTP_PHASES | {Phase.WEBSOCKET}
#: Phases that a relayed TLS tunnel does not reach.
PLAINTEXT_PHASES = REQUEST_PHASES | {Phase.TCP}
ALL_PHASES = frozenset(Phase)

_WORDS = {Phase.WEBSOCKET: "websocket message", Phase.TCP: "tcp message", Phase.UDP: "udp message"}


def spoken(phases: Iterable[Phase]) -> list[str]:
    """The phases as people call them, in order: `request`, `tcp message`; all kinds of messages are just `message`."""
    ordered = sorted(set(phases))
    if MESSAGE_PHASES.issubset(ordered):
        return [phase.name.lower() for phase in ordered if phase not in MESSAGE_PHASES] + ["message"]
    return [_WORDS.get(phase, phase.name.lower()) for phase in ordered]


class Slot(enum.IntFlag):
    """Each slot is filled once per phase, by the first rule in order that wants it."""

    ANSWER = 1
    ROUTE = 2
    VIA = 4
    TLS = 8
    NAME = 16
    DROP = 32
    CLOSE = 64
    ALL = 127


#: The slots as plain numbers, for generated code. A DNS query has one answer, whether a block or a name gives it.
ANSWER, ROUTE, VIA, TLS, NAME, DROP, CLOSE = 1, 2, 4, 8, 16, 32, 64
DNS_ANSWER = ANSWER | NAME
