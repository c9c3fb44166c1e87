"""What each scenario must write into the log of hooks: worked out from the hooks page alone, before any was run.

A log is `load configure running`, then the row, then `done`. `server_disconnected` comes when a connection is closed,
which the page puts nowhere else: it is counted, one for each `server_connected`, and not placed. The recorder asks for
no bodies, so bodies stream unless a row says otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

Names = tuple[str, ...]

START: Names = ("load", "configure", "running")
END: Names = ("done",)

CONNECTED: Names = ("client_connected",)
DISCONNECTED: Names = ("client_disconnected",)
REQUEST: Names = ("requestheaders", "request")
DIALLED: Names = ("server_connect", "server_connected")
ANSWER: Names = ("responseheaders", "response")
TUNNEL: Names = ("http_connect", "http_connected")
DECRYPTED: Names = ("tls_clienthello", "tls_start_client", "tls_established_client")
SECURED: Names = ("tls_start_server", "tls_established_server")
INTERCEPTED: Names = (*TUNNEL, *DECRYPTED)
DNS: Names = ("dns_request", "dns_response")
NO_DNS: Names = ("dns_request", "dns_error")


@dataclass(frozen=True, slots=True)
class Expected:
    """`order`, then the hooks of flows that go on side by side, each of `together` in its own order, then `then`."""

    order: Names
    together: tuple[Names, ...] = ()
    then: Names = ()

    @property
    def names(self) -> Names:
        """Every hook of the row, with the ends of its server connections last."""
        placed = (*START, *self.order, *(name for flow in self.together for name in flow), *self.then)
        return (*placed, *("server_disconnected",) * placed.count("server_connected"), *END)

    def difference(self, log: Sequence[str]) -> str:
        """What is wrong with a log, in words; empty when it is the expected one."""
        placed = [name for name in log if name != "server_disconnected"]
        closed = len(log) - len(placed)
        if closed != log.count("server_connected"):
            return f"{closed} server_disconnected for {log.count('server_connected')} server_connected: {log}"
        before, after = [*START, *self.order], [*self.then, *END]
        middle = placed[len(before):len(placed) - len(after)]
        if placed[:len(before)] != before or placed[len(placed) - len(after):] != after:
            return f"expected {[*before, *self.together, *after]}, got {placed}"
        if not _interleaved(middle, self.together):
            return f"expected {self.together} side by side, got {middle}"
        return ""


def _interleaved(log: Sequence[str], flows: tuple[Names, ...]) -> bool:
    """Whether `log` is made of these sequences, each in order."""
    if Counter(log) != Counter(name for flow in flows for name in flow):
        return False
    positions = {tuple(0 for _ in flows)}
    for name in log:
        positions = {(*at[:i], at[i] + 1, *at[i + 1:]) for at in positions for i, flow in enumerate(flows)
                     if at[i] < len(flow) and flow[at[i]] == name}
    return bool(positions)


def _plain(*hooks: Names) -> Expected:
    return Expected((*CONNECTED, *(name for part in hooks for name in part), *DISCONNECTED))


#: A request that streams is over when it has gone through, so after the server was dialled.
_UPLOAD: Names = ("requestheaders", *DIALLED, "request", *ANSWER)
_DECRYPTED_GET: tuple[Names, ...] = (INTERCEPTED, REQUEST, DIALLED, SECURED, ANSWER)

EXPECTED: dict[str, Expected] = {
    # --- HTTP/1 ---------------------------------------------------------------------------------------------------
    "get": _plain(REQUEST, DIALLED, ANSWER),
    "post_collected": _plain(REQUEST, DIALLED, ANSWER),
    "upload_streamed": _plain(_UPLOAD),
    "download_streamed": _plain(REQUEST, DIALLED, ANSWER),
    "head": _plain(REQUEST, DIALLED, ANSWER),
    "no_content": _plain(REQUEST, DIALLED, ANSWER),
    "expect_continue": _plain(_UPLOAD),  # 1xx is forwarded, not taken for the answer
    "trailers": _plain(_UPLOAD),
    "keep_alive": _plain(REQUEST, DIALLED, ANSWER, REQUEST, ANSWER),
    "pipelined": _plain(REQUEST, DIALLED, ANSWER, REQUEST, ANSWER),
    "early_answer": _plain(("requestheaders",), DIALLED, ANSWER, ("request",)),  # a 413 during an upload
    "answered_at_head": _plain(("requestheaders",), ANSWER),  # `request` does not fire
    "answered_in_request": _plain(REQUEST, ANSWER),
    "redirected_connect": _plain(REQUEST, DIALLED, ANSWER, REQUEST, ANSWER),  # no new connection per request
    "connect_failed": _plain(REQUEST, ("server_connect", "server_connect_error", "error")),
    "server_sent_events": _plain(REQUEST, DIALLED, ANSWER),
    # --- tunnels --------------------------------------------------------------------------------------------------
    "tunnel_relayed": _plain(TUNNEL, ("tls_clienthello",), DIALLED),  # no tcp_*
    "tunnel_intercepted": _plain(*_DECRYPTED_GET),
    "tunnel_refused": _plain(("http_connect", "http_connect_error")),
    # Several tunnels at a time fit into one connection: each is a client of its own, inside the connection's.
    "tunnel_over_http2": _plain(CONNECTED, TUNNEL, REQUEST, DIALLED, ANSWER, DISCONNECTED),
    "server_tls_failed": _plain(INTERCEPTED, REQUEST, DIALLED, ("tls_start_server", "tls_failed_server", "error")),
    "client_tls_failed": _plain(TUNNEL, ("tls_clienthello", "tls_start_client", "tls_failed_client")),
    "upstream_proxy": _plain(INTERCEPTED, REQUEST, ("server_connect", "http_connect_upstream", "server_connected"),
                             SECURED, ANSWER),
    "socks_with_auth": _plain(("socks5_auth",), REQUEST, DIALLED, ANSWER),
    # --- HTTP/2 ---------------------------------------------------------------------------------------------------
    "http2_streams": Expected((*CONNECTED, *(name for part in _DECRYPTED_GET for name in part)),
                              ((*REQUEST, *ANSWER), (*REQUEST, *ANSWER)), DISCONNECTED),
    "http2_to_http1": _plain(*_DECRYPTED_GET),
    "http1_to_http2": _plain(*_DECRYPTED_GET),
    "grpc_streaming": _plain(INTERCEPTED, ("requestheaders",), DIALLED, SECURED,
                             ("responseheaders", "request", "response")),  # the call goes on both ways at once
    # --- WebSocket ------------------------------------------------------------------------------------------------
    "websocket": _plain(REQUEST, DIALLED, ANSWER,
                        ("websocket_start", "websocket_message", "websocket_message", "websocket_end")),
    "websocket_meddled": _plain(REQUEST, DIALLED, ANSWER, (  # edited, dropped, injected: a message each, and
        # what was injected changed the flow outside the event of its own
        "websocket_start", "websocket_message", "websocket_message", "websocket_message", "update", "websocket_end")),
    "websocket_over_http2": _plain(*_DECRYPTED_GET, (
        "websocket_start", "websocket_message", "websocket_message", "websocket_end")),
    # --- raw ------------------------------------------------------------------------------------------------------
    "tcp_client_first": _plain(TUNNEL, ("tcp_start",), DIALLED, ("tcp_message", "tcp_message", "tcp_end")),
    "tcp_server_first": _plain(TUNNEL, DIALLED, ("tcp_start", "tcp_message", "tcp_message", "tcp_end")),
    "tcp_reset": _plain(TUNNEL, ("tcp_start",), DIALLED, ("tcp_message", "tcp_error")),
    "reverse_tcp": _plain(("tcp_start",), DIALLED, ("tcp_message", "tcp_message", "tcp_end")),
    "reverse_udp": _plain(("udp_start",), DIALLED, ("udp_message", "udp_message", "udp_end")),
    "reverse_udp_failed": _plain(("udp_start",), DIALLED, ("udp_message", "udp_error")),
    # --- DNS: no connection over UDP, one over TCP ------------------------------------------------------------------
    "dns_answered_udp": Expected(DNS),
    "dns_forwarded_udp": Expected(DNS),
    "dns_failed_udp": Expected(NO_DNS),
    "dns_killed_udp": Expected(NO_DNS),
    "dns_answered_tcp": _plain(DNS),
    "dns_forwarded_tcp": _plain(DNS),
    "dns_failed_tcp": _plain(NO_DNS),
    "dns_killed_tcp": _plain(NO_DNS),
    # --- the life of the proxy --------------------------------------------------------------------------------------
    "started_and_stopped": Expected(()),
    "option_changed": Expected(("configure",)),
    "flow_changed_by_command": _plain(REQUEST, DIALLED, ("update",), ANSWER),
    "tcp_injected_by_command": _plain(TUNNEL, ("tcp_start",), DIALLED, (
        "tcp_message", "tcp_message", "update", "tcp_end")),  # of the client, and ours
}
