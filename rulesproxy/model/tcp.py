"""Raw TCP (or the inside of TLS) as hooks see it: `TCPFlow` and its messages."""

from __future__ import annotations

from rulesproxy.model.conversation import ConversationMessage
from rulesproxy.model.raw import RawFlow


class TCPMessage(ConversationMessage):
    """What one read brought: at most 64 KiB, and where it begins and ends means nothing. Empty content is not sent."""

    __slots__ = ()


class TCPFlow(RawFlow[TCPMessage]):
    """One raw connection, both ways. `drop` set to RESET resets both sides."""

    type = "tcp"
    MESSAGE = TCPMessage
