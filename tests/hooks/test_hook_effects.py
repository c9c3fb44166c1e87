"""What handlers may change in the HTTP hooks, one row each, and what then is on the wire: over HTTP/1 and HTTP/2."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from rulesproxy.certs.authority import Authority
from rulesproxy.model.headers import Headers
from rulesproxy.model.http import Response
from tests.hooks.ends import Ends, Got, Sent
from tests.hooks.scene import scene
from tests.support.certificates import OriginCA
from tests.support.hook_logs import At

#: By default bodies are in pieces, and of unknown length.
GET = Sent()
UPLOAD = Sent("POST", pieces=(b"one ", b"two"))
ANSWER = Sent(fields=(("x-from", "origin"),), pieces=(b"hel", b"lo"))
WITH_TRAILERS = Sent("POST", pieces=(b"one",), trailers=(("x-sum", "in"),))
TRAILING = Sent(pieces=(b"hello",), trailers=(("x-sum", "out"),))


@dataclass
class World:
    """What a row may look at: where else there are servers, and what happened."""

    port: int = 0
    other: int = 0  # the same server elsewhere, with TLS
    plain: int = 0  # and without
    answer: Got = field(default_factory=Got)
    received: tuple[Got, ...] = ()
    elsewhere: tuple[Got, ...] = ()
    hooks: tuple[str, ...] = ()

    @property
    def request(self) -> Got:
        """The one request that a server got."""
        [request] = self.received
        return request


Act = Callable[[Any, World], None]


@dataclass(frozen=True)
class Row:
    """`collected`: bodies are read whole before `request` and `response`, as they are for scripts."""

    name: str
    hook: str
    act: Act
    check: Callable[[World], bool]
    request: Sent = GET
    reply: Sent = ANSWER
    collected: bool = False
    unfinished: bool = False


def sets(path: str, value: Any) -> Act:
    """Assign to an attribute of the flow: `request.path`."""
    def act(flow: Any, world: World) -> None:
        *owners, last = path.split(".")
        for owner in owners:
            flow = getattr(flow, owner)
        setattr(flow, last, value)

    return act


def header(message: str, name: str, value: str | None) -> Act:
    def act(flow: Any, world: World) -> None:
        headers = getattr(flow, message).headers
        if value is None:
            del headers[name]
        else:
            headers[name] = value

    return act


def kill(flow: Any, world: World) -> None:
    flow.kill()


def respond(flow: Any, world: World) -> None:
    flow.response = Response.make(418, b"made here", {"X-From": "hook"})


def moves(attribute: str) -> Act:
    """To the server elsewhere, or to the one without TLS."""
    def act(flow: Any, world: World) -> None:
        if attribute == "scheme":
            flow.request.scheme, flow.request.port = "http", world.plain
        elif attribute == "host":
            flow.request.host, flow.request.port = "127.0.0.1", world.other
        else:
            flow.request.port = world.other

    return act


def trailer(message: str) -> Act:
    def act(flow: Any, world: World) -> None:
        trailers = getattr(flow, message).trailers
        assert trailers is not None
        trailers["x-sum"] = "changed"

    return act


def new_trailers(message: str) -> Act:
    return lambda flow, world: setattr(getattr(flow, message), "trailers", Headers(((b"x-new", b"yes"),)))


def shout(data: bytes) -> bytes:
    """A stream function: called once more with nothing at the end."""
    return data.upper() or b"!"


def split(data: bytes) -> Iterator[bytes]:
    """One that answers an iterable."""
    yield data
    yield b"|"


def _made_here(world: World) -> bool:
    answer = world.answer
    return (answer.start, answer.body, answer.fields["x-from"]) == ("418", b"made here", "hook") and not answer.cut


def _untouched(world: World) -> bool:
    """No server was asked."""
    return not world.received and "server_connect" not in world.hooks


def _sized(got: Got, body: bytes) -> bool:
    """The body is that, whole, and its length was said if the version needs it."""
    return got.body == body and got.fields.get("content-length", str(len(body))) == str(len(body)) and not got.cut


ROWS = [
    # --- requestheaders: head, destination, stream, response --------------------------------------------------------
    Row("header set", "requestheaders", header("request", "x-new", "1"), lambda w: w.request.fields["x-new"] == "1"),
    Row("header replaced", "requestheaders", header("request", "x-old", "2"),
        lambda w: w.request.fields["x-old"] == "2", Sent(fields=(("x-old", "1"), ("x-old", "3")))),
    Row("header deleted", "requestheaders", header("request", "x-old", None),
        lambda w: "x-old" not in w.request.fields, Sent(fields=(("x-old", "1"),))),
    Row("method", "requestheaders", sets("request.method", "DELETE"), lambda w: w.request.start == "DELETE /"),
    Row("path", "requestheaders", sets("request.path", "/new?q=1"), lambda w: w.request.start == "GET /new?q=1"),
    Row("host", "requestheaders", moves("host"), lambda w: not w.received and len(w.elsewhere) == 1
        and w.elsewhere[0].fields["host"] == f"127.0.0.1:{w.other}"),
    Row("port", "requestheaders", moves("port"), lambda w: not w.received and len(w.elsewhere) == 1
        and w.elsewhere[0].fields["host"] == f"localhost:{w.other}"),
    Row("scheme", "requestheaders", moves("scheme"), lambda w: not w.received and len(w.elsewhere) == 1
        and "tls_start_server" not in w.hooks and w.answer.body == b"hello"),
    Row("request streamed", "requestheaders", sets("request.stream", True),
        lambda w: w.request.body == b"one two" and w.hooks.index("server_connect") < w.hooks.index("request"),
        UPLOAD, collected=True),
    Row("request transformed", "requestheaders", sets("request.stream", shout),
        lambda w: w.request.body == b"ONE TWO!", UPLOAD),
    Row("request transformed, sized", "requestheaders", sets("request.stream", shout),
        lambda w: w.request.body == b"ONE!" and "content-length" not in w.request.fields,
        Sent("POST", fields=(("content-length", "3"),), pieces=(b"one",))),
    Row("request split", "requestheaders", sets("request.stream", split),
        lambda w: w.request.body.replace(b"|", b"") == b"one two" and w.request.body.endswith(b"||"), UPLOAD),
    Row("answered at head", "requestheaders", respond,
        lambda w: _made_here(w) and _untouched(w) and "request" not in w.hooks),
    Row("answered at head, body to come", "requestheaders", respond,
        lambda w: _made_here(w) and _untouched(w) and "request" not in w.hooks, UPLOAD, unfinished=True),
    Row("answered at head, asked to continue", "requestheaders", respond,
        lambda w: _made_here(w) and _untouched(w) and not w.answer.interim,
        Sent("POST", fields=(("expect", "100-continue"), ("content-length", "9"))), unfinished=True),
    Row("answered HEAD", "requestheaders", respond,
        lambda w: w.answer.start == "418" and w.answer.body == b"" and w.answer.fields["content-length"] == "9",
        Sent("HEAD")),
    Row("answered 204", "requestheaders", sets("response", Response.make(204, b"no")),
        lambda w: w.answer.start == "204" and w.answer.body == b"" and "content-length" not in w.answer.fields),
    Row("answered 304", "requestheaders", sets("response", Response.make(304, b"")),
        lambda w: w.answer.start == "304" and w.answer.body == b"" and not w.answer.cut),
    Row("killed at head", "requestheaders", kill, lambda w: w.answer == Got(cut=True) and _untouched(w)),
    # --- request: anything, trailers too even when the body was streamed ---------------------------------------------
    Row("header set late", "request", header("request", "x-new", "1"), lambda w: w.request.fields["x-new"] == "1"),
    Row("method late", "request", sets("request.method", "PUT"), lambda w: w.request.start == "PUT /", UPLOAD,
        collected=True),
    Row("path late", "request", sets("request.path", "/new"), lambda w: w.request.start == "GET /new"),
    Row("host late", "request", moves("host"), lambda w: not w.received and len(w.elsewhere) == 1),
    Row("scheme late", "request", moves("scheme"), lambda w: not w.received and len(w.elsewhere) == 1),
    Row("request content", "request", sets("request.content", b"other"), lambda w: _sized(w.request, b"other"), UPLOAD,
        collected=True),
    Row("request emptied", "request", sets("request.content", b""), lambda w: _sized(w.request, b""), UPLOAD,
        collected=True),
    Row("request trailers, streamed", "request", trailer("request"),
        lambda w: w.request.trailers == {"x-sum": "changed"}, WITH_TRAILERS),
    Row("request trailers, collected", "request", trailer("request"),
        lambda w: w.request.trailers == {"x-sum": "changed"}, WITH_TRAILERS, collected=True),
    Row("request trailers made, streamed", "request", new_trailers("request"),
        lambda w: w.request.trailers == {"x-new": "yes"} and w.request.body == b"one two", UPLOAD),
    Row("request trailers made, collected", "request", new_trailers("request"),
        lambda w: w.request.trailers == {"x-new": "yes"} and w.request.body == b"one two", UPLOAD, collected=True),
    Row("answered in request", "request", respond, lambda w: _made_here(w) and _untouched(w)),
    Row("answered in request, collected", "request", respond, lambda w: _made_here(w) and _untouched(w), UPLOAD,
        collected=True),
    Row("answered in request, streamed", "request", respond, _made_here, UPLOAD),
    Row("killed in request", "request", kill, lambda w: w.answer == Got(cut=True) and _untouched(w)),
    Row("killed in request, streamed", "request", kill, lambda w: w.answer == Got(cut=True) and not w.received, UPLOAD),
    # --- responseheaders: head, stream ------------------------------------------------------------------------------
    Row("answer header set", "responseheaders", header("response", "x-new", "1"),
        lambda w: w.answer.fields["x-new"] == "1" and w.answer.fields["x-from"] == "origin"),
    Row("answer header deleted", "responseheaders", header("response", "x-from", None),
        lambda w: "x-from" not in w.answer.fields),
    Row("status", "responseheaders", sets("response.status_code", 203),
        lambda w: (w.answer.start, w.answer.body) == ("203", b"hello")),
    Row("response streamed", "responseheaders", sets("response.stream", True), lambda w: w.answer.body == b"hello",
        collected=True),
    Row("response transformed", "responseheaders", sets("response.stream", shout),
        lambda w: w.answer.body == b"HELLO!"),
    Row("response split", "responseheaders", sets("response.stream", split),
        lambda w: w.answer.body.replace(b"|", b"") == b"hello" and w.answer.body.endswith(b"||")),
    Row("replaced at head", "responseheaders", respond, lambda w: _made_here(w) and len(w.received) == 1),
    Row("killed at the answer's head", "responseheaders", kill, lambda w: w.answer == Got(cut=True)),
    # --- response: anything, trailers too ---------------------------------------------------------------------------
    Row("response content", "response", sets("response.content", b"other"), lambda w: _sized(w.answer, b"other"),
        collected=True),
    Row("response header late", "response", header("response", "x-new", "1"), lambda w: w.answer.fields["x-new"] == "1",
        collected=True),
    Row("status late", "response", sets("response.status_code", 203), lambda w: w.answer.start == "203",
        collected=True),
    Row("response trailers, streamed", "response", trailer("response"),
        lambda w: w.answer.trailers == {"x-sum": "changed"}, reply=TRAILING),
    Row("response trailers, collected", "response", trailer("response"),
        lambda w: w.answer.trailers == {"x-sum": "changed"}, reply=TRAILING, collected=True),
    Row("response trailers made, streamed", "response", new_trailers("response"),
        lambda w: w.answer.trailers == {"x-new": "yes"} and w.answer.body == b"hello"),
    Row("response trailers made, collected", "response", new_trailers("response"),
        lambda w: w.answer.trailers == {"x-new": "yes"} and w.answer.body == b"hello", collected=True),
    Row("replaced in response", "response", respond, lambda w: _made_here(w), collected=True),
    Row("killed in response, collected", "response", kill, lambda w: w.answer == Got(cut=True), collected=True),
    Row("killed in response, streamed", "response", kill, lambda w: w.answer.cut),
]


@pytest.mark.parametrize("version", ["http1", "http2"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_effect(row: Row, version: str, no_leaks: None, authority: Authority, origin_ca: OriginCA) -> None:
    world = World()
    acted = False

    def act(flow: Any) -> None:
        nonlocal acted
        if not acted:
            acted = True
            row.act(flow, world)

    addon: Any = At(row.hook, act)
    if row.collected:
        addon.needs_body = lambda flow, phase: True
    async with scene(authority, origin_ca) as made:
        ends, elsewhere = Ends(made, version), Ends(made, version)
        world.port = await ends.server(row.reply)
        world.other, world.plain = await elsewhere.server(row.reply), await elsewhere.server(row.reply, plain=True)
        await ends.proxy(addon, verify_upstream=False)  # the server's name may change
        world.answer = await ends.ask(world.port, row.request, unfinished=row.unfinished)
        world.received, world.elsewhere = tuple(ends.received), tuple(elsewhere.received)
        world.hooks = tuple(made.recorder.names)
        assert row.check(world), world
        assert acted and world.hooks.count("error") + world.hooks.count("response") == 1
        if version == "http2":  # whatever happened to the stream, the connection goes on
            assert not (await ends.ask(world.port, Sent(path="/again"))).cut
