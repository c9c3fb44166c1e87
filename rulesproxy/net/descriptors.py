"""How many connections fit into what the process may open."""

from __future__ import annotations

import resource
from typing import NamedTuple

#: Descriptors for everything that is no proxied connection: listeners, files, watches, look-ups.
RESERVED = 40
IDLE_CONNECTIONS = 1024


class Room(NamedTuple):
    """Client connections at a time, each of which may need one to a server; server connections kept for later."""

    connections: int
    idle: int
    #: The limit this follows from.
    descriptors: int


def make_room(connections: int) -> Room:
    """Raise the process's soft limit on open files as far as `connections` need it and the system allows.

    Answers what fits, which is less than asked for when the hard limit is low.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = RESERVED + IDLE_CONNECTIONS + 2 * connections
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        except (OSError, ValueError):  # a sandbox may forbid even what the hard limit allows
            soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return room_in(soft if soft != resource.RLIM_INFINITY else needed, connections)


def room_in(descriptors: int, connections: int) -> Room:
    """What fits into so many descriptors."""
    free = max(descriptors - RESERVED, 3)
    idle = min(IDLE_CONNECTIONS, free // 5)
    return Room(min(connections, max(1, (free - idle) // 2)), idle, descriptors)
