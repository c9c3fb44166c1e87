"""Local files: the right bytes and headers, and never anything outside the root."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from email.utils import formatdate
from pathlib import Path

import pytest

from rulesproxy.model.effects import LocalFile
from rulesproxy.model.http import Request
from rulesproxy.proxy.local_file import PIECE, LocalAnswer, open_local_file

RULE = "static (rules/static.yaml:4)"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder to serve, and a secret beside it."""
    site = tmp_path / "site"
    (site / "docs").mkdir(parents=True)
    (site / "hello.txt").write_text("hello\n")
    (site / "docs" / "index.html").write_text("<p>docs</p>")
    (site / "empty").write_bytes(b"")
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "site-two").mkdir()
    (tmp_path / "site-two" / "secret.txt").write_text("secret")
    return site


async def fetch(root: Path, path: str, method: str = "GET", fields: dict[str, str] | None = None,
                **local: object) -> tuple[LocalAnswer, bytes]:
    request = Request.make(method, "http://example.test/x", headers=fields or {})
    async with asyncio.timeout(5):
        answer = await open_local_file(LocalFile(str(root), path, RULE, **local), request)  # type: ignore[arg-type]
        if answer.response.raw_content is not None:
            return answer, answer.response.raw_content
        return answer, b"".join([piece async for piece in answer.pieces])


async def status_of(root: Path, path: str) -> int:
    return (await fetch(root, path))[0].response.status_code


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


async def test_file_comes_with_type_length_and_date(root: Path) -> None:
    answer, body = await fetch(root, "hello.txt")
    headers = answer.response.headers
    assert (answer.response.status_code, body) == (200, b"hello\n")
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert headers["content-length"] == "6"
    assert headers["last-modified"] == formatdate((root / "hello.txt").stat().st_mtime, usegmt=True)


@pytest.mark.parametrize("path", ["docs", "docs/", "/docs", "docs/.", "docs//index.html", "./docs/index.html"])
async def test_folder_answers_with_its_index(root: Path, path: str) -> None:
    answer, body = await fetch(root, path)
    assert body == b"<p>docs</p>"
    assert answer.response.headers["content-type"] == "text/html; charset=utf-8"


async def test_root_may_be_the_file_itself(root: Path) -> None:
    assert (await fetch(root / "hello.txt", ""))[1] == b"hello\n"
    assert (await fetch(root / "hello.txt", "more"))[1] == b"hello\n"


async def test_empty_file(root: Path) -> None:
    answer, body = await fetch(root, "empty")
    assert (answer.response.status_code, answer.response.headers["content-length"], body) == (200, "0", b"")


@pytest.mark.parametrize(("name", "content_type"), [
    ("a.js", "text/javascript; charset=utf-8"), ("a.css", "text/css; charset=utf-8"), ("a.png", "image/png"),
    ("a.json", "application/json; charset=utf-8"), ("a.svg", "image/svg+xml; charset=utf-8"),
    ("a.wasm", "application/wasm"), ("a.woff2", "font/woff2"), ("a.tar.gz", "application/gzip"),
    ("a.unheard-of", "application/octet-stream"), ("plain", "application/octet-stream"),
])
async def test_content_type_by_extension(root: Path, name: str, content_type: str) -> None:
    (root / name).write_bytes(b"x")
    assert (await fetch(root, name))[0].response.headers["content-type"] == content_type


@pytest.mark.parametrize("path", ["missing.txt", "docs/missing", "", "x\0y", "hello.txt/more", "n" * 300])
async def test_missing_file_is_a_404_that_names_the_rule(root: Path, path: str) -> None:
    answer, body = await fetch(root, path)
    assert answer.response.status_code == 404
    assert RULE.encode() in body
    assert str(root).encode() not in body


@pytest.mark.parametrize("path", ["../secret.txt", "docs/../../secret.txt", "/../secret.txt", "..",
                                  "../site-two/secret.txt", "docs/../../site-two/secret.txt"])
async def test_dot_segments_do_not_lead_out(root: Path, path: str) -> None:
    assert await status_of(root, path) == 404


async def test_absolute_path_is_taken_below_the_root(root: Path) -> None:
    assert await status_of(root, str(root.parent / "secret.txt")) == 404
    assert await status_of(root, "/etc/passwd") == 404


async def test_links_are_followed_inside_the_root_only(root: Path) -> None:
    (root / "inside").symlink_to("hello.txt")
    (root / "folder").symlink_to("docs")
    (root / "outside").symlink_to("../secret.txt")
    (root / "neighbour").symlink_to("../site-two")
    (root / "up").symlink_to("..")
    (root / "loop").symlink_to("loop")
    (root / "dangling").symlink_to("nowhere")
    assert (await fetch(root, "inside"))[1] == b"hello\n"
    assert (await fetch(root, "folder"))[1] == b"<p>docs</p>"
    for path in ("outside", "neighbour/secret.txt", "up/secret.txt", "loop", "dangling"):
        assert await status_of(root, path) == 404


async def test_index_that_is_a_link_out_is_not_served(root: Path) -> None:
    (root / "docs" / "index.html").unlink()
    (root / "docs" / "index.html").symlink_to("../../secret.txt")
    assert await status_of(root, "docs") == 404


async def test_root_behind_a_link_is_served(root: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(root)
    assert (await fetch(tmp_path / "alias", "hello.txt"))[1] == b"hello\n"


async def test_fifo_socket_and_device_are_refused_without_waiting(root: Path) -> None:
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(root / "socket"))
        (root / "device").symlink_to("/dev/zero")
        for path in ("fifo", "socket", "device"):
            assert await status_of(root, path) == 404
    assert (await fetch(Path("/dev/zero"), ""))[0].response.status_code == 404


