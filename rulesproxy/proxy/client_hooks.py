"""The hooks around a client's connection, whatever protocol it speaks."""

from __future__ import annotations

from dataclasses import dataclass

from rulesproxy.addons.hooks import Hook
from rulesproxy.model.connection import Client


@dataclass(slots=True)
class ClientConnectedHook(Hook):
    """A client connected. Setting `client.error` closes the connection."""

    client: Client


@dataclass(slots=True)
class ClientDisconnectedHook(Hook):
    """The connection has ended, on whichever side; fired once for each `client_connected`."""

    client: Client
