"""The phases in which rules are decided, and the slots they compete for (rule-language 4)."""

from __future__ import annotations

import enum


class Phase(enum.IntEnum):
    """In the order an exchange passes them."""

    DNS = 0
    CONNECT = 1
    TLS = 2
    REQUEST = 3
    RESPONSE = 4


HTTP_PHASES = frozenset((Phase.REQUEST, Phase.RESPONSE))
ALL_PHASES = frozenset(Phase)


class Slot(enum.IntFlag):
    """Each slot is filled once per phase, by the first rule in order that wants it."""

    ANSWER = 1
    ROUTE = 2
    VIA = 4
    TLS = 8
    NAME = 16
    ALL = 31


#: The slots as plain numbers, for generated code. A DNS query has one answer, whether a block or a name gives it.
ANSWER, ROUTE, VIA, TLS, NAME = 1, 2, 4, 8, 16
DNS_ANSWER = ANSWER | NAME