async def test_link_swapped_while_it_is_opened_never_leads_out(root: Path) -> None:
    """A file and a link to the secret take turns under one name as fast as they can."""
    stop = threading.Event()
    target, spare = root / "turn", root / "spare"

    def swap() -> None:
        while not stop.is_set():
            spare.unlink(missing_ok=True)
            spare.write_text("public")
            os.replace(spare, target)
            spare.symlink_to("../secret.txt")
            os.replace(spare, target)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        seen = {(await fetch(root, "turn"))[1] for _ in range(300)}
    finally:
        stop.set()
        thread.join()
    assert all(body == b"public" or RULE.encode() in body for body in seen)


async def test_large_file_comes_in_pieces(root: Path) -> None:
    content = os.urandom(PIECE * 3 + 17)
    (root / "large").write_bytes(content)
    answer = await open_local_file(LocalFile(str(root), "large", RULE), Request.make("GET", "http://x.test/"))
    pieces = [piece async for piece in answer.pieces]
    assert b"".join(pieces) == content
    assert max(map(len, pieces)) <= PIECE
    assert answer.response.raw_content is None


async def test_file_that_shrinks_is_an_error_not_a_silent_cut(root: Path) -> None:
    (root / "large").write_bytes(b"x" * (PIECE * 2))
    before = descriptors()
    answer = await open_local_file(LocalFile(str(root), "large", RULE), Request.make("GET", "http://x.test/"))
    os.truncate(root / "large", PIECE)
    with pytest.raises(OSError, match="became shorter"):
        [piece async for piece in answer.pieces]
    assert descriptors() == before


async def test_file_that_grows_is_sent_as_announced(root: Path) -> None:
    (root / "growing").write_bytes(b"x" * (PIECE + 1))
    answer = await open_local_file(LocalFile(str(root), "growing", RULE), Request.make("GET", "http://x.test/"))
    (root / "growing").write_bytes(b"x" * (PIECE + 1) + b"y" * 1000)
    assert b"".join([piece async for piece in answer.pieces]) == b"x" * (PIECE + 1)


async def test_descriptor_is_closed_after_the_last_piece_and_by_aclose(root: Path) -> None:
    (root / "large").write_bytes(b"x" * (PIECE * 2))
    await fetch(root, "large")
    before = descriptors()
    await fetch(root, "large")
    await fetch(root, "large", fields={"Range": "bytes=999999999-"})
    answer = await open_local_file(LocalFile(str(root), "large", RULE), Request.make("GET", "http://x.test/"))
    assert descriptors() != before
    await answer.pieces.aclose()
    await answer.pieces.aclose()
    assert descriptors() == before


@pytest.mark.parametrize(("wanted", "body", "content_range"), [
    ("bytes=0-1", b"he", "bytes 0-1/6"),
    ("bytes=2-", b"llo\n", "bytes 2-5/6"),
    ("bytes=-2", b"o\n", "bytes 4-5/6"),
    ("bytes=-100", b"hello\n", "bytes 0-5/6"),
    ("bytes=5-100", b"\n", "bytes 5-5/6"),
])
async def test_one_range(root: Path, wanted: str, body: bytes, content_range: str) -> None:
    answer, got = await fetch(root, "hello.txt", fields={"Range": wanted})
    assert (answer.response.status_code, got) == (206, body)
    assert answer.response.headers["content-range"] == content_range
    assert answer.response.headers["content-length"] == str(len(body))


@pytest.mark.parametrize("wanted", ["bytes=6-", "bytes=100-200", "bytes=-0"])
async def test_range_beyond_the_end_is_416(root: Path, wanted: str) -> None:
    answer, _ = await fetch(root, "hello.txt", fields={"Range": wanted})
    assert answer.response.status_code == 416
    assert answer.response.headers["content-range"] == "bytes */6"


@pytest.mark.parametrize("wanted", ["bytes=1-0", "bytes=0-1,3-4", "lines=0-1", "bytes=", "bytes=-", "bytes=a-b", "0-1",
                                    "bytes=" + "9" * 40 + "-"])
async def test_ranges_that_may_be_ignored_are(root: Path, wanted: str) -> None:
    answer, body = await fetch(root, "hello.txt", fields={"Range": wanted})
    assert (answer.response.status_code, body) == (200, b"hello\n")


async def test_range_in_the_middle_of_a_large_file(root: Path) -> None:
    content = os.urandom(PIECE * 3)
    (root / "large").write_bytes(content)
    start, end = PIECE - 5, PIECE * 2 + 5
    _, body = await fetch(root, "large", fields={"Range": f"bytes={start}-{end}"})
    assert body == content[start:end + 1]
    _, body = await fetch(root, "large", fields={"Range": f"bytes={PIECE * 2}-"})
    assert body == content[PIECE * 2:]


async def test_range_counts_for_get_only_and_not_with_if_range(root: Path) -> None:
    for method, headers in (("HEAD", {"Range": "bytes=0-1"}),
                            ("GET", {"Range": "bytes=0-1", "If-Range": '"tag"'})):
        answer, _ = await fetch(root, "hello.txt", method, headers)
        assert answer.response.status_code == 200
        assert answer.response.headers["content-length"] == "6"


async def test_status_and_headers_of_the_rule_stand(root: Path) -> None:
    answer, body = await fetch(root, "hello.txt", status=503,
                               headers=((b"content-type", b"text/x-own"), (b"X-A", b"1"), (b"X-A", b"2")))
    headers = answer.response.headers
    assert (answer.response.status_code, body) == (503, b"hello\n")
    assert headers.get_all("content-type") == ["text/x-own"]
    assert headers.get_all("x-a") == ["1", "2"]
