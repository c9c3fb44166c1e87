"""What raw TCP and UDP flows have in common."""

from __future__ import annotations

from typing import TypeVar

from rulesproxy.model.connection import Client, Server
from rulesproxy.model.conversation import Conversation, ConversationMessage
from rulesproxy.model.effects import Drop
from rulesproxy.model.flow import Flow
from rulesproxy.model.tls import Tunnel

M = TypeVar("M", bound=ConversationMessage)


class RawFlow(Flow, Conversation[M]):
    """Bytes between one client and one server. Setting `drop` in a hook ends it at once; `rule` names who did."""

    MESSAGE: type[M]

    def __init__(self, client: Client, server: Server) -> None:
        super().__init__(client, server)
        self._begin()
        self.drop: Drop | None = None
        #: What it came through: the host and port that were asked for.
        self.tunnel: Tunnel | None = None
        self.rule: str | None = None
        self.closing = False

    def close(self) -> None:
        """End it in order once the message in hand and what was injected are sent."""
        self.closing = True
        self._tell()

    def inject(self, content: bytes, *, to_client: bool) -> None:
        """Send a message of our own to one side, as if the other had sent it."""
        self.speak(self.MESSAGE(not to_client, content))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} ({len(self.messages)} messages)>"
