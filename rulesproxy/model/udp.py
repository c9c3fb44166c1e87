"""UDP as hooks see it: `UDPFlow` and its messages."""

from __future__ import annotations

from rulesproxy.model.connection import Client, Server
from rulesproxy.model.conversation import Conversation, ConversationMessage
from rulesproxy.model.effects import Drop
from rulesproxy.model.flow import Flow
from rulesproxy.model.tls import Tunnel


class UDPMessage(ConversationMessage):
    """One datagram. An empty one is one too: `drop()` keeps a datagram back."""

    __slots__ = ()


class UDPFlow(Flow, Conversation[UDPMessage]):
    """The datagrams between one client address and one server. Setting `drop` in a hook ends it in silence."""

    type = "udp"

    def __init__(self, client: Client, server: Server) -> None:
        super().__init__(client, server)
        self._begin()
        self.drop: Drop | None = None
        #: What it came through: the host and port that were asked for.
        self.tunnel: Tunnel | None = None
        self.rule: str | None = None
        self.closing = False

    def close(self) -> None:
        """End it in order once the message in hand and what was injected are sent. `drop` ends it at once."""
        self.closing = True
        self._tell()

    def inject(self, content: bytes, *, to_client: bool) -> None:
        """Send a datagram of our own to one side, as if the other had sent it."""
        self.speak(UDPMessage(not to_client, content))

    def __repr__(self) -> str:
        return f"<UDPFlow ({len(self.messages)} messages)>"
