"""Real servers and clients over raw TCP: Redis, PostgreSQL and SMTP, each by every way that leads to raw TCP."""

from __future__ import annotations

import asyncio
import os
import shutil
import smtplib
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.certificates import OriginCA
from tests.support.leaks import until
from tests.support.proxy import RunningProxy
from tests.support.tools import require_tool, run_tool
from tests.support.tunnels import carrier, connect_socks

MakeProxy = Callable[..., Awaitable[RunningProxy]]

SECONDS = 20.0
SILENCE = 0.25  # after which a server may speak first in a tunnel
WAYS = ("CONNECT", "socks5", "reverse:tcp")


@asynccontextmanager
async def way_to(make_proxy: MakeProxy, way: str, port: int) -> AsyncIterator[tuple[int, RunningProxy]]:
    """A local port that leads to the server's by way of a proxy, and that proxy."""
    match way:
        case "reverse:tcp":
            proxy = await make_proxy(modes=(f"reverse:tcp://127.0.0.1:{port}@127.0.0.1:0",))
            yield proxy.port, proxy
        case "socks5":
            proxy = await make_proxy(modes=("socks5@127.0.0.1:0",))
            async with carrier(proxy, port, through=connect_socks) as local:
                yield local, proxy
        case _:
            proxy = await make_proxy()
            async with carrier(proxy, port) as local:
                yield local, proxy
    assert await until(lambda: not proxy.core.sessions)


def conversation(proxy: RunningProxy) -> tuple[bytes, bytes]:
    """What the client and what the server said, as hooks saw it."""
    flow = proxy.recorder.arguments("tcp_start")[0]
    sides = {True: b"", False: b""}
    for message in flow.messages:
        sides[message.from_client] += message.content
    return sides[True], sides[False]


@asynccontextmanager
async def process(*command: str | Path, ready: Callable[[], Awaitable[bool]], user: str | None = None,
                  log: Path) -> AsyncIterator[None]:
    with log.open("wb") as output:
        server = await asyncio.create_subprocess_exec(
            *map(str, command), stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, user=user,
            cwd=log.parent)
    try:
        async with asyncio.timeout(SECONDS):
            while not await ready():
                assert server.returncode is None, log.read_text()
                await asyncio.sleep(0.05)
        yield
    finally:
        if server.returncode is None:
            server.terminate()
        async with asyncio.timeout(SECONDS):
            await server.wait()


async def accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# --- Redis ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
async def test_redis(make_proxy: MakeProxy, tmp_path: Path, way: str) -> None:
    require_tool("redis-cli")
    port = free_port()
    server = process(require_tool("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", "",
                     "--dir", tmp_path, ready=lambda: accepts(port), log=tmp_path / "redis.log")
    async with server, way_to(make_proxy, way, port) as (local, proxy):
        commands = "SET greeting hello\nGET greeting\nINCR count\nINCR count\nECHO " + "x" * 100_000 + "\n"
        done = await run_tool("redis-cli", "-p", str(local), stdin=commands.encode())
        assert done.text.split() == ["OK", "hello", "1", "2", "x" * 100_000]
        assert await until(lambda: "tcp_end" in proxy.recorder.names)
        assert b"greeting" in conversation(proxy)[0]


# --- PostgreSQL -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Iterator[Path]:
    """Where the database cluster of these tests is, once it was made."""
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # pytest's own folders are closed to other users
    yield folder
    shutil.rmtree(folder)


def postgres_tool(name: str) -> str:
    """Debian keeps the server and its tools off the path."""
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(installed[-1]) if installed else require_tool(name)


@asynccontextmanager
async def postgres(folder: Path, origin_ca: OriginCA) -> AsyncIterator[int]:
    """A running server; it refuses to run as root."""
    user = "postgres" if os.getuid() == 0 else None
    data, port = folder / "data", free_port()
    if not data.exists():
        shutil.copy(origin_ca.leaf("localhost", "127.0.0.1"), folder / "server.pem")
        (folder / "server.pem").chmod(0o600)
        if user:
            for path in (folder, folder / "server.pem"):
                shutil.chown(path, user)
        made = await asyncio.create_subprocess_exec(
            postgres_tool("initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "--no-sync", user=user,
            cwd=folder, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE)
        async with asyncio.timeout(60):
            _, errors = await made.communicate()
        assert made.returncode == 0, errors.decode()
    settings = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off",
                "ssl": "on", "ssl_cert_file": folder / "server.pem", "ssl_key_file": folder / "server.pem"}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]

    async def ready() -> bool:
        return (await run_tool(postgres_tool("pg_isready"), "-h", "127.0.0.1", "-p", str(port))).code == 0

    async with process(postgres_tool("postgres"), "-D", data, *options, ready=ready, user=user,
                       log=folder / "postgres.log"):
        yield port


