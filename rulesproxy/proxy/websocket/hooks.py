"""The hooks of a WebSocket connection. Its flow is that of the handshake, whose `response` has fired before."""

from __future__ import annotations

from dataclasses import dataclass

from rulesproxy.addons.hooks import Hook
from rulesproxy.model.flow import HTTPFlow


@dataclass(slots=True)
class WebsocketStartHook(Hook):
    """A handshake succeeded: `flow.websocket` is there, messages may follow."""

    flow: HTTPFlow


@dataclass(slots=True)
class WebsocketMessageHook(Hook):
    """A message arrived whole or was injected: `flow.websocket.messages[-1]`. Change its `content`, or `drop()` it."""

    flow: HTTPFlow


@dataclass(slots=True)
class WebsocketEndHook(Hook):
    """The connection ended, however it did: `flow.websocket.close_code` says so. Fires once for each start."""

    flow: HTTPFlow
