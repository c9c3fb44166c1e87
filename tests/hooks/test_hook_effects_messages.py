"""What handlers may do to messages: edit, drop, inject, kill; in WebSocket and TCP over both versions, UDP and DNS."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dns.message
import dns.rcode
import pytest
from h2.exceptions import ProtocolError

from rulesproxy.certs.authority import Authority
from rulesproxy.model.dns import Question
from rulesproxy.model.dns_record import ResourceRecord
from rulesproxy.model.dns_types import types
from tests.hooks.ends import open_tunnel, open_websocket
from tests.hooks.scene import SECONDS, Scene, scene
from tests.support.certificates import OriginCA
from tests.support.hook_logs import At, Decide
from tests.support.origin import OriginConnection
from tests.support.websocket import CLOSE, TEXT, RawEnd, close_frame, frame, raw_server

END = b"\0end"
Heard = list[bytes]


@dataclass(frozen=True)
class Row:
    """In the hook a handler acts on each flow; the client then has heard `client`, and the server `server`.

    The client says `\\0one`, then `\\0end`, and the server answers each with `\\0re:` before it. `cut`: an end without
    a word instead of the last answer.
    """

    name: str
    hook: str
    act: Callable[[Any], None]
    client: tuple[bytes, ...] = (b"\0re:one", b"\0re:end")
    server: tuple[bytes, ...] = (b"\0one", END)
    cut: bool = False


def messages(flow: Any) -> Any:
    """Where the messages of a flow are."""
    return flow.websocket if flow.type == "http" else flow


def edit(from_client: bool, old: bytes, new: bytes) -> Callable[[Any], None]:
    def act(flow: Any) -> None:
        message = messages(flow).messages[-1]
        if message.from_client is from_client and message.content == old:
            message.content = new

    return act


def drop(content: bytes) -> Callable[[Any], None]:
    def act(flow: Any) -> None:
        message = messages(flow).messages[-1]
        if message.content == content:
            message.drop()

    return act


def inject(content: bytes, *, to_client: bool, after: bytes = b"") -> Callable[[Any], None]:
    """`after` that message, if it is no hook of a beginning."""
    def act(flow: Any) -> None:
        if not after or messages(flow).messages[-1].content == after:
            messages(flow).inject(content, to_client=to_client)

    return act


def kill(after: bytes = b"") -> Callable[[Any], None]:
    def act(flow: Any) -> None:
        if not after or messages(flow).messages[-1].content == after:
            flow.kill()

    return act


ROWS = [
    Row("edit to server", "{}_message", edit(True, b"\0one", b"\0ONE"), (b"\0re:ONE", b"\0re:end"), (b"\0ONE", END)),
    Row("edit to client", "{}_message", edit(False, b"\0re:one", b"\0RE"), (b"\0RE", b"\0re:end")),
    Row("longer", "{}_message", edit(True, b"\0one", b"\0" + b"x" * 900), (b"\0re:" + b"x" * 900, b"\0re:end"),
        (b"\0" + b"x" * 900, END)),
    Row("drop to server", "{}_message", drop(b"\0one"), (b"\0re:end",), (END,)),
    Row("drop to client", "{}_message", drop(b"\0re:one"), (b"\0re:end",)),
    Row("inject to client", "{}_message", inject(b"\0extra", to_client=True, after=b"\0re:one"),
        (b"\0re:one", b"\0extra", b"\0re:end")),
    Row("inject to server", "{}_message", inject(b"\0extra", to_client=False, after=b"\0one"),
        (b"\0re:one", b"\0re:extra", b"\0re:end"), (b"\0one", b"\0extra", END)),
    Row("inject at the start", "{}_start", inject(b"\0extra", to_client=True), (b"\0extra", b"\0re:one", b"\0re:end")),
    Row("kill at the start", "{}_start", kill(), (), (), cut=True),
    Row("kill to server", "{}_message", kill(b"\0one"), (), (), cut=True),
    Row("kill to client", "{}_message", kill(b"\0re:one"), (), (b"\0one",), cut=True),
]
_ROWS = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
_VERSIONS = pytest.mark.parametrize("version", ["http1", "http2"])


def _turns(row: Row) -> list[tuple[bytes, tuple[bytes, ...]]]:
    """What the client says, and what it hears before it says more: so that messages stay apart where bytes are
    bytes."""
    *before, last = row.client or (b"",)
    return [(b"\0one", tuple(before)), (END, (last,))] if not row.cut else [(b"\0one", ())]


# --- WebSocket ----------------------------------------------------------------------------------------------------


@_VERSIONS
@_ROWS
async def test_websocket(row: Row, version: str, no_leaks: None, authority: Authority, origin_ca: OriginCA) -> None:
    server: Heard = []

    async def answer(end: RawEnd, connection: OriginConnection) -> None:
        while True:
            opcode, payload = await end.receive()
            if opcode == CLOSE:
                await end.send(close_frame(1000, mask=False))
                return
            server.append(payload)
            await end.send_frame(opcode, payload.replace(b"\0", b"\0re:", 1))

    async with scene(authority, origin_ca) as made:
        port = await made.origin(raw_server(answer), tls=origin_ca.server_context("localhost"))
        await made.proxy(At(row.hook.format("websocket"), row.act), Decide())
        wire = await open_websocket(made, version, port)
        client = RawEnd(wire.exactly, wire.send, masks=True)
        heard = await _converse(row, client, lambda data: wire.send(frame(TEXT, data)))
        if not row.cut:
            await wire.send(close_frame(1000))
            assert (await client.receive_close())[0] == 1000
            await wire.close()
        await made.fired("websocket_end")
    assert (heard, tuple(server)) == (row.client, row.server)
    [flow] = made.recorder.arguments("websocket_end")
    assert flow.websocket.close_code == (1006 if row.cut else 1000)
    assert made.recorder.of("response", "error") == ["response"]


async def _converse(row: Row, client: RawEnd, say: Callable[[bytes], Any]) -> tuple[bytes, ...]:
    heard: Heard = []
    try:
        for words, answers in _turns(row):
            await say(words)
            for _ in answers:
                heard.append((await client.receive())[1])
        if row.cut:
            heard.append((await client.receive())[1])
    except (EOFError, ConnectionError, ProtocolError):
        assert row.cut, heard
    return tuple(heard)


# --- TCP ----------------------------------------------------------------------------------------------------------


@_VERSIONS
@_ROWS
async def test_tcp(row: Row, version: str, no_leaks: None, authority: Authority, origin_ca: OriginCA) -> None:
    server = b""

    async def answer(connection: OriginConnection) -> None:
        nonlocal server
        while True:
            data = await connection.read_some()
            server += data
            await connection.send(b"".join(b"\0re:" + part for part in data.split(b"\0")[1:]))

    heard = b""
    async with scene(authority, origin_ca) as made:
        port = await made.origin(answer)
        await made.proxy(At(row.hook.format("tcp"), row.act))
        wire = await open_tunnel(made, version, port)
        try:
            for words, answers in _turns(row):
                await wire.send(words)
                heard += await wire.exactly(sum(map(len, answers)))
                if not answers and not row.cut:  # dropped, on the way there or back
                    await made.fired("tcp_message", count=1 if END in row.server[:1] else 2)
            if row.cut:
                heard += await wire.rest()
        except ConnectionResetError:
            assert row.cut
        else:
            assert not row.cut, "a kill that looks like an orderly end"
        if not row.cut:
            await wire.close()
        await made.fired("tcp_error" if row.cut else "tcp_end")
    assert (heard, server) == (b"".join(row.client), b"".join(row.server))
    assert made.recorder.of("tcp_end", "tcp_error") == ["tcp_error" if row.cut else "tcp_end"]
    if row.hook == "{}_start" and row.cut:
        assert not made.recorder.of("server_connect")


# --- UDP ----------------------------------------------------------------------------------------------------------


@_ROWS
async def test_udp(row: Row, no_leaks: None, authority: Authority, origin_ca: OriginCA) -> None:
    server: Heard = []
    heard: Heard = []
    async with scene(authority, origin_ca) as made:
        await made.proxy(At(row.hook.format("udp"), row.act), udp_timeout=0.2)
        peer, client = made.udp_server(), made.udp_client()

        async def answer() -> None:
            while True:
                data, source = await peer.receive()
                server.append(data)
                peer.send(data.replace(b"\0", b"\0re:", 1), source)

        listener = await made.udp_proxy(peer.port)
        answering = asyncio.ensure_future(answer())
        try:
            async with asyncio.timeout(SECONDS):
                for words, answers in _turns(row):
                    client.send(words, listener)
                    for _ in answers:
                        heard.append((await client.receive())[0])
                await made.fired("udp_error" if row.cut else "udp_end")
        finally:
            answering.cancel()
            await asyncio.wait((answering,))
        with pytest.raises(BlockingIOError):
            client.sock.recv(1)  # nothing more came
    assert (tuple(heard), tuple(server)) == (row.client, row.server)
    assert made.recorder.of("udp_end", "udp_error") == ["udp_error" if row.cut else "udp_end"]


# --- DNS ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DnsRow:
    """`answer`: the code and the records that the client gets; None: nothing. `asked`: what the resolver is asked."""

    name: str
    hook: str
    act: Callable[[Any], None]
    answer: tuple[int, tuple[str, ...]] | None
    hooks: tuple[str, ...]
    asked: tuple[str, ...] = ()


def _succeed(flow: Any) -> None:
    flow.response = flow.request.succeed([ResourceRecord.A(flow.request.question.name, "192.0.2.9")])


def _fail(flow: Any) -> None:
    flow.response = flow.request.fail(5)


def _ask_for_v6(flow: Any) -> None:
    flow.request.questions[0] = Question("known.test", types.AAAA)


def _add(flow: Any) -> None:
    flow.response.answers.append(ResourceRecord.A(flow.request.question.name, "192.0.2.9"))


_ANSWERED = ("dns_request", "dns_response")
DNS_ROWS = [
    DnsRow("succeed", "dns_request", _succeed, (0, ("192.0.2.9",)), _ANSWERED),
    DnsRow("fail", "dns_request", _fail, (5, ()), _ANSWERED),
    DnsRow("kill", "dns_request", lambda flow: flow.kill(), None, ("dns_request", "dns_error")),
    DnsRow("another question", "dns_request", _ask_for_v6, (0, ("2001:db8::1",)), _ANSWERED, ("AAAA",)),
    DnsRow("add a record", "dns_response", _add, (0, ("192.0.2.1", "192.0.2.9")), _ANSWERED, ("A",)),
    DnsRow("replace the answer", "dns_response", _succeed, (0, ("192.0.2.9",)), _ANSWERED, ("A",)),
    DnsRow("replace by a failure", "dns_response", _fail, (5, ()), _ANSWERED, ("A",)),
    DnsRow("kill the answer", "dns_response", lambda flow: flow.kill(), None, (*_ANSWERED, "dns_error"), ("A",)),
]


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("row", DNS_ROWS, ids=lambda row: row.name)
async def test_dns(row: DnsRow, transport: str, no_leaks: None, authority: Authority, origin_ca: OriginCA) -> None:
    async with scene(authority, origin_ca) as made:
        resolver = await made.resolver()
        resolver.table["known.test", "AAAA"] = ["2001:db8::1"]
        await made.proxy(At(row.hook, row.act))
        answer = await _ask(made, await made.dns_server(resolver), transport, row.hooks[-1])
    if row.answer is None:
        assert answer is None
    else:
        assert answer is not None
        records = [record.to_text() for rrset in answer.answer for record in rrset]
        assert (answer.rcode(), tuple(records)) == row.answer
        assert answer.question[0].to_text() == "kNoWn.TeSt. IN A"  # as it was asked
    assert tuple(made.recorder.of("dns_request", "dns_response", "dns_error")) == row.hooks
    assert tuple(dns.rdatatype.to_text(asked.message.question[0].rdtype) for asked in resolver.asked) == row.asked


async def _ask(made: Scene, port: int, transport: str, last: str) -> dns.message.Message | None:
    query = dns.message.make_query("kNoWn.TeSt", "A")
    wire = query.to_wire()
    if transport == "udp":
        client = made.udp_client()
        client.send(wire, port)
        await made.fired(last)
        if last == "dns_error":
            with pytest.raises(BlockingIOError):
                client.sock.recv(1)
            return None
        return dns.message.from_wire((await client.receive())[0])
    stream = await made.connect(port)
    await stream.send(len(wire).to_bytes(2, "big") + wire)
    await made.fired(last)
    stream.writer.write_eof()
    data = await stream.rest()
    await stream.close()
    return dns.message.from_wire(data[2:]) if data else None