@pytest.mark.parametrize("tls", ["disable", "verify-full"])
@pytest.mark.parametrize("way", WAYS)
async def test_postgresql(make_proxy: MakeProxy, cluster: Path, origin_ca: OriginCA, way: str, tls: str) -> None:
    """With TLS the client asks for it in its own way, and what follows passes untouched: it sees the server's own
    certificate."""
    async with postgres(cluster, origin_ca) as port, way_to(make_proxy, way, port) as (local, proxy):
        where = (f"host=localhost hostaddr=127.0.0.1 port={local} user=postgres dbname=postgres sslmode={tls} "
                 f"sslrootcert={origin_ca.pem} connect_timeout=10")
        query = "SELECT sum(n) FROM generate_series(1, 100) n; SELECT length(repeat('x', 1000000))"
        done = await run_tool("psql", "-X", "-A", "-t", "-c", query, where)
        assert (done.code, done.text.split()) == (0, ["5050", "1000000"]), done.err
        assert await until(lambda: bool(proxy.recorder.of("tcp_end", "tcp_error")))
        assert (b"generate_series" in conversation(proxy)[0]) is (tls == "disable")


# --- SMTP -----------------------------------------------------------------------------------------------------------


class MailServer:
    """Enough of SMTP for one mail (RFC 5321), with STARTTLS (RFC 3207). The server speaks first."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self.mails: list[bytes] = []
        self.secured = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(SECONDS):
            writer.write(b"220 mail.test ready\r\n")
            try:
                while line := await reader.readline():
                    await self._answer(line.split()[0].upper(), reader, writer)
            except OSError:
                pass  # clients leave as they like
            writer.close()

    async def _answer(self, command: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        match command:
            case b"EHLO":
                writer.write(b"250-mail.test\r\n250 STARTTLS\r\n")
            case b"STARTTLS":
                writer.write(b"220 go ahead\r\n")
                await writer.drain()
                await writer.start_tls(self._context)
                self.secured += 1
            case b"DATA":
                writer.write(b"354 end with a dot\r\n")
                self.mails.append(await reader.readuntil(b"\r\n.\r\n"))
                writer.write(b"250 taken\r\n")
            case b"QUIT":
                writer.write(b"221 bye\r\n")
            case _:
                writer.write(b"250 fine\r\n")


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "STARTTLS"])
@pytest.mark.parametrize("way", WAYS)
async def test_smtp(make_proxy: MakeProxy, origin_ca: OriginCA, way: str, tls: bool) -> None:
    mail = MailServer(origin_ca.server_context("localhost", alpn=()))
    server = await asyncio.start_server(mail.serve, "127.0.0.1", 0, limit=1 << 20)

    def send(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
            client._host = "localhost"  # type: ignore[attr-defined]
            if tls:
                client.starttls(context=ssl.create_default_context(cafile=str(origin_ca.pem)))
            client.sendmail("a@mail.test", ["b@mail.test"], b"Subject: hello\r\n\r\n" + b"line\r\n" * 20000)

    async with server:
        async with way_to(make_proxy, way, server.sockets[0].getsockname()[1]) as (local, proxy):
            await asyncio.to_thread(send, local)
            assert await until(lambda: bool(proxy.recorder.of("tcp_end", "tcp_error")))
            said, heard = conversation(proxy)
        assert heard.startswith(b"220 mail.test ready\r\n")
        assert (b"MAIL" in said.upper()) is (not tls) and mail.secured == tls
        assert len(mail.mails) == 1 and mail.mails[0].count(b"line\r\n") == 20000


async def test_a_reverse_listener_connects_at_once(make_proxy: MakeProxy) -> None:
    """Its mode says that it is raw TCP: the greeting does not wait for the client's silence."""
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server:
        proxy = await make_proxy(modes=(f"reverse:tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}@127.0.0.1:0",))
        loop = asyncio.get_running_loop()
        waited = []
        for _ in range(3):
            reader, writer = await proxy.connect()
            began = loop.time()
            async with asyncio.timeout(SECONDS):
                assert await reader.readline() == b"220 hello\r\n"
            waited.append(loop.time() - began)
            writer.close()
            await writer.wait_closed()
        assert min(waited) < SILENCE / 2
        assert await until(lambda: sorted(proxy.recorder.of("tcp_start", "tcp_end", "tcp_error")) == [
            *["tcp_end"] * 3, *["tcp_start"] * 3]), proxy.recorder.names
