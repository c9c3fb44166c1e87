"""A SOCKS5 listener: greeting, user and password, CONNECT (RFC 1928, RFC 1929).

In: a connection just accepted. Out: the tunnel it asked for, served like one of CONNECT, or a refusal. As there,
success is answered before anything is dialled: what comes first through the tunnel decides whether the server is
needed at all. BIND and UDP ASSOCIATE are answered with "command not supported"; SOCKS4 is closed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from rulesproxy.addons.hooks import Hook
from rulesproxy.codecs.socks import (
    Command,
    Greeting,
    Method,
    Reply,
    SocksError,
    SocksRequest,
    choose_method,
    judge_credentials,
    read_credentials,
    read_greeting,
    read_request,
    reply,
)
from rulesproxy.model.names import is_ip
from rulesproxy.model.socks import Socks5AuthData
from rulesproxy.net.peek import PeekableStream
from rulesproxy.net.stream import ConnectionClosed
from rulesproxy.proxy.accept import ask

if TYPE_CHECKING:
    from rulesproxy.proxy.session import Session

log = logging.getLogger("rulesproxy")

_T = TypeVar("_T")


@dataclass(slots=True)
class Socks5AuthHook(Hook):
    """A SOCKS client sent user and password. `data.valid` is what `proxy_auth` says of them, and may be changed."""

    data: Socks5AuthData


async def serve_socks(session: Session, stream: PeekableStream) -> None:
    """Serve one connection to its end. Raises ConnectionClosed."""
    try:
        request = await _handshake(session, stream)
    except SocksError as exc:
        log.warning("%s: refused: %s", session.client.peer, exc)
        await _refuse(stream, exc.answer)
        return
    except TimeoutError:
        log.info("%s: the client did not finish its SOCKS handshake", session.client.peer)
        return
    if request is not None:
        await _open(session, stream, request)


async def _handshake(session: Session, stream: PeekableStream) -> SocksRequest | None:
    """Raises SocksError, TimeoutError, ConnectionClosed. None: refused, and answered."""
    session.idle = True
    try:
        greeting = await _next(session, stream, read_greeting)
    finally:
        session.idle = False
    method = _method(session, greeting)
    if method is Method.UNACCEPTABLE:
        log.warning("%s: refused: the client offers no user and password, which proxy_auth wants", session.client.peer)
        await _refuse(stream, choose_method(method))
        return None
    await stream.write(choose_method(method))
    if method is Method.PASSWORD and not await _authenticate(session, stream):
        return None
    request = await _next(session, stream, read_request)
    if request.command is not Command.CONNECT:
        raise SocksError(f"{request.command.name} is not served", reply(Reply.COMMAND_NOT_SUPPORTED))
    if request.port == 0:
        raise SocksError("there is no port 0", reply(Reply.FAILURE))
    return request


def _method(session: Session, greeting: Greeting) -> Method:
    """User and password where they are wanted, by the option or by an addon; else nothing, if that is offered."""
    core = session.core
    wanted = core.settings.proxy_auth is not None
    if greeting.offers(Method.PASSWORD) and (
            wanted or core.addons.active(Socks5AuthHook) or not greeting.offers(Method.NONE)):
        return Method.PASSWORD
    return Method.NONE if greeting.offers(Method.NONE) and not wanted else Method.UNACCEPTABLE


async def _authenticate(session: Session, stream: PeekableStream) -> bool:
    core, client = session.core, session.client
    credentials = await _next(session, stream, read_credentials)
    data = Socks5AuthData(client, credentials.user, credentials.password, True)
    verifier = core.settings.proxy_auth
    if verifier is not None:
        data.valid = await verifier.accepts(credentials.user, credentials.password)
    if core.addons.active(Socks5AuthHook):
        await core.addons.fire(Socks5AuthHook(data))
    if not data.valid:
        log.warning("%s: refused: wrong user or password (%r)", client.peer, credentials.user)
        await _refuse(stream, judge_credentials(False))
        return False
    client.user = credentials.user
    await stream.write(judge_credentials(True))
    return True


async def _open(session: Session, stream: PeekableStream, request: SocksRequest) -> None:
    scope = await ask(session, stream, (request.host, request.port), _say_no)
    if scope is None:
        return
    scope.unnamed = is_ip(request.host)
    # RFC 1928 §6 has the bound address here, which is not known yet; nobody looks at it for CONNECT.
    await stream.write(reply(Reply.SUCCEEDED))
    await session.serve(stream, scope)


async def _say_no(stream: PeekableStream, rule: str) -> None:
    await _refuse(stream, reply(Reply.NOT_ALLOWED))


async def _next(session: Session, stream: PeekableStream, read: Callable[[bytes], tuple[_T, int] | None]) -> _T:
    """The next message of the handshake. Raises SocksError, TimeoutError, ConnectionClosed."""
    watchdog = session.watchdog
    seen, deadline = 0, watchdog.now() + session.core.settings.head_timeout
    while True:
        data = await watchdog.within(deadline - watchdog.now(), stream.peek(seen + 1))
        if len(data) == seen:
            raise ConnectionClosed("the client left in its SOCKS handshake")
        found = read(data)
        if found is not None:
            message, length = found
            while length:
                length -= len(await stream.read(length))
            return message
        seen = len(data)


async def _refuse(stream: PeekableStream, answer: bytes) -> None:
    if answer:
        await stream.write(answer)
    await stream.write_eof()
