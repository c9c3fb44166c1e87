"""`PolicyChain`: the addons' opinions on TLS, bodies and names, and what holds when nobody has one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Literal

from rulesproxy.addons.handlers import Member
from rulesproxy.addons.options import Options
from rulesproxy.model.connection import Client
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.names import is_ip
from rulesproxy.model.policy import NameAnswer, TlsDecision, TlsVerdict, TunnelDecision
from rulesproxy.model.tls import Tunnel

logger = logging.getLogger("rulesproxy.addons")

WEBSOCKET_HOOKS = ("websocket_start", "websocket_message", "websocket_end")
#: Hooks that never fire for a relayed tunnel: an addon that handles one of them wants plaintext.
PLAINTEXT_HOOKS = ("requestheaders", "request", "responseheaders", "response", "error", *WEBSOCKET_HOOKS)

_INTERCEPT = TlsDecision(TlsVerdict.INTERCEPT)
_RELAY = TlsDecision(TlsVerdict.RELAY)
_REFUSE = TlsDecision(TlsVerdict.REFUSE)

_GRANTED = TunnelDecision()

_UNNAMED = {"relay": _RELAY, "intercept": _INTERCEPT, "refuse": _REFUSE}

_Question = tuple[str, Callable[..., Any]]


class PolicyChain:
    """Asks the addons in order; the first that answers something decides.

    An addon without `tls_decision` is a script here: when it handles an HTTP hook, TLS that nobody else decides on is
    intercepted (option `decrypt`), its `request` and `response` see whole bodies, and its `websocket_*` see messages.
    Addons that only look on and should not cause any of that define the methods and answer None and False.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._tls: tuple[_Question, ...] = ()
        self._tunnels: tuple[_Question, ...] = ()
        self._bodies: tuple[_Question, ...] = ()
        self._messages: tuple[_Question, ...] = ()
        self._names: tuple[_Question, ...] = ()
        self._script_phases: frozenset[str] = frozenset()
        self._script_decrypts = False
        self._script_listens = False

    def rebuild(self, members: Sequence[Member]) -> None:
        """Compute the tuples anew; the addon manager calls it whenever the chain changes."""
        self._tls = _questions(members, "tls_decision")
        self._tunnels = _questions(members, "tunnel_decision")
        self._bodies = _questions(members, "needs_body")
        self._messages = _questions(members, "needs_messages")
        self._names = _questions(members, "resolve")
        self._script_decrypts = any(
            member.policy("tls_decision") is None and any(member.handler(name) for name in PLAINTEXT_HOOKS)
            for member in members)
        self._script_listens = any(
            member.policy("needs_messages") is None and any(member.handler(name) for name in WEBSOCKET_HOOKS)
            for member in members)
        self._script_phases = frozenset(
            phase for phase in ("request", "response")
            if any(member.policy("needs_body") is None and member.handler(phase) for member in members))

    @property
    def decrypts_for_scripts(self) -> bool:
        """True if TLS is intercepted only because a script wants plaintext."""
        return self._script_decrypts and getattr(self._options, "decrypt", "auto") == "auto"

    def tls_decision(self, tunnel: Tunnel) -> TlsDecision:
        """What to do with a tunnel that starts TLS."""
        decision = self._opinion(tunnel) or self._default(tunnel)
        if decision.verdict is TlsVerdict.INTERCEPT and getattr(self._options, "decrypt", "auto") == "none":
            return TlsDecision(TlsVerdict.RELAY, decision.rule, decision.route, decision.via)
        return decision

    def _opinion(self, tunnel: Tunnel) -> TlsDecision | None:
        for name, ask in self._tls:
            try:
                decision: TlsDecision | None = ask(tunnel)
            except Exception as exc:
                _failed(name, "tls_decision", exc)
                if getattr(self._options, "addon_errors", "continue") == "refuse":
                    return _REFUSE
                continue
            if decision is not None:
                return decision
        return None

    def _default(self, tunnel: Tunnel) -> TlsDecision:
        if _is_unnamed(tunnel):
            decision = _UNNAMED[getattr(self._options, "unnamed", "relay")]
            if decision is not _RELAY:
                return decision
        if self.decrypts_for_scripts:
            return _INTERCEPT
        return _RELAY

    def tunnel_decision(self, tunnel: Tunnel) -> TunnelDecision:
        """What becomes of a tunnel that no CONNECT asks for, or, hypothetically, of one that is open."""
        for name, ask in self._tunnels:
            try:
                decision: TunnelDecision | None = ask(tunnel)
            except Exception as exc:
                _failed(name, "tunnel_decision", exc)
                continue
            if decision is not None:
                return decision
        return _GRANTED

    def needs_body(self, flow: HTTPFlow, phase: Literal["request", "response"]) -> bool:
        """True if the body must be complete before the `request` (`response`) hook fires."""
        if phase in self._script_phases:
            return True
        for name, ask in self._bodies:
            try:
                if ask(flow, phase):
                    return True
            except Exception as exc:
                _failed(name, "needs_body", exc)
        return False

    def needs_messages(self, flow: HTTPFlow) -> bool:
        """True if anybody looks at the messages of this WebSocket connection."""
        if self._script_listens:
            return True
        for name, ask in self._messages:
            try:
                if ask(flow):
                    return True
            except Exception as exc:
                _failed(name, "needs_messages", exc)
        return False

    def resolve(self, name: str, client: Client | None) -> NameAnswer | None:
        """A fixed answer for a name about to be dialled; None: look it up as usual."""
        for addon, ask in self._names:
            try:
                answer: NameAnswer | None = ask(name, client)
            except Exception as exc:
                _failed(addon, "resolve", exc)
                continue
            if answer is not None:
                return answer
        return None


def _questions(members: Sequence[Member], method: str) -> tuple[_Question, ...]:
    return tuple((member.name, ask) for member in members if (ask := member.policy(method)) is not None)


def _failed(addon: str, method: str, exc: Exception) -> None:
    logger.error("addon %s failed in %s", addon, method, exc_info=exc)


def _is_unnamed(tunnel: Tunnel) -> bool:
    """TLS to a bare address without SNI: before the ClientHello the name may still come."""
    return tunnel.client_hello is not None and not tunnel.client_hello.sni and is_ip(tunnel.host)
