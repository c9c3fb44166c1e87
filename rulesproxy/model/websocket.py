"""WebSocket conversations as hooks see them: `flow.websocket` and its messages."""

from __future__ import annotations

from enum import IntEnum

from rulesproxy.model.conversation import Conversation, ConversationMessage

#: RFC 6455 §5.5, §7.1.6: what of a Close frame is left for the reason, in bytes of UTF-8.
LONGEST_REASON = 123


def may_be_sent(code: int) -> bool:
    """RFC 6455 §7.4 and the registry it founded: codes that a Close frame may carry. 1005, 1006 and 1015 never do."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


class Opcode(IntEnum):
    """RFC 6455 §5.2: the two kinds of messages, as frames name them."""

    TEXT = 1
    BINARY = 2


class WebSocketMessage(ConversationMessage):
    """One message, whole, whatever frames it came in. `content` is bytes also for text (UTF-8)."""

    __slots__ = ("type",)

    def __init__(self, type: Opcode, from_client: bool, content: bytes, timestamp: float | None = None, *,
                 injected: bool = False) -> None:
        super().__init__(from_client, content, timestamp, injected=injected)
        self.type = type

    @property
    def is_text(self) -> bool:
        return self.type is Opcode.TEXT

    @property
    def text(self) -> str:
        """Raises AttributeError for a binary message: bytes are in `content`."""
        if not self.is_text:
            raise AttributeError("a binary message has no text")
        return self.content.decode("utf-8", "replace")

    @text.setter
    def text(self, value: str) -> None:
        if not self.is_text:
            raise AttributeError("a binary message has no text")
        self.content = value.encode("utf-8", "replace")


class WebSocketData(Conversation[WebSocketMessage]):
    """`close_code` and `close_reason` are those of the Close frame that ended it (1006: there was none), set before
    `websocket_end`; `closed_by_client` says whose it was. `closing` is what `close` asked for."""

    def __init__(self) -> None:
        self._begin()
        self.closed_by_client: bool | None = None
        self.close_code: int | None = None
        self.close_reason: str | None = None
        self.timestamp_end: float | None = None
        self.closing: tuple[int, str] | None = None

    def inject(self, content: bytes, *, to_client: bool, is_text: bool = True) -> None:
        """Send a message of our own to one side, as if the other had sent it."""
        self.speak(WebSocketMessage(Opcode.TEXT if is_text else Opcode.BINARY, not to_client, content))

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close both sides once the message in hand is dealt with. Raises ValueError for what no Close frame says."""
        if not may_be_sent(code):
            raise ValueError(f"{code} is no code to close a WebSocket with")
        if len(reason.encode("utf-8")) > LONGEST_REASON:
            raise ValueError(f"the reason of a close has at most {LONGEST_REASON} bytes")
        if self.closing is None:
            self.closing = (code, reason)
            self._tell()
