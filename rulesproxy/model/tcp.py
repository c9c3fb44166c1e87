"""Raw TCP (or the inside of TLS) as hooks see it: `TCPFlow` and its messages."""

from __future__ import annotations

from rulesproxy.model.connection import Client, Server
from rulesproxy.model.conversation import Conversation, ConversationMessage
from rulesproxy.model.effects import Drop
from rulesproxy.model.flow import Flow
from rulesproxy.model.tls import Tunnel


class TCPMessage(ConversationMessage):
    """What one read brought: at most 64 KiB, and where it begins and ends means nothing. Empty content is not sent."""

    __slots__ = ()


class TCPFlow(Flow, Conversation[TCPMessage]):
    """One raw connection, both ways. Setting `drop` in a hook ends it: RESET resets both sides."""

    type = "tcp"

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
        """Send bytes of our own to one side, as if the other had sent them."""
        self.speak(TCPMessage(not to_client, content))

    def __repr__(self) -> str:
        return f"<TCPFlow ({len(self.messages)} messages)>"
