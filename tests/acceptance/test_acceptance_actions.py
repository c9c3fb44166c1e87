"""Actions whose effect is only seen on the wire: delays in each phase, files instead of answers, ways to hang up."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.acceptance.command import RulesProxy
from tests.acceptance.conftest import MakeNginx, MakeResolver, Start
from tests.support.nginx import Nginx
from tests.support.tools import run_tool

LOCATIONS = """\
  location /gone/ { return 404 "nginx has none\\n"; }
  location /text { default_type text/plain; return 200 "the old text\\n"; }
  location /coded { add_header content-encoding made-up; default_type text/plain; return 200 "cannot be read"; }
  location /big { root FOLDER; }
"""
RULES = """\
version: 1
rules:
  - name: files-instead
    match: {host: shop.test, path: /gone/**, status: 404}
    action: {map_local: ./files}
  - name: files-instead-of-what-it-says
    match: {host: shop.test, path: /text, query: {file: "1"}, status: 200}
    action: {map_local: "./files/${response.headers.x-none | default(\\"instead.txt\\")}"}
  - name: single-file
    match: {host: shop.test, path: /one/**}
    action: {map_local: ./files/instead.txt}
  - name: all-new
    match: {host: shop.test, path: [/coded, /big], query: {new: "1"}}
    action: {rewrite: {response_body: "all new"}}
  - name: unreadable
    match: {host: shop.test, path: [/coded, /big]}
    action: {rewrite: {response_body: {replace: {text: read, with: seen}}}}
  - name: slow-names
    match: {host: slow.test, dns_type: A}
    action: {spoof_dns: 192.0.2.9, delay: 400ms}
  - name: slow-tunnels
    match: {host: slow.test, port: 443}
    action: {block: {}, delay: 400ms}
  - name: resets
    match: {host: reset.test}
    action: {block: reset}
  - name: closes
    match: {host: close.test}
    action: {block: close}
  - name: no-such-place
    match: {host: shop.test, path: /to}
    action: {redirect_server: "${query.to}"}
"""


@pytest.fixture
async def shop(make_nginx: MakeNginx, tmp_path: Path) -> Nginx:
    (tmp_path / "big").write_bytes(b"read " * 10_000)
    return await make_nginx(names=("shop.test",), locations=LOCATIONS.replace("FOLDER", str(tmp_path)))


@pytest.fixture
async def proxy(start: Start, shop: Nginx, make_resolver: MakeResolver, rules: Path) -> RulesProxy:
    (rules.parent / "files" / "gone").mkdir(parents=True)
    (rules.parent / "files" / "found.css").write_text("body {}\n")
    (rules.parent / "files" / "instead.txt").write_text("instead\n" * 50_000)
    rules.write_text(RULES)
    resolver = await make_resolver({("shop.test", "A"): ["127.0.0.1"]})
    return await start(rules, "--set", f"resolvers={resolver.address}", "--set", "rule_body_limit=20000", dns=True)


async def get(proxy: RulesProxy, shop: Nginx, path: str, *arguments: str) -> tuple[int, str, bytes]:
    """Status, head and body over a connection that then serves another request: the first ended where it said."""
    url = f"http://shop.test:{shop.port}"
    done = await proxy.curl("-s", "-i", *arguments, f"{url}{path}", "--next", "-s", "--proxy", proxy.address,
                            "-o", "/dev/null", "-w", "|%{http_code} %{num_connects}", f"{url}/text")
    assert done.code == 0, done
    first, _, second = done.out.rpartition(b"|")
    assert second == b"200 0"
    head, _, body = first.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode().lower(), body


async def test_a_file_stands_in_for_an_answer(proxy: RulesProxy, shop: Nginx) -> None:
    status, head, body = await get(proxy, shop, "/gone/found.css")
    assert (status, body) == (200, b"body {}\n")
    assert "content-type: text/css" in head and "cache-control: no-store" in head
    status, _, body = await get(proxy, shop, "/gone/lost.css")
    assert status == 404
    assert b"files-instead" in body
    status, _, body = await get(proxy, shop, "/text?file=1")
    assert (status, body) == (200, b"instead\n" * 50_000)
    status, head, body = await get(proxy, shop, "/gone/found.css", "-I")
    assert (status, body) == (200, b"")
    assert "content-length: 8" in head


async def test_a_file_is_the_answer_to_every_path(proxy: RulesProxy, shop: Nginx) -> None:
    for path in ("/one", "/one/two/%2e%2e%2fx"):
        assert (await get(proxy, shop, path))[2] == b"instead\n" * 50_000


@pytest.mark.parametrize("path", ["/coded", "/big"])
async def test_a_body_that_cannot_be_read_passes_and_one_that_is_replaced_need_not_be(
        proxy: RulesProxy, shop: Nginx, path: str) -> None:
    _, _, body = await get(proxy, shop, path)
    assert body == (b"cannot be read" if path == "/coded" else b"read " * 10_000)
    await proxy.wait_for_line("rule unreadable cannot do its work")
    _, head, body = await get(proxy, shop, f"{path}?new=1")
    assert body == b"all new"
    assert "content-length: 7" in head and "made-up" not in head


async def test_a_destination_that_is_none_is_refused(proxy: RulesProxy, shop: Nginx) -> None:
    status, _, body = await get(proxy, shop, "/to?to=a%2Fb")
    assert status == 500
    assert b"no-such-place" in body


async def test_names_and_tunnels_can_be_slow(proxy: RulesProxy) -> None:
    before = time.monotonic()
    answer = await run_tool("dig", "@127.0.0.1", "-p", str(proxy.dns_port), "+short", "+timeout=5", "slow.test", "A")
    assert answer.text == "192.0.2.9\n"
    assert time.monotonic() - before >= 0.4
    before = time.monotonic()
    assert (await proxy.curl("-s", "https://slow.test/")).code == 56
    assert time.monotonic() - before >= 0.4


async def test_ways_to_hang_up(proxy: RulesProxy) -> None:
    for host in ("reset.test", "close.test"):
        for scheme in ("http", "https"):
            done = await proxy.curl("-s", "-S", f"{scheme}://{host}/")
            assert done.code in (52, 56), done  # an empty reply, a reset
            assert done.out == b""
            assert ("reset" in done.err.decode().lower()) == (host == "reset.test"), done
