"""Through another proxy: how a connection to it becomes one to the server behind it.

In: a connected stream to an HTTP or SOCKS5 proxy. Out: a stream on which the server's bytes come and go, or one
`UpstreamError` that names the proxy and what it said. It does not know how the proxy was reached, what the tunnel is
for, nor what is remembered of either: that is connector.py and pool.py.

Plain HTTP needs no tunnel through an HTTP proxy: it forwards requests whose target is a whole URL, for any server over
one connection. That is done where the proxy sends what it would have been sent itself (`takes_absolute_form`).
"""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from rulesproxy.addons.hooks import Hook
from rulesproxy.certs.contexts import client_context
from rulesproxy.certs.files import CertificateError
from rulesproxy.codecs.http1 import ProtocolError, Receiver, ResponseHead, parse_host_field, serialize_request
from rulesproxy.codecs.socks_client import TIMED_OUT, SocksClient, SocksError
from rulesproxy.model.connection import Address, Client, Server
from rulesproxy.model.effects import Route, Via
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.headers import Field, Fields, Headers
from rulesproxy.model.http import Request, Response
from rulesproxy.model.names import host_for_url
from rulesproxy.net.peek import PeekableStream
from rulesproxy.net.stream import ConnectionClosed, Stream
from rulesproxy.net.tls import TLSError, TLSStream
from rulesproxy.proxy.framing import NO_BODY, asks_for_websocket, with_framing
from rulesproxy.proxy.upstream.target import Target, UpstreamError, failure_status

if TYPE_CHECKING:
    from rulesproxy.proxy.core import Core

_TITLE = "The upstream proxy refused"
_SCHEMES = frozenset(("http", "https", "socks5"))
#: Interim answers to one CONNECT before its final one.
_INTERIM_LIMIT = 20


@dataclass(slots=True)
class HttpConnectUpstreamHook(Hook):
    """A CONNECT is about to go to an upstream proxy: its headers may be changed, as for authentication."""

    flow: HTTPFlow


def seen(via: Via | None) -> tuple[str, Address] | None:
    """`Server.via`, as hooks see it."""
    return None if via is None else (via.scheme, (via.host, via.port))


def after_hook(server: Server, via: Via | None) -> Via | None:
    """What `server_connect` left of `via`, the way there was. Raises UpstreamError."""
    wanted: object = server.via
    if wanted == seen(via):
        return via
    match wanted:
        case None:
            return None
        case (str(scheme), (str(host), int(port))) if scheme in _SCHEMES and host and 0 < port < 65536:
            return Via(scheme, host, port)
    raise UpstreamError(f"an addon set server.via to {wanted!r}, which is no (scheme, (host, port))",
                        title="No such upstream proxy")


def takes_absolute_form(via: Via | None, target: Target, request: Request, route: Route) -> bool:
    """True if `via` can forward the request itself and the server gets the same as from here.

    Not with a Host that is not where the request goes, which a proxy replaces (RFC 9112 §3.2.2), and not where the
    connection is going to be something else.
    """
    if via is None or via.scheme == "socks5" or target.tls or asks_for_websocket(request):
        return False
    host = request.headers.first(b"host") if route.host_header is None else route.host_header.encode("ascii")
    try:
        name, port = parse_host_field(host or b"")
    except ProtocolError:
        return False
    return (name, port or 80) == (target.host, target.port)


def authorization(via: Via) -> tuple[Field, ...]:
    """The field that says who asks, if that was given (RFC 7617)."""
    if via.auth is None:
        return ()
    credentials = base64.b64encode(":".join(via.auth).encode())
    return ((b"Proxy-Authorization", b"Basic " + credentials),)


def for_forwarder(via: Via, path: str, fields: Fields) -> tuple[str, Fields]:
    """The target and the fields of a request that `via` is to forward (RFC 9112 §3.2.2)."""
    host = next(value for name, value in fields if name.lower() == b"host").decode("ascii")
    # RFC 9112 §3.2.4: OPTIONS * has an empty path there.
    return f"http://{host}{'' if path == '*' else path}", (*fields, *authorization(via))


def refusal(via: Via, head: ResponseHead, what: str) -> UpstreamError:
    """What an HTTP proxy's own refusal means for the client, who cannot mend it."""
    said = f"{head.status} {head.reason}".rstrip()
    if head.status == 407:
        return _unauthorized(via, f"{what}: {said}")
    return UpstreamError(f"the upstream proxy {via} refused {what}: {said}", title=_TITLE, rule=via.rule)


def _unauthorized(via: Via, what: str) -> UpstreamError:
    given = "does not accept the user and the password" if via.auth is not None else "wants a user and a password"
    hint = (f'Write the right ones as `auth: "user:password"` in the upstream_proxy of rule {via.rule}.' if via.rule
            else "Give the right ones with --set upstream_auth=USER:PASSWORD.")
    return UpstreamError(f"the upstream proxy {via} {given} ({what})", title=_TITLE, hint=hint, rule=via.rule)


