"""UDP as hooks see it: `UDPFlow` and its messages."""

from __future__ import annotations

from rulesproxy.model.conversation import ConversationMessage
from rulesproxy.model.raw import RawFlow


class UDPMessage(ConversationMessage):
    """One datagram. An empty one is one too: `drop()` keeps a datagram back."""

    __slots__ = ()


class UDPFlow(RawFlow[UDPMessage]):
    """The datagrams between one client address and one server. `drop` ends it in silence."""

    type = "udp"
    MESSAGE = UDPMessage
