"""HTTP/1 through the proxy, judged by what a raw origin and a raw client see on the wire."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.support.leaks import until
from tests.support.origin import OriginConnection, RawRequest, answering, run_origin
from tests.support.proxy import RunningProxy

MakeProxy = Callable[..., Awaitable[RunningProxy]]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SECONDS = 10.0


def request(origin_port: int, method: str = "GET", path: str = "/", fields: str = "", body: bytes = b"",
            version: str = "1.1") -> bytes:
    """An absolute-form request for an origin on loopback."""
    host = f"127.0.0.1:{origin_port}"
    return (f"{method} http://{host}{path} HTTP/{version}\r\nHost: {host}\r\n{fields}\r\n").encode() + body


async def read_response(reader: asyncio.StreamReader, *, body: bool = True) -> tuple[bytes, bytes]:
    """(head, body in its coding) of one response."""
    async with asyncio.timeout(SECONDS):
        head = await reader.readuntil(b"\r\n\r\n")
        lower = head.lower()
        if not body or head.startswith(b"HTTP/1.1 1"):
            return head, b""
        if b"transfer-encoding: chunked" in lower:
            return head, await _read_chunked(reader)
        if b"content-length:" in lower:
            length = int(lower.split(b"content-length:")[1].split(b"\r\n")[0])
            return head, await reader.readexactly(length)
        return head, await reader.read()


async def _read_chunked(reader: asyncio.StreamReader) -> bytes:
    out = b""
    while True:
        line = await reader.readline()
        out += line
        size = int(line, 16)
        if size:
            out += await reader.readexactly(size + 2)
            continue
        while (line := await reader.readline()) != b"\r\n":
            assert line, "the connection ended inside the trailers"
            out += line
        return out + line


# --- what goes to the origin --------------------------------------------------------------------------------------

async def test_absolute_form_becomes_origin_form_with_fields_as_they_were(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()
    async with run_origin(OK) as origin:
        await proxy.talk(request(origin.port, path="/a?b=c", fields="X-Odd-CASE:  v \r\nx-odd-case: w\r\n"
                                                                    "Connection: close\r\n"))
        assert origin.requests[0].head == (
            f"GET /a?b=c HTTP/1.1\r\nHost: 127.0.0.1:{origin.port}\r\nX-Odd-CASE: v\r\nx-odd-case: w\r\n\r\n"
        ).encode()


async def test_host_is_rewritten_from_the_absolute_form(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()
    async with run_origin(OK) as origin:
        await proxy.talk(f"GET http://127.0.0.1:{origin.port}/ HTTP/1.1\r\nA: 1\r\nhost: other.test\r\nB: 2\r\n"
                         "Connection: close\r\n\r\n".encode())
        assert origin.requests[0].head.startswith(
            f"GET / HTTP/1.1\r\nA: 1\r\nhost: 127.0.0.1:{origin.port}\r\nB: 2\r\n".encode())


async def test_hop_by_hop_fields_and_proxy_credentials_stay_here(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()
    async with run_origin(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: X-Mine\r\nX-Mine: 1\r\n"
                          b"Keep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nX-Kept: 1\r\n\r\n") as origin:
        answer = await proxy.talk(request(origin.port, fields=(
            "Proxy-Authorization: Basic c2VjcmV0\r\nProxy-Connection: keep-alive\r\nKeep-Alive: 1\r\nTE: gzip\r\n"
            "Connection: close, x-secret\r\nX-Secret: s\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nX-Kept: k\r\n")))
        head = origin.requests[0].head.lower()
        for name in (b"proxy-", b"keep-alive", b"\r\nte:", b"connection", b"x-secret", b"upgrade", b"http2-settings"):
            assert name not in head
        assert b"x-kept: k" in head
    assert b"X-Kept: 1" in answer
    for name in (b"X-Mine", b"Keep-Alive", b"Proxy-Authenticate"):
        assert name not in answer


@pytest.mark.parametrize("malformed", [
    b"GET /\r\n\r\n",
    b"GET http://a.test/ HTTP/1.1\r\n\r\n",
    b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nBad Name: 1\r\n\r\n",
    b"GET http://u:p@a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"hello there\r\n\r\n",
    b"\x00\x01\x02\x03\r\n\r\n",
])
async def test_a_malformed_request_is_answered_400_and_nothing_after_it_is_read(make_proxy: MakeProxy,
                                                                               malformed: bytes) -> None:
    proxy = await make_proxy()
    async with run_origin(OK) as origin:
        answer = await proxy.talk(malformed + request(origin.port))
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.count(b"HTTP/1.1") == 1
        assert b"Connection: close" in answer
        assert origin.connections == []


async def test_a_framing_error_in_a_body_ends_the_connection(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()
    async with run_origin(OK) as origin:
        answer = await proxy.talk(request(origin.port, "POST", fields="Transfer-Encoding: chunked\r\n",
                                          body=b"3\r\nabc\r\nzz\r\n") + request(origin.port))
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.count(b"HTTP/1.1") == 1
        assert origin.requests == []
    assert "error" in proxy.recorder.names


# --- connections --------------------------------------------------------------------------------------------------

async def test_pipelined_requests_are_answered_in_order_over_one_origin_connection(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()

    def echo(raw: RawRequest) -> bytes:
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(raw.target), raw.target)

    async with run_origin(answering(echo)) as origin:
        data = b"".join(request(origin.port, path=f"/{number}") for number in range(20))
        answer = await proxy.talk(data)
        assert [piece[-2:].strip(b"/\n") for piece in answer.split(b"HTTP/1.1")[1:]] == [
            b"%d" % number for number in range(20)]
        assert len(origin.connections) == 1


async def test_a_leading_empty_line_is_skipped(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()
    async with run_origin(OK) as origin:
        assert (await proxy.talk(b"\r\n" + request(origin.port))).endswith(b"ok")


@pytest.mark.parametrize(("version", "fields", "kept"), [
    ("1.1", "", True), ("1.1", "Connection: close\r\n", False), ("1.0", "", False),
    ("1.0", "Connection: keep-alive\r\n", False)])  # RFC 9112 §9.3: not through a proxy
async def test_persistence_is_what_the_client_asked_for(make_proxy: MakeProxy, version: str, fields: str,
                                                        kept: bool) -> None:
    proxy = await make_proxy()
    async with run_origin(OK) as origin:
        reader, writer = await proxy.connect()
        writer.write(request(origin.port, fields=fields, version=version))
        head, body = await read_response(reader)
        assert body == b"ok"
        assert (b"connection: close" in head.lower()) is not kept
        if kept:
            writer.write(request(origin.port, fields="Connection: close\r\n"))
            assert (await read_response(reader))[1] == b"ok"
        async with asyncio.timeout(SECONDS):
            assert await reader.read() == b""
        writer.close()


async def test_a_client_may_half_close_after_its_request(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()

    async def slow(connection: OriginConnection) -> None:
        await connection.read_request()
        await asyncio.sleep(0.05)
        await connection.send(OK)

    async with run_origin(slow) as origin:
        assert (await proxy.talk(request(origin.port))).endswith(b"ok")


async def test_a_stale_connection_is_replaced_once_for_a_repeatable_request(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()

    async def answers_once(connection: OriginConnection) -> None:
        await connection.read_request()
        await connection.send(OK)
        await connection.read_request()  # and closes without an answer

    async with run_origin(answers_once) as origin:
        reader, writer = await proxy.connect()
        for number in range(3):
            writer.write(request(origin.port, path=f"/{number}"))
            head, body = await read_response(reader)
            assert (head[:12], body) == (b"HTTP/1.1 200", b"ok")
        writer.write(request(origin.port, "POST", path="/last", fields="Content-Length: 1\r\n", body=b"x"))
        head, _ = await read_response(reader)
        assert head.startswith(b"HTTP/1.1 502")  # a POST may have taken effect: not repeated
        writer.close()
        lines = [raw.target for raw in origin.requests]
        assert lines.count(b"/last") == 1


# --- bodies and framing -------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("method", "status"), [
    ("HEAD", 200), ("HEAD", 204), ("HEAD", 304), ("GET", 204), ("GET", 304)])
async def test_responses_without_a_body_end_with_their_head(make_proxy: MakeProxy, method: str, status: int) -> None:
    proxy = await make_proxy()
    length = b"" if status == 204 else b"Content-Length: 1234\r\n"
    async with run_origin(answering(b"HTTP/1.1 %d X\r\n%bEtag: e\r\n\r\n" % (status, length), OK)) as origin:
        reader, writer = await proxy.connect()
        writer.write(request(origin.port, method))
        head, _ = await read_response(reader, body=False)
        assert head.startswith(b"HTTP/1.1 %d" % status)
        assert (b"Content-Length: 1234" in head) is (status != 204)
        writer.write(request(origin.port))
        assert (await read_response(reader))[1] == b"ok"
        writer.close()


async def test_chunks_and_trailers_pass_in_both_directions(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()
    answer = (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
              b"3\r\nabc\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\n\r\n")
    async with run_origin(answer) as origin:
        reader, writer = await proxy.connect()
        writer.write(request(origin.port, "POST", fields="Transfer-Encoding: chunked\r\n",
                             body=b"2;ext=1\r\nhe\r\n3\r\nllo\r\n0\r\nX-Check: 2\r\nHost: evil.test\r\n\r\n"))
        head, body = await read_response(reader)
        writer.close()
        assert b"Transfer-Encoding: chunked" in head
        assert body == b"3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n"
        sent = origin.requests[0]
        assert sent.values(b"transfer-encoding") == [b"chunked"]
        assert b"content-length" not in sent.head.lower()
        assert sent.body in (b"2\r\nhe\r\n3\r\nllo\r\n0\r\nX-Check: 2\r\n\r\n",
                             b"5\r\nhello\r\n0\r\nX-Check: 2\r\n\r\n")


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_body_of_unknown_length_is_framed_for_the_client(make_proxy: MakeProxy, version: str) -> None:
    proxy = await make_proxy()

    async def until_close(connection: OriginConnection) -> None:
        await connection.read_request()
        await connection.send(b"HTTP/1.1 200 OK\r\n\r\nall of it")

    async with run_origin(until_close) as origin:
        answer = await proxy.talk(request(origin.port, version=version, fields="Connection: keep-alive\r\n"))
        head, _, body = answer.partition(b"\r\n\r\n")
        if version == "1.0":
            assert body == b"all of it"
            assert b"chunked" not in head
            assert b"Connection: close" in head
        else:
            assert body == b"9\r\nall of it\r\n0\r\n\r\n"


async def test_chunks_become_a_plain_body_for_http10(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()
    async with run_origin(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n") as origin:
        answer = await proxy.talk(request(origin.port, version="1.0"))
        assert answer.endswith(b"\r\n\r\nhello")
        assert b"ransfer-" not in answer


async def test_interim_responses_are_forwarded_and_not_taken_for_the_answer(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </s.css>\r\nConnection: close\r\n\r\n"
    async with run_origin(hints + hints + OK) as origin:
        answer = await proxy.talk(request(origin.port))
        assert answer.count(b"HTTP/1.1 103 Early Hints\r\nLink: </s.css>\r\n\r\n") == 2
        assert answer.endswith(b"ok")
        assert b"103" not in await proxy.talk(request(origin.port, version="1.0"))
    assert proxy.recorder.names.count("responseheaders") == 2


async def test_expect_is_the_origins_affair_when_the_body_streams(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(record=False)

    async def careful(connection: OriginConnection) -> None:
        head = await connection.read_head()
        assert head.values(b"expect") == [b"100-continue"]
        await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await connection.read_exactly(5) == b"hello"
        await connection.send(OK)

    async with run_origin(careful) as origin:
        reader, writer = await proxy.connect()
        writer.write(request(origin.port, "PUT", fields="Content-Length: 5\r\nExpect: 100-continue\r\n"))
        assert (await read_response(reader))[0] == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hello")
        assert (await read_response(reader))[1] == b"ok"
        writer.close()


async def test_an_answer_instead_of_100_ends_the_connection(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(record=False)

    async def refusing(connection: OriginConnection) -> None:
        await connection.read_head()
        await connection.send(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")
        await connection.read_to_end()

    async with run_origin(refusing) as origin:
        reader, writer = await proxy.connect()
        writer.write(request(origin.port, "PUT", fields="Content-Length: 5\r\nExpect: 100-continue\r\n"))
        async with asyncio.timeout(SECONDS):
            assert (await reader.read()).startswith(b"HTTP/1.1 401 No")
        writer.close()


class Buffering:
    """An addon that wants whole bodies: `request` and `response` are handled."""

    def __init__(self) -> None:
        self.bodies: list[bytes | None] = []

    def request(self, flow: object) -> None:
        self.bodies.append(flow.request.raw_content)  # type: ignore[attr-defined]

    def response(self, flow: object) -> None:
        self.bodies.append(flow.response.raw_content)  # type: ignore[attr-defined]


async def test_expect_is_answered_here_when_the_body_is_wanted_whole(make_proxy: MakeProxy) -> None:
    addon = Buffering()
    proxy = await make_proxy(addon)
    async with run_origin(OK) as origin:
        reader, writer = await proxy.connect()
        writer.write(request(origin.port, "PUT", fields="Content-Length: 5\r\nExpect: 100-continue\r\n"))
        assert (await read_response(reader))[0] == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert origin.connections == []
        writer.write(b"hello")
        assert (await read_response(reader))[1] == b"ok"
        writer.close()
        assert origin.requests[0].values(b"expect") == []
        assert addon.bodies == [b"hello", b"ok"]


async def test_an_answer_overtakes_the_upload_it_refuses(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(record=False)

    async def too_large(connection: OriginConnection) -> None:
        await connection.read_head()
        await connection.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")

    async with run_origin(too_large) as origin:
        reader, writer = await proxy.connect()
        writer.write(request(origin.port, "POST", fields="Content-Length: 1000000000\r\n", body=b"x" * 100_000))
        head, body = await read_response(reader)
        assert head.startswith(b"HTTP/1.1 413")
        assert body == b"big"
        async with asyncio.timeout(SECONDS):
            assert await reader.read() == b""
        writer.close()


async def test_an_upload_goes_on_under_an_answer_that_comes_early(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(record=False)
    size = 3_000_000

    async def early(connection: OriginConnection) -> None:
        await connection.read_head()
        await connection.send(OK)
        await connection.read_exactly(size)
        assert (await connection.read_head()).target == b"/second"
        await connection.send(OK)

    async with run_origin(early) as origin:
        reader, writer = await proxy.connect()
        writer.write(request(origin.port, "POST", fields=f"Content-Length: {size}\r\n", body=b"x" * 1000))
        assert (await read_response(reader))[1] == b"ok"
        writer.write(b"x" * (size - 1000))
        writer.write(request(origin.port, path="/second"))
        assert (await read_response(reader))[1] == b"ok"
        writer.close()
        assert len(origin.connections) == 1


async def test_the_first_event_of_a_stream_arrives_when_it_is_sent(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(Buffering())
    go_on = asyncio.Event()

    async def events(connection: OriginConnection) -> None:
        await connection.read_request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        await connection.send(b"data: 1\n\n")
        await go_on.wait()
        await connection.send(b"data: 2\n\n")

    async with run_origin(events) as origin:
        reader, writer = await proxy.connect()
        writer.write(request(origin.port))
        async with asyncio.timeout(SECONDS):
            assert b"data: 1" in await reader.readuntil(b"data: 1\n\n\r\n")
            go_on.set()
            assert (await reader.read(100)).startswith(b"9\r\ndata: 2\n\n\r\n")
        writer.close()


@pytest.mark.parametrize("answer", [
    b"", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"])
async def test_an_invalid_answer_becomes_502(make_proxy: MakeProxy, answer: bytes) -> None:
    proxy = await make_proxy()

    async def wrong(connection: OriginConnection) -> None:
        await connection.read_request()
        await connection.send(answer)

    async with run_origin(wrong) as origin:
        reply = await proxy.talk(request(origin.port, fields="Upgrade: h2c\r\nConnection: upgrade\r\n"))
        assert reply.startswith(b"HTTP/1.1 502 ")
    assert proxy.recorder.names.count("error") == 1
    assert "response" not in proxy.recorder.names


@pytest.mark.parametrize(("version", "head"), [
    ("1.1", b"Content-Length: 10\r\n"), ("1.1", b"Transfer-Encoding: chunked\r\n"), ("1.0", b"")])
async def test_a_cut_answer_is_visibly_cut(make_proxy: MakeProxy, version: str, head: bytes) -> None:
    proxy = await make_proxy()

    async def cutting(connection: OriginConnection) -> None:
        await connection.read_request()
        await connection.send(b"HTTP/1.1 200 OK\r\n" + (head or b"Transfer-Encoding: chunked\r\n") + b"\r\n")
        await connection.send(b"3\r\nabc\r\n" if head != b"Content-Length: 10\r\n" else b"abc")
        await asyncio.sleep(0.05)

    async with run_origin(cutting) as origin:
        reader, writer = await proxy.connect()
        writer.write(request(origin.port, version=version))
        try:
            async with asyncio.timeout(SECONDS):
                answer = await reader.read()
        except ConnectionResetError:
            answer = b"reset"
        writer.close()
        assert not answer.endswith(b"0\r\n\r\n")
        if version == "1.0":
            assert answer == b"reset"  # FIN would say: this was all
    assert proxy.recorder.names.count("error") == 1


async def test_what_an_origin_sends_beyond_its_answer_reaches_nobody(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()
    async with run_origin(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil") as origin:
        answer = await proxy.talk(request(origin.port) + request(origin.port))
        assert b"evil" not in answer
        assert answer.count(b"ok") == 2
        assert len(origin.connections) == 2


async def test_websocket_upgrades_become_opaque_tunnels(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy(record=False)  # nobody looks at messages

    async def upgrading(connection: OriginConnection) -> None:
        head = await connection.read_head()
        assert head.values(b"upgrade") == [b"websocket"]
        assert head.values(b"connection") == [b"upgrade"]
        await connection.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                              b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n\x81\x02hi")
        assert await connection.read_exactly(3) == b"\x81\x01x"
        await connection.send(b"bye")

    async with run_origin(upgrading) as origin:
        reader, writer = await proxy.connect()
        writer.write(request(origin.port, fields="Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
                             "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"))
        head, _ = await read_response(reader, body=False)
        assert b"upgrade: websocket" in head.lower()
        async with asyncio.timeout(SECONDS):
            assert await reader.readexactly(4) == b"\x81\x02hi"
            writer.write(b"\x81\x01x")
            assert await reader.read() == b"bye"
        writer.close()


# --- what is not for an origin ------------------------------------------------------------------------------------

async def test_a_request_meant_for_a_web_server_is_explained(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()
    answer = await proxy.talk(f"GET / HTTP/1.1\r\nHost: {proxy.address}\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"This is a proxy" in answer
    await until(lambda: len(proxy.recorder.names) == 2)
    assert proxy.recorder.names == ["client_connected", "client_disconnected"]


async def test_the_proxy_does_not_talk_to_itself(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()
    for host in ("127.0.0.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]"):
        answer = await proxy.talk(request(proxy.port).replace(b"127.0.0.1", host.encode()))
        assert answer.startswith(b"HTTP/1.1 502 "), host
        assert b"itself" in answer or b"[::1]" in answer  # localhost has another address, where nothing listens
    assert proxy.recorder.names.count("client_connected") == 4


async def test_the_virtual_host_is_answered_here(make_proxy: MakeProxy) -> None:
    proxy = await make_proxy()
    answer = await proxy.talk(b"GET http://rulesproxy.test/ca.pem HTTP/1.1\r\nHost: rulesproxy.test\r\n\r\n")
    assert answer.endswith(proxy.authority.certificate_pem)
    head = await proxy.talk(b"HEAD http://rulesproxy.test/ca.pem HTTP/1.1\r\nHost: rulesproxy.test\r\n\r\n")
    assert head.endswith(b"\r\n\r\n")
    assert b"content-length: %d" % len(proxy.authority.certificate_pem) in head.lower()
    # By address and Host it is not reached: nothing listens for it.
    origin_form = await proxy.talk(b"GET /ca.pem HTTP/1.1\r\nHost: rulesproxy.test\r\n\r\n")
    assert origin_form.startswith(b"HTTP/1.1 400 ")
    assert "requestheaders" not in proxy.recorder.names