async def secure(core: Core, stream: Stream, via: Via) -> Stream:
    """TLS to an `https` proxy, whose certificate must be for its name. Raises UpstreamError."""
    settings = core.settings
    try:
        context = client_context(verify=settings.verify_upstream, extra_ca=settings.upstream_ca)
        return await TLSStream.client(stream, context, via.host, timeout=settings.tls_timeout)
    except CertificateError as exc:
        raise UpstreamError(str(exc), title="TLS is not set up", hint="See --set upstream_ca=FILE.") from exc
    except (TLSError, ConnectionClosed) as exc:
        hint = ""
        if isinstance(exc, TLSError) and exc.verify_message:
            hint = "Trust its authority with --set upstream_ca=FILE, or nobody's with --set verify_upstream=false."
        raise UpstreamError(f"TLS with the upstream proxy {via} failed: {exc}", failure_status(exc),
                            title="TLS with the upstream proxy failed", hint=hint, rule=via.rule) from exc


async def open_way(core: Core, client: Client, server: Server, stream: Stream, via: Via, to: Address) -> Stream:
    """Have `via` connect the stream with `to`. The stream stays the caller's to close when that fails.

    Raises UpstreamError.
    """
    flow = None if via.scheme == "socks5" else await _connect_flow(core, client, server, via, to)
    try:
        async with asyncio.timeout(core.settings.connect_timeout):
            if flow is None:
                return await _ask_socks(stream, via, to)
            return await _connect(core, stream, via, to, flow)
    except TimeoutError:
        raise UpstreamError(f"the upstream proxy {via} did not answer for {_place(to)}: timed out", 504, title=_TITLE,
                            rule=via.rule) from None
    except ConnectionClosed as exc:
        _hung_up(via, to, exc)


# --- HTTP ---------------------------------------------------------------------------------------------------------


async def _connect_flow(core: Core, client: Client, server: Server, via: Via, to: Address) -> HTTPFlow:
    """The CONNECT, after the hook."""
    target = _place(to)
    flow = HTTPFlow(client, server)
    flow.request = Request("CONNECT", "", *to, "", Headers(((b"Host", target.encode("ascii")), *authorization(via))),
                           b"", authority=target)
    if core.addons.active(HttpConnectUpstreamHook):
        try:
            await core.addons.fire(HttpConnectUpstreamHook(flow))
        except BaseException:  # whoever wanted the connection has left
            flow.live = False
            raise
    if flow.error is not None:
        flow.live = False
        raise UpstreamError(flow.error.msg, title="Connection refused by an addon")
    return flow


async def _connect(core: Core, stream: Stream, via: Via, to: Address, flow: HTTPFlow) -> Stream:
    """CONNECT (RFC 9110 §9.3.6)."""
    target = _place(to)
    try:
        await stream.write(serialize_request("CONNECT", target, with_framing(flow.request.headers.fields, NO_BODY)))
        receiver = Receiver(core.settings.limits)
        head = await _final_answer(stream, receiver, via, to)
    except ProtocolError as exc:
        raise UpstreamError(f"the upstream proxy {via} sent no valid answer to CONNECT {target}: {exc.message}",
                            title=_TITLE, rule=via.rule) from exc
    finally:
        flow.live = False
    flow.response = Response(head.status, head.reason, Headers(head.fields), b"", head.version)
    if not 200 <= head.status < 300:
        raise refusal(via, head, f"CONNECT {target}")
    return _with_rest(stream, receiver.take_rest())


async def _final_answer(stream: Stream, receiver: Receiver, via: Via, to: Address) -> ResponseHead:
    for _ in range(_INTERIM_LIMIT):
        while (head := receiver.next_response("CONNECT")) is None:
            if receiver.at_eof:
                _hung_up(via, to, None)
            data = await stream.read()
            if data:
                receiver.feed(data)
            else:
                receiver.feed_eof()
        if head.status >= 200 or head.status == 101:
            return head
    raise ProtocolError(502, "interim answers without end")


# --- SOCKS5 -------------------------------------------------------------------------------------------------------


async def _ask_socks(stream: Stream, via: Via, to: Address) -> Stream:
    dialogue = SocksClient(*to, via.auth)
    try:
        await stream.write(dialogue.hello)
        while not dialogue.done:
            data = await stream.read()
            if not data:
                _hung_up(via, to, None)
            answer = dialogue.feed(data)
            if answer:
                await stream.write(answer)
    except SocksError as exc:
        if exc.auth:
            raise _unauthorized(via, str(exc)) from exc
        raise UpstreamError(f"the upstream proxy {via} did not connect to {_place(to)}: {exc}",
                            504 if exc.code == TIMED_OUT else 502, title=_TITLE, rule=via.rule) from exc
    return _with_rest(stream, dialogue.rest)


# --- both ---------------------------------------------------------------------------------------------------------


def _with_rest(stream: Stream, rest: bytes) -> Stream:
    """A server that speaks first may have done so already."""
    if not rest:
        return stream
    peekable = PeekableStream(stream)
    peekable.unread(rest)
    return peekable


def _hung_up(via: Via, to: Address, exc: Exception | None) -> NoReturn:
    why = f": {exc}" if exc is not None else ""
    raise UpstreamError(f"the upstream proxy {via} closed the connection when asked for {_place(to)}{why}",
                        title=_TITLE, rule=via.rule) from exc


def _place(address: Address) -> str:
    """With the port always: CONNECT has no default (RFC 9112 §3.2.3)."""
    return f"{host_for_url(address[0])}:{address[1]}"
