"""What hooks can do to an exchange, and how an exchange fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from rulesproxy.model.effects import Drop, LocalFile, Pacing, Route
from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.headers import Headers
from rulesproxy.model.http import Response
from tests.support.certificates import OriginCA
from tests.support.origin import OriginConnection, RawRequest, answering, run_origin
from tests.support.proxy import RunningProxy

MakeProxy = Callable[..., Awaitable[RunningProxy]]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"
SECONDS = 10.0
HOOKS = ("requestheaders", "request", "responseheaders", "response")


def request(port: int, method: str = "GET", fields: str = "Connection: close\r\n", body: bytes = b"",
            version: str = "1.1") -> bytes:
    return (f"{method} http://127.0.0.1:{port}/path HTTP/{version}\r\nHost: 127.0.0.1:{port}\r\n"
            f"{fields}\r\n").encode() + body


def at(hook: str, action: Callable[[HTTPFlow], Any]) -> Any:
    """An addon with one handler, which wants no bodies."""
    return type("At", (), {hook: staticmethod(action), "needs_body": lambda self, flow, phase: False})()


def whole(hook: str, action: Callable[[HTTPFlow], Any]) -> Any:
    """An addon with one handler, which wants whole bodies."""
    return type("Whole", (), {hook: staticmethod(action)})()


async def receive(proxy: RunningProxy, data: bytes) -> bytes:
    """Everything the proxy answers; b"reset" added when it resets."""
    reader, writer = await proxy.connect()
    out = b""
    try:
        async with asyncio.timeout(SECONDS):
            writer.write(data)
            while piece := await reader.read(65536):
                out += piece
    except ConnectionResetError:
        out += b"reset"
    finally:
        writer.close()
    return out


# --- ending an exchange -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("hook", HOOKS)
async def test_a_killed_flow_sends_nothing_more(make_proxy: MakeProxy, hook: str) -> None:
    proxy = await make_proxy(at(hook, lambda flow: flow.kill()))
    async with run_origin(OK) as origin:
        answer = await receive(proxy, request(origin.port))
        assert not answer.endswith(b"ok") or hook == "response"
        if hook != "response":
            assert answer == b""
        assert len(origin.connections) == (0 if hook.startswith("request") else 1)
    assert ("error" in proxy.recorder.names) is (hook != "response")


@pytest.mark.parametrize("hook", ["requestheaders", "responseheaders"])
@pytest.mark.parametrize("drop", list(Drop))
async def test_drops_are_carried_out(make_proxy: MakeProxy, hook: str, drop: Drop) -> None:
    proxy = await make_proxy(at(hook, lambda flow: setattr(flow, "drop", drop)), idle_timeout=0.3)
    async with run_origin(OK) as origin:
        started = asyncio.get_running_loop().time()
        answer = await receive(proxy, request(origin.port))
        took = asyncio.get_running_loop().time() - started
        assert answer == (b"reset" if drop is Drop.RESET else b"")
        assert (took >= 0.29) is (drop is Drop.HANG)
    assert proxy.recorder.names.count("error") == 1


async def test_a_connect_can_be_dropped(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(at("http_connect", lambda flow: setattr(flow, "drop", Drop.RESET)))
    assert await receive(proxy, b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n") == b"reset"
    assert "http_connect_error" in proxy.recorder.names


# --- answers made here --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("hook", ["requestheaders", "request"])
async def test_a_response_set_early_never_touches_the_origin(make_proxy: MakeProxy, hook: str) -> None:
    proxy = await make_proxy(whole(hook, lambda flow: setattr(flow, "response", Response.make(418, "teapot"))))
    async with run_origin(OK) as origin:
        answer = await receive(proxy, request(origin.port, "POST", "Content-Length: 3\r\n", b"abc")
                               + request(origin.port))
        assert answer.count(b"HTTP/1.1 418 ") == 2  # the body was drained, the connection kept
        assert origin.connections == []
    fired = [name for name in proxy.recorder.names if "client" not in name]
    expected = ["requestheaders", "responseheaders", "response"]
    if hook == "request":
        expected.insert(1, "request")
    assert fired == expected * 2


async def test_an_answer_at_the_head_does_not_wait_for_a_large_body(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(whole("requestheaders", lambda flow: setattr(flow, "response", Response.make(403, "no"))))
    answer = await receive(proxy, request(1, "POST", "Content-Length: 1000000\r\n", b"abc"))
    assert b"HTTP/1.1 403 " in answer
    assert b"Connection: close" in answer


@pytest.mark.parametrize(("method", "status", "length"), [
    ("HEAD", 200, b"content-length: 4"), ("GET", 204, b""), ("GET", 304, b"")])
async def test_synthetic_answers_without_a_body(make_proxy: MakeProxy, method: str, status: int, length: bytes) -> None:
    body = b"body" if status == 200 else b""
    proxy = await make_proxy(whole("request", lambda flow: setattr(flow, "response", Response.make(status, body))))
    answer = await receive(proxy, request(1, method))
    assert answer.endswith(b"\r\n\r\n")
    assert length in answer
    assert (b"content-length" in answer) is bool(length)


async def test_an_answer_can_be_replaced_at_its_head(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(at("responseheaders", lambda flow: setattr(flow, "response", Response.make(451, "new"))))
    async with run_origin(CHUNKED) as origin:
        answer = await receive(proxy, request(origin.port))
        assert answer.startswith(b"HTTP/1.1 451 ")
        assert answer.endswith(b"\r\n\r\nnew")


@pytest.mark.parametrize("content", [b"x" * 10, b"y" * 700_000])
async def test_an_edited_body_leaves_with_its_own_length(make_proxy: MakeProxy, content: bytes) -> None:
    def edit(flow: HTTPFlow) -> None:
        assert flow.response is not None
        assert flow.response.content == b"hello"
        flow.response.raw_content = content

    proxy = await make_proxy(whole("response", edit))
    async with run_origin(CHUNKED) as origin:
        head, _, body = (await receive(proxy, request(origin.port, version="1.0"))).partition(b"\r\n\r\n")
        assert body == content
        assert b"Content-Length: %d" % len(content) in head


async def test_headers_that_would_break_framing_are_not_sent(make_proxy: MakeProxy) -> None:
    def lie(flow: HTTPFlow) -> None:
        assert flow.response is not None
        flow.response.headers["content-length"] = "999"
        flow.response.headers["transfer-encoding"] = "gzip"
        flow.response.headers["connection"] = "x-y"

    proxy = await make_proxy(at("responseheaders", lie))
    async with run_origin(OK) as origin:
        head, _, body = (await receive(proxy, request(origin.port))).partition(b"\r\n\r\n")
        assert body == b"ok"
        assert b"Content-Length: 2" in head
        assert b"999" not in head
        assert b"gzip" not in head


async def test_header_injection_becomes_a_500(make_proxy: MakeProxy) -> None:
    def inject(flow: HTTPFlow) -> None:
        assert flow.response is not None
        flow.response.headers["x-evil"] = "a\r\nSet-Cookie: b"

    proxy = await make_proxy(at("responseheaders", inject))
    async with run_origin(OK) as origin:
        answer = await receive(proxy, request(origin.port))
        assert answer.startswith(b"HTTP/1.1 500 ")
        assert b"Set-Cookie" not in answer


async def test_a_local_file_answers(make_proxy: MakeProxy, tmp_path: Path) -> None:
    content = bytes(range(256)) * 4000
    (tmp_path / "data.bin").write_bytes(content)

    def map_local(flow: HTTPFlow) -> None:
        flow.local_file = LocalFile(str(tmp_path), "missing" if "x-miss" in flow.request.headers else "data.bin", "r")

    proxy = await make_proxy(at("requestheaders", map_local))
    head, _, body = (await receive(proxy, request(1))).partition(b"\r\n\r\n")
    assert body == content
    assert b"Content-Length: %d" % len(content) in head
    head_only = await receive(proxy, request(1, "HEAD"))
    assert head_only.endswith(b"\r\n\r\n")
    assert b"Content-Length: %d" % len(content) in head_only
    assert (await receive(proxy, request(1, fields="X-Miss: 1\r\nConnection: close\r\n"))).startswith(b"HTTP/1.1 404 ")
    assert proxy.recorder.names.count("response") == 3


# --- where it goes ------------------------------------------------------------------------------------------------

async def test_a_route_moves_the_request_and_host_follows_only_when_told(make_proxy: MakeProxy) -> None:
    async with run_origin(OK) as origin:
        def route(flow: HTTPFlow) -> None:
            flow.route = Route(host="127.0.0.1", port=origin.port,
                               host_header="new.test" if "x-new" in flow.request.headers else None)

        proxy = await make_proxy(at("requestheaders", route))
        for fields in ("", "X-New: 1\r\n"):
            data = f"GET http://nowhere.test/ HTTP/1.1\r\nHost: nowhere.test\r\n{fields}Connection: close\r\n\r\n"
            assert (await receive(proxy, data.encode())).endswith(b"ok")
        assert [raw.values(b"host") for raw in origin.requests] == [[b"nowhere.test"], [b"new.test"]]


async def test_a_route_may_change_the_scheme_and_the_verified_name(make_proxy: MakeProxy, origin_ca: OriginCA) -> None:
    async with run_origin(OK, tls=origin_ca.server_context("real.test")) as origin:
        def route(flow: HTTPFlow) -> None:
            sni = flow.request.headers.get("x-sni")
            flow.route = Route(host="127.0.0.1", port=origin.port, scheme="https", sni=sni,
                               verify="x-any" not in flow.request.headers)

        proxy = await make_proxy(at("requestheaders", route))
        for fields, status in (("X-SNI: real.test\r\n", b"200"), ("", b"502"), ("X-Any: 1\r\n", b"200")):
            data = f"GET http://nowhere.test/ HTTP/1.1\r\nHost: nowhere.test\r\n{fields}Connection: close\r\n\r\n"
            assert (await receive(proxy, data.encode())).startswith(b"HTTP/1.1 " + status), fields


async def test_assigning_the_host_moves_request_and_host_field(make_proxy: MakeProxy) -> None:
    async with run_origin(OK) as origin:
        def move(flow: HTTPFlow) -> None:
            flow.request.host, flow.request.port = "127.0.0.1", origin.port

        proxy = await make_proxy(at("requestheaders", move))
        data = b"GET http://nowhere.test/ HTTP/1.1\r\nHost: nowhere.test\r\nConnection: close\r\n\r\n"
        assert (await receive(proxy, data)).endswith(b"ok")
        assert origin.requests[0].values(b"host") == [f"127.0.0.1:{origin.port}".encode()]


async def test_pacing_delays_request_and_response(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(at("requestheaders", lambda flow: setattr(flow, "pacing", Pacing(0.1, 0.1))))
    async with run_origin(OK) as origin:
        started = asyncio.get_running_loop().time()
        assert (await receive(proxy, request(origin.port))).endswith(b"ok")
        assert asyncio.get_running_loop().time() - started >= 0.2


# --- bodies -------------------------------------------------------------------------------------------------------

async def test_bodies_are_collected_for_a_handler_and_stream_otherwise(make_proxy: MakeProxy) -> None:
    seen: list[bytes | None] = []
    for wrap in (at, whole):
        proxy = await make_proxy(wrap("response", lambda flow: seen.append(flow.response.raw_content)))
        async with run_origin(CHUNKED) as origin:
            assert b"hello" in await receive(proxy, request(origin.port))
    assert seen == [None, b"hello"]


async def test_request_and_response_stream_through_callables(make_proxy: MakeProxy) -> None:
    def upper(piece: bytes) -> Iterable[bytes]:
        return (piece.upper(), b"!") if piece else (b"end",)

    def stream(flow: HTTPFlow) -> None:
        flow.request.stream = upper

    def stream_back(flow: HTTPFlow) -> None:
        assert flow.response is not None
        flow.response.stream = lambda piece: piece.swapcase()

    proxy = await make_proxy(whole("requestheaders", stream), whole("responseheaders", stream_back))

    def echo(raw: RawRequest) -> bytes:
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(raw.body), raw.body)

    async with run_origin(answering(echo)) as origin:
        answer = await receive(proxy, request(
            origin.port, "POST", "Content-Length: 3\r\nConnection: close\r\n", b"abc"))
        assert origin.requests[0].values(b"transfer-encoding") == [b"chunked"]
        assert origin.requests[0].body == b"7\r\nABC!end\r\n0\r\n\r\n"
        assert b"abc!" in answer


async def test_trailers_can_be_changed_when_the_body_has_streamed(make_proxy: MakeProxy) -> None:
    def on_request(flow: HTTPFlow) -> None:
        flow.request.trailers = Headers(((b"X-New", b"1"),))

    def on_response(flow: HTTPFlow) -> None:
        assert flow.response is not None
        assert flow.response.trailers is not None
        flow.response.trailers["x-more"] = "2"

    proxy = await make_proxy(at("request", on_request), at("response", on_response))
    async with run_origin(CHUNKED) as origin:
        answer = await receive(proxy, request(
            origin.port, "POST", "Transfer-Encoding: chunked\r\nConnection: close\r\n", b"1\r\nx\r\n0\r\n\r\n"))
        assert origin.requests[0].body.endswith(b"0\r\nX-New: 1\r\n\r\n")
        assert answer.endswith(b"0\r\nX-Sum: 1\r\nx-more: 2\r\n\r\n")


@pytest.mark.parametrize("announced", [True, False])
async def test_bodies_beyond_the_limit_stream_and_say_so(make_proxy: MakeProxy, announced: bool) -> None:
    size = 300_000
    seen: list[tuple[str, object, object]] = []

    class Wanting:
        def request(self, flow: HTTPFlow) -> None:
            seen.append(("request", flow.body_overflow, flow.request.raw_content))

        def response(self, flow: HTTPFlow) -> None:
            assert flow.response is not None
            seen.append(("response", flow.body_overflow, flow.response.raw_content))

    def echo(raw: RawRequest) -> bytes:
        body = raw.body if announced else b"%x\r\n%b\r\n0\r\n\r\n" % (size, b"z" * size)
        framing = b"Content-Length: %d" % size if announced else b"Transfer-Encoding: chunked"
        return b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n" + body

    proxy = await make_proxy(Wanting(), rule_body_limit=100_000)
    async with run_origin(answering(echo)) as origin:
        fields = f"Content-Length: {size}\r\n" if announced else "Transfer-Encoding: chunked\r\n"
        body = b"z" * size if announced else b"%x\r\n%b\r\n0\r\n\r\n" % (size, b"z" * size)
        answer = await receive(proxy, request(origin.port, "POST", fields + "Connection: close\r\n", body))
        assert answer.count(b"z") >= size
        assert origin.requests[0].body.count(b"z") == size
    assert seen == [("request", "request", None), ("response", "response", None)]


async def test_an_addon_may_refuse_what_is_too_large(make_proxy: MakeProxy) -> None:
    def refuse(flow: HTTPFlow) -> None:
        if flow.body_overflow:
            flow.response = Response.make(413, "too large for the rule")

    proxy = await make_proxy(whole("request", refuse), rule_body_limit=10)
    async with run_origin(OK) as origin:
        answer = await receive(proxy, request(
            origin.port, "POST", "Content-Length: 20\r\nConnection: close\r\n", b"x" * 20))
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert origin.connections == []


@pytest.mark.parametrize("complete", [True, False])
async def test_a_response_set_after_the_body_has_streamed_is_the_answer(make_proxy: MakeProxy, complete: bool) -> None:
    async def patient(connection: OriginConnection) -> None:
        await connection.read_to_end()

    proxy = await make_proxy(at("request", lambda flow: setattr(flow, "response", Response.make(403, "late"))))
    async with run_origin(patient) as origin:
        reader, writer = await proxy.connect()
        async with asyncio.timeout(SECONDS):
            writer.write(request(origin.port, "POST", "Content-Length: 4\r\nConnection: close\r\n",
                                 b"abcd" if complete else b"ab"))
            if not complete:
                await origin.wait_for_connections(1)
                writer.write(b"cd")
            assert (await reader.read()).endswith(b"\r\n\r\nlate")
        writer.close()


async def test_interim_answers_do_not_go_on_for_ever(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()
    async with run_origin(b"HTTP/1.1 102 Processing\r\n\r\n" * 1000) as origin:
        answer = await receive(proxy, request(origin.port, version="1.0"))
        assert answer.startswith(b"HTTP/1.1 502 ")


# --- failures -----------------------------------------------------------------------------------------------------

async def test_a_silent_origin_is_a_504(make_proxy: MakeProxy) -> None:
    async def silent(connection: OriginConnection) -> None:
        await connection.read_to_end()

    proxy = await make_proxy(idle_timeout=0.2)
    async with run_origin(silent) as origin:
        assert (await receive(proxy, request(origin.port))).startswith(b"HTTP/1.1 504 ")
    assert proxy.recorder.names.count("error") == 1


@pytest.mark.parametrize(("sent", "status"), [
    (b"GET http://a.test/ HTTP/1.1\r\nHost:", b"408"),
    (b"POST http://127.0.0.1:%d/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nab", b"408")])
async def test_slow_clients_are_told_and_closed(make_proxy: MakeProxy, sent: bytes, status: bytes) -> None:
    proxy = await make_proxy(head_timeout=0.2, body_timeout=0.2)

    async def patient(connection: OriginConnection) -> None:
        await connection.read_to_end()

    async with run_origin(patient) as origin:
        answer = await receive(proxy, sent % origin.port if b"%d" in sent else sent)
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert b"Connection: close" in answer


async def test_the_head_timeout_counts_from_the_first_byte(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(head_timeout=0.3)
    reader, writer = await proxy.connect()
    writer.write(b"GET http://a.test/ HTTP/1.1\r\n")
    answering_now = asyncio.ensure_future(reader.read())
    while not answering_now.done():  # a byte now and then does not help
        writer.write(b"X")
        await asyncio.wait((answering_now,), timeout=0.1)
    assert answering_now.result().startswith(b"HTTP/1.1 408 ")
    writer.close()


async def test_an_idle_connection_is_closed_without_a_word(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(idle_timeout=0.2)
    assert await receive(proxy, b"") == b""


@pytest.mark.parametrize("stall", [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"])
async def test_an_origin_that_stalls_in_its_body(make_proxy: MakeProxy, stall: bytes) -> None:
    async def stalling(connection: OriginConnection) -> None:
        await connection.read_request()
        await connection.send(stall)
        await connection.read_to_end()

    proxy = await make_proxy(body_timeout=0.2)
    async with run_origin(stalling) as origin:
        assert (await receive(proxy, request(origin.port))).endswith(b"abc")
    assert proxy.recorder.names.count("error") == 1


async def test_a_client_that_leaves_ends_the_exchange_and_the_origins_connection(make_proxy: MakeProxy) -> None:
    failed = asyncio.Event()
    gone = asyncio.Event()

    async def endless(connection: OriginConnection) -> None:
        await connection.read_request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        try:
            while True:
                await connection.send(b"x" * 65536)
        finally:
            gone.set()

    proxy = await make_proxy(at("error", lambda flow: failed.set()))
    async with run_origin(endless) as origin:
        reader, writer = await proxy.connect()
        writer.write(request(origin.port))
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()
        async with asyncio.timeout(SECONDS):
            await failed.wait()
            await gone.wait()
    assert proxy.core.upstream.idle_count == 0


async def test_a_client_that_leaves_during_its_upload(make_proxy: MakeProxy) -> None:
    failed = asyncio.Event()

    async def patient(connection: OriginConnection) -> None:
        await connection.read_to_end()

    proxy = await make_proxy(at("error", lambda flow: failed.set()))
    async with run_origin(patient) as origin:
        _, writer = await proxy.connect()
        writer.write(request(origin.port, "POST", "Content-Length: 100000\r\n", b"x" * 70_000))
        await origin.wait_for_connections(1)
        writer.transport.abort()
        async with asyncio.timeout(SECONDS):
            await failed.wait()


async def test_an_addon_that_raises_in_a_stream_callable_is_a_failure_not_a_hang(make_proxy: MakeProxy) -> None:
    def broken(piece: bytes) -> bytes:
        raise ValueError("broken")

    proxy = await make_proxy(at("responseheaders", lambda flow: setattr(flow.response, "stream", broken)))
    async with run_origin(OK) as origin:
        answer = await receive(proxy, request(origin.port))
        assert not answer.endswith(b"ok")
    assert proxy.recorder.names.count("error") == 1


# --- many bytes ---------------------------------------------------------------------------------------------------

async def test_a_reader_that_stops_holds_up_the_origin(make_proxy: MakeProxy) -> None:
    sent = 0

    async def pushing(connection: OriginConnection) -> None:
        nonlocal sent
        await connection.read_request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            await connection.send(b"x" * 65536)
            sent += 65536

    proxy = await make_proxy(record=False)
    async with run_origin(pushing) as origin:
        reader, writer = await proxy.connect()
        writer.transport.pause_reading()
        writer.write(request(origin.port))
        before = -1
        async with asyncio.timeout(SECONDS):
            while sent == 0 or sent != before:  # until nothing moves any more
                before = sent
                await asyncio.sleep(0.3)
        assert sent < 64 * 1024 * 1024
        writer.transport.abort()
        assert reader is not None


@pytest.mark.parametrize("chunked", [True, False])
async def test_large_bodies_pass_unharmed_both_ways(make_proxy: MakeProxy, chunked: bool) -> None:
    size = 20_000_000
    body = bytes(range(256)) * (size // 256)

    async def echo(connection: OriginConnection) -> None:
        sent = await connection.read_request()
        data = b"".join(_dechunk(sent.body)) if sent.values(b"transfer-encoding") else sent.body
        framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(data)
        await connection.send(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
        await connection.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if chunked else data)

    proxy = await make_proxy(record=False)
    async with run_origin(echo) as origin:
        done = await proxy.curl("-X", "POST", *(("-H", "Transfer-Encoding: chunked") if chunked else ()),
                                "--data-binary", "@-", f"http://127.0.0.1:{origin.port}/", stdin=body)
        assert done.out == body


def _dechunk(body: bytes) -> Iterable[bytes]:
    place = 0
    while True:
        end = body.index(b"\r\n", place)
        size = int(body[place:end], 16)
        if not size:
            return
        yield body[end + 2:end + 2 + size]
        place = end + 4 + size


# --- stopping -----------------------------------------------------------------------------------------------------

async def test_stopping_closes_idle_connections_and_lets_the_others_finish(make_proxy: MakeProxy) -> None:
    go_on = asyncio.Event()

    async def waiting(connection: OriginConnection) -> None:
        await connection.read_request()
        await go_on.wait()
        await connection.send(OK)

    proxy = await make_proxy()
    async with run_origin(waiting) as origin:
        idle_reader, idle_writer = await proxy.connect()
        busy_reader, busy_writer = await proxy.connect()
        busy_writer.write(request(origin.port, fields=""))
        await origin.wait_for_connections(1)
        stopping = asyncio.ensure_future(proxy.proxy.stop(SECONDS))
        async with asyncio.timeout(SECONDS):
            assert await idle_reader.read() == b""
            assert not stopping.done()
            go_on.set()
            answer = await busy_reader.read()
            await stopping
        assert answer.endswith(b"ok")
        assert b"Connection: close" in answer
        idle_writer.close()
        busy_writer.close()


async def test_what_does_not_finish_in_the_grace_time_is_reset(make_proxy: MakeProxy) -> None:
    async def silent(connection: OriginConnection) -> None:
        await connection.read_to_end()

    proxy = await make_proxy()
    async with run_origin(silent) as origin:
        reader, writer = await proxy.connect()
        writer.write(request(origin.port))
        await origin.wait_for_connections(1)
        async with asyncio.timeout(SECONDS):
            await proxy.proxy.stop(0.1)
            with pytest.raises(ConnectionResetError):
                await reader.read()
        writer.close()
    assert "client_disconnected" in proxy.recorder.names
    assert proxy.recorder.names.count("error") == 1


@pytest.mark.parametrize(("body", "page"), [
    (b"zz\r\nabc", True),
    (b"3\r\nabc\r\n" + b"8000\r\n" + b"a" * 0x8000 + b"\r\n" + b"40000\r\n" + b"b" * 0x40000 + b"\r\nzz\r\n", False)])
async def test_a_body_that_is_wrong_from_its_first_byte_gets_a_page(make_proxy: MakeProxy, body: bytes,
                                                                    page: bool) -> None:
    proxy = await make_proxy()
    async with run_origin(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body) as origin:
        answer = await proxy.talk(request(origin.port))
        assert answer.count(b"HTTP/1.1 ") == 1
        if page:
            assert answer.startswith(b"HTTP/1.1 502 ") and b"not a chunk size line" in answer
        else:
            assert answer.startswith(b"HTTP/1.1 200 ") and not answer.endswith(b"0\r\n\r\n")
