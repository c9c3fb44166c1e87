"""The order of hooks as a small automaton, written from the hooks page and not from what the proxy does.

Each client, each server connection, each TLS hand-shake and each flow is a machine of its own: a table from state to
the hooks that may come next. A hook that is not in the table, or a machine that does not reach an end, is a violation.
What ties machines together (a request belongs to a connected client, `response` xor `error`, …) is checked beside.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Table = Mapping[str, Mapping[str, str]]

#: Where every machine starts. The states in capitals are ends.
START = "start"

CLIENT: Table = {
    START: {"client_connected": "connected"},
    "connected": {"client_disconnected": "DISCONNECTED"},
    "DISCONNECTED": {},
}

#: TLS towards the client; a tunnel in a tunnel starts again.
CLIENT_TLS: Table = {
    START: {"tls_clienthello": "HELLO"},
    "HELLO": {"tls_start_client": "handshake"},  # or nothing more: relayed or refused
    "handshake": {"tls_established_client": "ESTABLISHED", "tls_failed_client": "FAILED"},
    "ESTABLISHED": {"tls_clienthello": "HELLO"},
    "FAILED": {},
}

SERVER: Table = {
    START: {"server_connect": "connecting"},
    "connecting": {"server_connected": "connected", "server_connect_error": "ERROR"},
    "connected": {"tls_start_server": "handshake", "server_disconnected": "DISCONNECTED"},
    "handshake": {"tls_established_server": "secured", "tls_failed_server": "failed"},
    "secured": {"server_disconnected": "DISCONNECTED"},
    "failed": {"server_disconnected": "DISCONNECTED"},
    "ERROR": {},
    "DISCONNECTED": {},
}

#: `early`: answered before the request was complete, or at its head, and then `request` may stay out.
HTTP: Table = {
    START: {"requestheaders": "head"},
    "head": {"request": "requested", "responseheaders": "early answer", "error": "FAILED"},
    "requested": {"responseheaders": "answer", "error": "FAILED"},
    "early answer": {"request": "answer", "response": "ANSWERED EARLY", "error": "FAILED"},
    "answer": {"response": "ANSWERED", "error": "FAILED"},
    "ANSWERED EARLY": {"request": "ANSWERED"},
    "ANSWERED": {},
    "FAILED": {},
}

#: A CONNECT of a client's, or one that goes to an upstream proxy, whose outcome is that of the connection.
CONNECT: Table = {
    START: {"http_connect": "asked", "http_connect_upstream": "SENT"},
    "asked": {"http_connected": "CONNECTED", "http_connect_error": "REFUSED"},
    "SENT": {},
    "CONNECTED": {},
    "REFUSED": {},
}

DNS: Table = {
    START: {"dns_request": "asked"},
    "asked": {"dns_response": "ANSWERED", "dns_error": "FAILED"},
    "ANSWERED": {"dns_error": "FAILED"},  # killed in dns_response
    "FAILED": {},
}

_MESSAGES: dict[str, Table] = {
    kind: {START: {f"{kind}_start": "open"},
           "open": {f"{kind}_message": "open", f"{kind}_end": "ENDED", f"{kind}_error": "FAILED"},
           "ENDED": {}, "FAILED": {}}
    for kind in ("tcp", "udp")
}
WEBSOCKET: Table = {
    START: {"websocket_start": "open"},
    "open": {"websocket_message": "open", "websocket_end": "ENDED"},
    "ENDED": {},
}

TABLES: dict[str, Table] = {"client": CLIENT, "client tls": CLIENT_TLS, "server": SERVER, "http": HTTP,
                            "connect": CONNECT, "dns": DNS, "websocket": WEBSOCKET, **_MESSAGES}

#: hook → the kind of machine it moves.
KINDS: dict[str, str] = {hook: kind for kind, table in TABLES.items() for moves in table.values() for hook in moves}
LIFE_CYCLE = ("load", "configure", "running", "update", "done")
ALL_NAMES = (*KINDS, *LIFE_CYCLE, "socks5_auth")


#: Modes whose connections lead somewhere without a CONNECT.
_TUNNELS_FROM_THE_START = ("reverse", "socks5", "transparent")


class HookOrder:
    """Feed it every hook with its argument; `violations` says in words what was out of order."""

    def __init__(self) -> None:
        self.violations: list[str] = []
        self.states: dict[tuple[str, int], str] = {}
        self._subjects: dict[int, Any] = {}  # keeps what was seen alive, so that an id stays one thing's id
        self._numbers: dict[int, str] = {}
        self._client_of: dict[tuple[str, int], Any] = {}
        self._done = False

    def feed(self, hook: str, argument: Any = None) -> None:
        if self._done:
            self._violate(f"{hook} after done")
        if hook == "done":
            self._done = True
        kind = KINDS.get(hook)
        if kind is None:
            return
        subject = _subject(kind, argument)
        client = _client(kind, argument)
        self._subjects[id(subject)] = subject
        self._subjects[id(client)] = client
        self._client_of[kind, id(subject)] = client
        self._check_client(hook, kind, subject, client)
        self._check_context(hook, kind, subject, client)
        self._move(hook, kind, subject)
        self._check_facts(hook, subject)

    def finish(self) -> list[str]:
        """Everything is over: machines that did not reach an end are violations too. Answers all violations."""
        for (kind, key), state in self.states.items():
            if not state.split()[0].isupper():
                self._violate(f"{self._name(kind, self._subjects[key])} ended in state {state!r}")
        return self.violations

    # --- inside -----------------------------------------------------------------------------------------------

    def _move(self, hook: str, kind: str, subject: Any) -> None:
        key = (kind, id(subject))
        state = self.states.get(key, START)
        following = TABLES[kind][state].get(hook)
        if following is None:
            self._violate(f"{hook} for {self._name(kind, subject)} in state {state!r}")
            return
        self.states[key] = following

    def _check_client(self, hook: str, kind: str, subject: Any, client: Any) -> None:
        """Everything happens while its client is connected, but for the end of pooled connections, which outlive it."""
        if kind == "client" or hook == "server_disconnected" or client.transport_protocol == "udp":
            return
        if self.states.get(("client", id(client))) != "connected":
            self._violate(f"{hook} for {self._name(kind, subject)} without a connected client")

    def _check_context(self, hook: str, kind: str, subject: Any, client: Any) -> None:
        match hook:
            case "requestheaders" | "http_connect":
                if self._state("client tls", client) not in (START, "ESTABLISHED"):
                    self._violate(f"{hook} before TLS with the client was established")
                if client.alpn != b"h2" and not subject.request.is_http2 and self._open_flows(client):
                    self._violate(f"{hook} before the exchange before it ended")
            case "server_connect":
                # A new connection is for an exchange that is going on, or for an open tunnel.
                if not self._open_flows(client) and not self._has_tunnel(client):
                    self._violate("server_connect that nobody asked for")
            case "http_connect_upstream":
                if self._state("server", subject.server_conn) != "connecting":
                    self._violate("http_connect_upstream outside the making of a connection")
            case "tls_clienthello":
                # TLS to the proxy itself comes before everything else on its connection.
                if not self._has_tunnel(client) and self._had_flows(client):
                    self._violate("tls_clienthello outside a tunnel")
            case "client_disconnected":
                for key in self._open_flows(client):
                    self._violate(f"client_disconnected before {self._name(key[0], self._subjects[key[1]])} ended")
            case "websocket_start":
                if self._state("http", subject) != "ANSWERED":
                    self._violate("websocket_start before the response of its flow")

    def _check_facts(self, hook: str, subject: Any) -> None:
        """What an addon must find on the argument of the hook."""
        match hook:
            case "responseheaders" | "response" if subject.response is None:
                self._violate(f"{hook} without flow.response")
            case "error" | "tcp_error" | "dns_error" if subject.error is None:
                self._violate(f"{hook} without flow.error")
            case "server_connect_error" | "tls_failed_server" if not subject.error:
                self._violate(f"{hook} without server.error")
            case "server_connect" if subject.connected or subject.address is None:
                self._violate("server_connect with a server that is connected, or has no address")
            case "server_connected" if not subject.connected or subject.peername is None:
                self._violate("server_connected with a server that is not connected")
            case "server_disconnected" if subject.connected:
                self._violate("server_disconnected with a server that is connected")
            case "tls_established_server" | "tls_established_client" if not subject.tls_established:
                self._violate(f"{hook} without timestamp_tls_setup")

    def _state(self, kind: str, subject: Any) -> str:
        return self.states.get((kind, id(subject)), START)

    def _open_flows(self, client: Any) -> list[tuple[str, int]]:
        return [key for key, state in self.states.items()
                if key[0] in ("http", "connect") and not state.split()[0].isupper()
                and self._client_of[key] is client]

    def _had_flows(self, client: Any) -> bool:
        return any(client is of for (kind, _), of in self._client_of.items() if kind in ("http", "connect"))

    def _has_tunnel(self, client: Any) -> bool:
        return client.proxy_mode in _TUNNELS_FROM_THE_START or any(
            kind == "connect" and state == "CONNECTED" and self._client_of[kind, key] is client
            for (kind, key), state in self.states.items())

    def _name(self, kind: str, subject: Any) -> str:
        return self._numbers.setdefault(id(subject), f"{kind} #{len(self._numbers) + 1}")

    def _violate(self, message: str) -> None:
        self.violations.append(message)


def _subject(kind: str, argument: Any) -> Any:
    """Whose machine the hook moves."""
    match kind:
        case "server":
            return argument.server
        case "client tls":
            return argument.client
        case _:
            return argument


def _client(kind: str, argument: Any) -> Any:
    match kind:
        case "client":
            return argument
        case "server" | "client tls":
            return argument.client
        case _:
            return argument.client_conn


class Recorder:
    """An addon that only looks on: it keeps the names of the hooks in order and feeds the automaton.

    It stands first in the chain and defines the policy methods, so that its presence neither decrypts nor buffers.
    """

    def __init__(self) -> None:
        self.order = HookOrder()
        self.events: list[tuple[str, Any]] = []
        #: Whether messages of WebSocket connections are to be read, also when nobody else looks at them.
        self.listens = True

    @property
    def names(self) -> list[str]:
        """The names of all hooks so far, without the life cycle."""
        return [name for name, _ in self.events if name not in LIFE_CYCLE]

    def of(self, *names: str) -> list[str]:
        """The names of those hooks only, in order."""
        return [name for name in self.names if name in names]

    def arguments(self, name: str) -> list[Any]:
        """What each call of that hook received."""
        return [argument for event, argument in self.events if event == name]

    def tls_decision(self, tunnel: Any) -> None:
        return None

    def needs_body(self, flow: Any, phase: Any) -> bool:
        return False

    def needs_messages(self, flow: Any) -> bool:
        return self.listens

    def record(self, name: str, argument: Any = None) -> None:
        self.events.append((name, argument))
        self.order.feed(name, argument)


def _define_handlers() -> None:
    def with_argument(name: str) -> Any:
        def handler(self: Recorder, argument: Any) -> None:
            self.record(name, argument)

        return handler

    def without_argument(name: str) -> Any:
        def handler(self: Recorder) -> None:
            self.record(name)

        return handler

    for name in ALL_NAMES:
        setattr(Recorder, name, without_argument(name) if name in ("running", "done") else with_argument(name))


_define_handlers()
