"""The hooks of one HTTP exchange, and what fires them: in order, and exactly one of `response` and `error`."""

from __future__ import annotations

from dataclasses import dataclass

from rulesproxy.addons.hooks import Hook
from rulesproxy.addons.manager import AddonManager
from rulesproxy.model.flow import HTTPFlow


@dataclass(slots=True)
class RequestheadersHook(Hook):
    """The head of a request was read, its body was not."""

    flow: HTTPFlow


@dataclass(slots=True)
class RequestHook(Hook):
    """The body was read, or streamed to its end. A response set here means no origin."""

    flow: HTTPFlow


@dataclass(slots=True)
class ResponseheadersHook(Hook):
    """The head of the response is known, its body was not read."""

    flow: HTTPFlow


@dataclass(slots=True)
class ResponseHook(Hook):
    """The body was read, or streamed to its end."""

    flow: HTTPFlow


@dataclass(slots=True)
class ErrorHook(Hook):
    """The exchange failed: `flow.error` says why. Fires exactly when `response` did not."""

    flow: HTTPFlow


class Stopped(Exception):
    """`flow.kill()` or `flow.drop`: the exchange ends here."""


class FlowEvents:
    """Fires the hooks of one flow: `response` and `error` exclude each other, and each fires once.

    All but `error` raise Stopped when a handler killed or dropped the flow.
    """

    __slots__ = ("_addons", "_flow", "over")

    def __init__(self, addons: AddonManager, flow: HTTPFlow) -> None:
        self._addons = addons
        self._flow = flow
        #: `response` or `error` has fired.
        self.over = False

    async def requestheaders(self) -> None:
        if self._addons.active(RequestheadersHook):
            await self._addons.fire(RequestheadersHook(self._flow))
            self.check()

    async def request(self) -> None:
        if self._addons.active(RequestHook):
            await self._addons.fire(RequestHook(self._flow))
            self.check()

    async def responseheaders(self) -> None:
        if self._addons.active(ResponseheadersHook):
            await self._addons.fire(ResponseheadersHook(self._flow))
            self.check()

    async def response(self) -> None:
        if self.over:
            return
        self.over = True
        if self._addons.active(ResponseHook):
            await self._addons.fire(ResponseHook(self._flow))
            self.check()

    async def error(self) -> None:
        if self.over:
            return
        self.over = True
        if self._addons.active(ErrorHook):
            await self._addons.fire(ErrorHook(self._flow))

    def check(self) -> None:
        """Raises Stopped if the flow was killed or dropped."""
        if self._flow.error is not None or self._flow.drop is not None:
            raise Stopped
