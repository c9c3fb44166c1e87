"""Messages of long-lived flows (WebSocket, TCP, UDP), and how handlers and rules speak into such a flow."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

#: How many messages a flow remembers unless `kept` says otherwise.
MESSAGES_KEPT = 100
#: And how much content, the latest message not counted, however large it is.
BYTES_KEPT = 1 << 20


class ConversationMessage:
    """One message. `content` may be changed, `drop()` keeps it from going on. `injected`: no peer sent it."""

    __slots__ = ("content", "dropped", "from_client", "injected", "timestamp")

    def __init__(self, from_client: bool, content: bytes, timestamp: float | None = None, *,
                 injected: bool = False) -> None:
        self.from_client = from_client
        self.content = content
        self.timestamp = time.time() if timestamp is None else timestamp
        self.dropped = False
        self.injected = injected

    def drop(self) -> None:
        self.dropped = True

    def __repr__(self) -> str:
        return f"{'->' if self.from_client else '<-'} {self.content!r}"


M = TypeVar("M", bound=ConversationMessage)


class Conversation(Generic[M]):
    """Mixed into what holds messages, which calls `_begin`. No slots: such flows are few and live long.

    `messages` holds the latest `kept` messages (None: all), fewer when they are large; the last one is the one a
    handler is called for. What is injected waits in `outbox` until the proxy core, told through `on_speak`, has sent
    it.
    """

    def _begin(self) -> None:
        self.messages: list[M] = []
        self._size = 0  # of their contents, as they arrived
        self.kept: int | None = MESSAGES_KEPT
        self.outbox: list[M] = []
        self.on_speak: Callable[[], None] | None = None
        #: What the rules see of the conversation; nobody else reads it.
        self.facts: Any = None

    def remember(self, message: M) -> None:
        """Append a message and forget what is older than the latest `kept`, or more than `BYTES_KEPT`."""
        messages, kept = self.messages, self.kept
        messages.append(message)
        if kept is None:
            return
        self._size += len(message.content)
        if len(messages) > 2 * max(kept, 1) or self._size > 2 * BYTES_KEPT:  # twice: not for every message
            self._forget(max(kept, 1))

    def _forget(self, kept: int) -> None:
        messages = self.messages
        size, first = 0, len(messages) - 1
        while first > 0 and len(messages) - first < kept:
            size += len(messages[first - 1].content)
            if size > BYTES_KEPT:
                break
            first -= 1
        del messages[:first]
        self._size = min(size, BYTES_KEPT)  # that of the latest counts for nothing

    def speak(self, message: M) -> None:
        """Queue a message of our own: as if from the client or from the server, as `message.from_client` says.

        It goes out after the message in hand, through the message hook like any other, marked `injected`.
        """
        message.injected = True
        self.outbox.append(message)
        self._tell()

    def _tell(self) -> None:
        if self.on_speak is not None:
            self.on_speak()
