"""The load: clients that ask through the proxy, check every answer, and count.

Each client is a generator that says which socket it waits for and in which direction; `run` advances whoever can go
on, in one thread and without an event loop, so that the generator costs little beside a proxy. Plain keep-alive can
be left to wrk (wrk.py), which costs less still; it cannot speak TLS through a CONNECT.
"""

from __future__ import annotations

import resource
import selectors
import socket
import ssl
import time
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from selectors import EVENT_READ, EVENT_WRITE

from benchmarks.process import HOST

_READ_SIZE = 65536
#: A client that hears nothing for so long counts as an error.
_PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class Job:
    """What every client does. `keep_alive`: many requests on one connection; else a new one for each."""

    proxy_port: int
    host: str
    port: int
    tls: bool
    keep_alive: bool
    body: bytes

    @property
    def request(self) -> bytes:
        target = "/" if self.tls else f"http://{self.host}:{self.port}/"
        return f"GET {target} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n\r\n".encode()

    @property
    def connect(self) -> bytes:
        return f"CONNECT {self.host}:{self.port} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n\r\n".encode()


@dataclass(slots=True)
class Tally:
    """What a run came to. `generator_seconds` is the processor time the load itself took."""

    seconds: float = 0.0
    done: int = 0
    errors: list[str] = field(default_factory=list)
    generator_seconds: float = 0.0
    #: The certificate the first client was shown, DER.
    certificate: bytes | None = None
    #: The first answer, whole.
    sample: bytes = b""


_Wait = tuple[socket.socket, int]
_Client = Generator[_Wait, None, None]


def run(job: Job, connections: int, seconds: float) -> Tally:
    """Keep `connections` clients busy for that long."""
    tally = Tally()
    context = _context()
    before = _processor_seconds()
    started = time.monotonic()
    deadline = started + seconds
    with selectors.DefaultSelector() as selector:
        for _ in range(connections):
            _advance(selector, _client(job, context, tally), None)
        while (now := time.monotonic()) < deadline and selector.get_map():
            ready = selector.select(min(deadline - now, _PATIENCE))
            if not ready and time.monotonic() < deadline:
                tally.errors.append(f"no answer for {_PATIENCE:g} s")
                break
            for key, _ in ready:
                _advance(selector, key.data, key)
        tally.seconds = time.monotonic() - started
        for key in list(selector.get_map().values()):
            key.data.close()
    tally.generator_seconds = _processor_seconds() - before
    return tally


def once(job: Job) -> Tally:
    """One request, for a look at its answer."""
    tally = Tally()
    client = _client(replace(job, keep_alive=False), _context(), tally)
    try:
        for sock, event in client:
            with selectors.DefaultSelector() as selector:
                selector.register(sock, event)
                if not selector.select(_PATIENCE):
                    tally.errors.append(f"no answer for {_PATIENCE:g} s")
                    break
            if tally.done:
                break
    except (OSError, ValueError) as exc:
        tally.errors.append(_text(exc))
    finally:
        client.close()
    return tally


def _advance(selector: selectors.BaseSelector, client: _Client, key: selectors.SelectorKey | None) -> None:
    """Run a client up to its next wait; one that failed or finished is left out from then on."""
    try:
        sock, event = next(client)
    except StopIteration:
        if key is not None:
            selector.unregister(key.fileobj)
        return
    if key is not None and key.fileobj is sock:
        if key.events != event:
            selector.modify(sock, event, client)
        return
    if key is not None:  # that socket was closed: it has left the kernel's list, not ours
        selector.unregister(key.fileobj)
    selector.register(sock, event, client)


def _client(job: Job, context: ssl.SSLContext, tally: Tally) -> _Client:
    """Requests until the run is over, or until something is not as it should be."""
    request = job.request
    try:
        while True:
            with _Closing(socket.socket()) as held:
                sock = yield from _connected(job, context, tally, held)
                yield from _ask(sock, request, job.body, tally)
                while job.keep_alive:
                    yield from _ask(sock, request, job.body, tally)
    except (OSError, ValueError) as exc:
        tally.errors.append(_text(exc))


class _Closing:
    """Closes the socket it holds last: TLS replaces the one it began with."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def __enter__(self) -> _Closing:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


def _connected(job: Job, context: ssl.SSLContext, tally: Tally,
               held: _Closing) -> Generator[_Wait, None, socket.socket]:
    """A connection on which requests can be sent: through a CONNECT and a handshake for TLS."""
    sock = held.sock
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.connect_ex((HOST, job.proxy_port))
    yield sock, EVENT_WRITE
    if not job.tls:
        return sock
    sock.sendall(job.connect)
    granted = b""
    while not granted.endswith(b"\r\n\r\n"):
        yield sock, EVENT_READ
        granted += _more(sock.recv(_READ_SIZE))
    if b" 200 " not in granted[:16]:
        raise ValueError(f"the CONNECT was answered with {granted[:60]!r}")
    tls = held.sock = context.wrap_socket(sock, server_hostname=job.host, do_handshake_on_connect=False)
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            yield tls, EVENT_READ
        except ssl.SSLWantWriteError:
            yield tls, EVENT_WRITE
    if tally.certificate is None:
        tally.certificate = tls.getpeercert(binary_form=True)
    return tls


def _ask(sock: socket.socket, request: bytes, body: bytes, tally: Tally) -> _Client:
    """One request and its whole answer."""
    sock.sendall(request)
    yield sock, EVENT_READ
    answer = b""
    while True:
        try:
            answer += _more(sock.recv(_READ_SIZE))
        except ssl.SSLWantReadError:
            pass  # session tickets, or half a record
        if answer.endswith(body) and len(answer) > len(body):
            break
        yield sock, EVENT_READ
    if not answer.startswith(b"HTTP/1.1 200 ") or answer.count(body) != 1:
        raise ValueError(f"a wrong answer: {answer[:60]!r}")
    if not tally.done:
        tally.sample = answer
    tally.done += 1


def _more(data: bytes) -> bytes:
    if not data:
        raise ValueError("the proxy closed the connection")
    return data


def _context() -> ssl.SSLContext:
    """It verifies nothing: certificates cost every contender's client the same, and none of them the proxy."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


def _text(exc: BaseException) -> str:
    return f"{type(exc).__name__}: {exc}"


def _processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
