"""Flows: one exchange, from the first byte to its end, with everything addons and rules said about it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any, Literal

from rulesproxy.model.connection import Client, Server
from rulesproxy.model.effects import Drop, LocalFile, Pacing, Route, TlsDemands, Via
from rulesproxy.model.http import Request, Response
from rulesproxy.model.websocket import WebSocketData


class Error:
    """Why a flow failed. `timestamp` is seconds since the epoch."""

    __slots__ = ("msg", "timestamp")

    KILLED_MESSAGE = "Connection killed."

    def __init__(self, msg: str, timestamp: float | None = None) -> None:
        self.msg = msg
        self.timestamp = time.time() if timestamp is None else timestamp

    def __str__(self) -> str:
        return self.msg

    def __repr__(self) -> str:
        return f"Error({self.msg!r})"


class Flow:
    """What flows of all protocols share. `metadata` is free for addons; `pinned` belongs to the rules."""

    __slots__ = (
        "__weakref__", "_id", "_metadata", "client_conn", "comment", "error", "is_replay", "live", "marked",
        "on_kill", "pinned", "server_conn", "timestamp_created",
    )

    type: Literal["http", "dns", "tcp", "udp"]

    def __init__(self, client: Client, server: Server) -> None:
        self._id: str | None = None
        self._metadata: dict[str, Any] | None = None
        self.client_conn = client
        self.server_conn = server
        self.error: Error | None = None
        self.live = True
        #: Called by `kill`: the proxy core may be waiting for somebody just then.
        self.on_kill: Callable[[], None] | None = None
        self.marked = ""
        self.comment = ""
        self.is_replay: str | None = None
        self.timestamp_created = time.time()
        #: The rule set this flow started with and what it has decided so far; nobody else reads it.
        self.pinned: Any = None

    @property
    def id(self) -> str:
        if self._id is None:
            self._id = str(uuid.uuid4())
        return self._id

    @property
    def metadata(self) -> dict[str, Any]:
        if self._metadata is None:
            self._metadata = {}
        return self._metadata

    @property
    def killable(self) -> bool:
        return self.live and (self.error is None or self.error.msg != Error.KILLED_MESSAGE)

    def kill(self) -> None:
        """End the flow: nothing more is sent, `error` fires. A flow that already ended is left alone."""
        if self.killable:
            self.error = Error(Error.KILLED_MESSAGE)
            if self.on_kill is not None:
                self.on_kill()


class HTTPFlow(Flow):
    """One HTTP exchange.

    `route`, `via`, `server_tls`, `drop`, `pacing` and `local_file` are decisions as data: set by rules (or addons),
    carried out by the core. `rule` names the rule that answered, for pages and logs. `body_overflow` is the phase whose
    body was wanted whole but is larger than `rule_body_limit`: the `request` (`response`) hook fires before such a
    body, with `raw_content` None, and the body streams unless the hook answers.
    """

    __slots__ = ("body_overflow", "drop", "local_file", "own_page", "pacing", "request", "response", "route", "rule",
                 "server_tls", "via", "websocket")

    type = "http"

    request: Request

    def __init__(self, client: Client, server: Server) -> None:
        super().__init__(client, server)
        self.response: Response | None = None
        self.websocket: WebSocketData | None = None
        self.route: Route | None = None
        self.via: Via | None = None
        self.server_tls: TlsDemands | None = None
        self.drop: Drop | None = None
        self.pacing: Pacing | None = None
        self.local_file: LocalFile | None = None
        self.rule: str | None = None
        #: The response is a page of the proxy's own (a block, an error): response rules leave it alone.
        self.own_page = False
        self.body_overflow: Literal["request", "response"] | None = None

    @property
    def timestamp_start(self) -> float:
        return self.request.timestamp_start

    def __repr__(self) -> str:
        return f"<HTTPFlow {self.request!r} {self.response!r}>"
