"""Acceptance line 1: curl through the command to a real nginx, plain and over HTTPS."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.acceptance.command import RulesProxy
from tests.acceptance.conftest import MakeNginx, MakeResolver, Start
from tests.support.nginx import Nginx
from tests.support.tools import Completed, curl

SHOP = """\
  location /echo { return 200 "shop host=$http_host env=$http_x_env debug=$http_x_debug uri=$request_uri\\n"; }
  location = /item.json { gzip on; gzip_types application/json; gzip_min_length 0; gzip_proxied any;
    default_type application/json; return 200 '{"name": "hat", "price": 19, "tags": ["new"]}'; }
  location /plain/ { gzip on; gzip_min_length 0; gzip_proxied any; return 200 "the hat costs 19, the hat is new\\n"; }
"""
STAGING = """\
  location / { return 200 "staging host=$http_host sni=$ssl_server_name uri=$request_uri\\n"; }
"""
RULES = """\
version: 1
vars: {staging: "staging.test:STAGING_PORT", scheme: SCHEME}
rules:
  - name: staged
    match: {host: shop.test, path: /echo/**}
    action:
      rewrite:
        headers: {set: {x-env: staged}, remove: [x-debug]}
        response_headers: {set: {x-served-by: rulesproxy}, remove: [server]}
  - name: mocked
    match: {host: shop.test, path: "/users/{id:int}"}
    action: {respond: {status: 201, headers: {x-mock: "yes"}, json: {id: "${path.id | int}"}}}
  - name: no-entry
    match: {host: shop.test, path: /admin/**}
    action: {block: {status: 403}}
  - name: no-ads
    match: {host: ads.test}
    action: {block: {}}
  - name: moved
    match: {host: shop.test, path: "/old/{page}"}
    action: {redirect: {to: "${vars.scheme}://shop.test/new/${path.page}", status: 308}}
  - name: kept
    match: {host: shop.test, path: /kept}
    action: {redirect_server: {to: "${vars.staging}"}}
  - name: changed
    match: {host: shop.test, path: /changed}
    action: {redirect_server: {to: "${vars.staging}", keep_host: false}}
  - name: mapped
    match: {host: shop.test, path: /images/**}
    action: {map_remote: "${vars.scheme}://${vars.staging}/pictures"}
  - name: one-file
    match: {host: shop.test, path: /motd}
    action: {map_local: ./files/hello.txt}
  - name: folder
    match: {host: shop.test, path: /assets/**}
    action: {map_local: ./files}
  - name: reworded
    match: {host: shop.test, path: /plain/**}
    action: {rewrite: {response_body: {replace: {regex: "hat|coat", with: "cap"}}}}
  - name: free
    match: {host: shop.test, path: /item.json, query: {free: "1"}}
    action: {rewrite: {response_body: {json_merge: {price: 0, tags: null}}}}
  - name: slow
    match: {host: shop.test, path: /echo/slow}
    action: {delay: 800ms}
"""


@dataclass
class Scene:
    """The command between curl and two nginx, everything in one scheme."""

    scheme: str
    proxy: RulesProxy
    shop: Nginx
    staging: Nginx

    def url(self, path: str, host: str = "shop.test") -> str:
        port = self.shop.port if self.scheme == "http" else self.shop.tls_port
        return f"{self.scheme}://{host}:{port}{path}"

    async def get(self, path: str, *arguments: str, host: str = "shop.test") -> Completed:
        return await self.proxy.curl("--path-as-is", *arguments, self.url(path, host))

    async def head_and_body(self, path: str, *arguments: str) -> tuple[int, dict[str, str], str]:
        """Status, fields by lower-case name, and body of the last answer."""
        done = await self.get(path, "--suppress-connect-headers", "--include", *arguments)
        assert done.code == 0, done.err
        head, _, body = done.text.partition("\r\n\r\n")
        status, *fields = head.split("\r\n")
        return int(status.split()[1]), {name.lower(): value.strip() for name, _, value in
                                        (field.partition(":") for field in fields)}, body


@pytest.fixture(params=["http", "https"])
async def scene(request: pytest.FixtureRequest, start: Start, make_nginx: MakeNginx,
                make_resolver: MakeResolver, rules: Path) -> Scene:
    scheme = request.param
    shop = await make_nginx(names=("shop.test",), locations=SHOP)
    # Named for both: with Host kept it is spoken to as shop.test, otherwise as staging.test.
    staging = await make_nginx(names=("shop.test", "staging.test"), locations=STAGING)
    resolver = await make_resolver({("shop.test", "A"): ["127.0.0.1"], ("staging.test", "A"): ["127.0.0.1"]})
    port = staging.port if scheme == "http" else staging.tls_port
    rules.write_text(RULES.replace("STAGING_PORT", str(port)).replace("SCHEME", scheme))
    _write_files(rules.parent / "files")
    proxy = await start(rules, "--verbose", "--set", f"resolvers={resolver.address}")
    return Scene(scheme, proxy, shop, staging)


def _write_files(folder: Path) -> None:
    (folder / "deep").mkdir(parents=True)
    (folder / "hello.txt").write_text("Hello from a file\n")
    (folder / "deep" / "style.css").write_text("body {}\n")
    (folder.parent / "secret.txt").write_text("SECRET\n")
    (folder / "leak.txt").symlink_to("../secret.txt")
    (folder / "out").symlink_to("..")


async def test_headers_are_rewritten_in_both_directions(scene: Scene) -> None:
    """nginx tells what it received; without the rule it would have seen x-debug and answered with its own name."""
    status, fields, body = await scene.head_and_body("/echo/1?q=2", "-H", "x-debug: 1")
    assert status == 200
    port = scene.url("").rpartition(":")[2]
    assert body == f"shop host=shop.test:{port} env=staged debug= uri=/echo/1?q=2\n"
    assert fields["x-served-by"] == "rulesproxy"
    assert "server" not in fields


async def test_an_unruled_path_passes_as_it_is(scene: Scene) -> None:
    status, fields, body = await scene.head_and_body("/header", "-H", "x-test: mine")
    assert (status, body) == (200, "mine\n")
    assert fields["server"].startswith("nginx")
    assert "x-served-by" not in fields


async def test_a_mock_does_not_touch_the_origin(scene: Scene) -> None:
    status, fields, body = await scene.head_and_body("/users/7")
    assert status == 201
    assert fields["x-mock"] == "yes"
    assert json.loads(body) == {"id": 7}
    assert (await scene.get("/hello")).text == "hello from nginx\n"
    # nginx logs in order: were the mock's request there, it would stand in front of this one.
    (line,) = await scene.shop.wait_for_log(1)
    assert line.split()[:2] == ["GET", scene.url("/hello")]


@pytest.mark.parametrize("accept", ["text/html", "*/*"])
async def test_a_block_page_names_the_rule(scene: Scene, accept: str) -> None:
    status, fields, body = await scene.head_and_body("/admin/x", "-H", f"accept: {accept}")
    assert status == 403
    assert "no-entry" in body
    html = accept == "text/html"
    assert fields["content-type"].startswith("text/html" if html else "text/plain")
    assert ("<html" in body) == html
    assert scene.shop.log == []


async def test_a_bare_block_acts_as_early_as_it_can(scene: Scene) -> None:
    """Plain: the page. HTTPS: the CONNECT is refused and no certificate is made, as there is for a host with rules."""
    done = await scene.get("/", "--include", host="ads.test")
    if scene.scheme == "http":
        assert done.text.startswith("HTTP/1.1 403 ")
        assert "no-ads" in done.text
        return
    assert done.code == 56, done  # curl: failure in receiving network data, here: CONNECT refused
    assert done.text.startswith("HTTP/1.1 403 ")
    assert b"response 403" in done.err
    assert (await scene.get("/hello")).code == 0
    _, made = await scene.proxy.wait_for_line(r"certificate made for (\S+)")
    assert made[1] == "shop.test"
    assert "certificate made for ads.test" not in scene.proxy.stderr
    assert "refused by rule no-ads" in scene.proxy.stderr


async def test_a_redirect_is_an_answer(scene: Scene) -> None:
    status, fields, _ = await scene.head_and_body("/old/a%20b")
    assert (status, fields["location"]) == (308, f"{scene.scheme}://shop.test/new/a%20b")
    assert scene.shop.log == []


async def test_a_redirected_server_gets_the_host_of_the_request(scene: Scene) -> None:
    port = scene.url("").rpartition(":")[2]
    sni = "shop.test" if scene.scheme == "https" else ""
    assert (await scene.get("/kept?x=1")).text == f"staging host=shop.test:{port} sni={sni} uri=/kept?x=1\n"
    assert scene.shop.log == []


async def test_a_redirected_server_can_be_told_its_own_name(scene: Scene) -> None:
    port = scene.staging.port if scene.scheme == "http" else scene.staging.tls_port
    sni = "staging.test" if scene.scheme == "https" else ""
    assert (await scene.get("/changed?x=1")).text == f"staging host=staging.test:{port} sni={sni} uri=/changed?x=1\n"
    assert scene.shop.log == []


async def test_map_remote_replaces_the_fixed_part_of_the_path(scene: Scene) -> None:
    port = scene.staging.port if scene.scheme == "http" else scene.staging.tls_port
    sni = "staging.test" if scene.scheme == "https" else ""
    expected = f"staging host=staging.test:{port} sni={sni} uri=/pictures/a/b.jpg?size=2\n"
    assert (await scene.get("/images/a/b.jpg?size=2")).text == expected


async def test_map_local_answers_with_files(scene: Scene) -> None:
    status, fields, body = await scene.head_and_body("/motd")
    assert (status, body) == (200, "Hello from a file\n")
    assert fields["content-type"].startswith("text/plain")
    status, fields, body = await scene.head_and_body("/assets/deep/style.css")
    assert (status, body) == (200, "body {}\n")
    assert fields["content-type"].startswith("text/css")
    assert scene.shop.log == []


OUTSIDE = (
    "/assets/none.txt", "/assets/..%2fsecret.txt", "/assets/..%2Fsecret.txt", "/assets/%2e%2e%2fsecret.txt",
    "/assets/..%5csecret.txt", "/assets/deep/..%2f..%2fsecret.txt", "/assets/leak.txt", "/assets/out/secret.txt",
    "/assets/..%252fsecret.txt", "/assets/x%00/..%2fsecret.txt", "/assets//etc/passwd", "/assets/%2fetc%2fpasswd",
    "/assets/deep")


async def test_map_local_never_leaves_its_folder(scene: Scene) -> None:
    """Whatever is asked for and is not a file in the folder: 404 by the rule, and nginx is not asked either."""
    for path in OUTSIDE:
        status, _, body = await scene.head_and_body(path)
        assert status == 404, path
        assert "Rule: folder" in body, path
        assert "SECRET" not in body, path
    assert scene.shop.log == []


async def test_dot_segments_are_resolved_before_rules_match(scene: Scene) -> None:
    """The path is /secret.txt for the rules: not theirs, so nginx is asked, which knows no such file."""
    for path in ("/assets/../secret.txt", "/assets/%2e%2e/secret.txt", "/assets/deep/../../secret.txt"):
        status, fields, body = await scene.head_and_body(path)
        assert status == 404
        assert fields["server"].startswith("nginx")
        assert "Rule" not in body


async def test_bodies_are_edited_under_a_content_coding(scene: Scene) -> None:
    """What nginx sends is gzip, shown by the same answer on a path without a rule."""
    status, fields, _ = await scene.head_and_body("/item.json", "-H", "accept-encoding: gzip", "-o", "/dev/null", "-D",
                                                  "-")
    assert (status, fields["content-encoding"]) == (200, "gzip")
    done = await scene.get("/plain/1", "--compressed")
    assert done.text == "the cap costs 19, the cap is new\n"
    done = await scene.get("/item.json?free=1", "--compressed")
    assert json.loads(done.text) == {"name": "hat", "price": 0}


async def test_an_unruled_coded_body_passes_byte_for_byte(scene: Scene) -> None:
    through = await scene.get("/item.json", "-H", "accept-encoding: gzip")
    direct = await curl("-H", "accept-encoding: gzip", f"http://127.0.0.1:{scene.shop.port}/item.json")
    assert through.out == direct.out
    assert json.loads(gzip.decompress(through.out))["price"] == 19


async def test_delay_adds_latency(scene: Scene) -> None:
    """Both measured: the delayed path, and its neighbour without the rule."""
    done = await scene.get("/echo/slow", "-w", "%{time_total}", "-o", "/dev/null")
    assert 0.8 <= float(done.text) < 5
    done = await scene.get("/echo/quick", "-w", "%{time_total}", "-o", "/dev/null")
    assert float(done.text) < 0.8


async def test_all_of_it_on_one_connection(scene: Scene) -> None:
    """curl keeps its connection (and the tunnel in it) over answers of every kind."""
    paths = ("/echo/1", "/users/3", "/admin/", "/motd", "/old/x", "/kept", "/hello")
    urls = [part for path in paths for part in ("--output", "/dev/null", scene.url(path))]
    done = await scene.proxy.curl("--write-out", "%{http_code} %{num_connects}\\n", *urls)
    assert done.text.split("\n")[:-1] == ["200 1", "201 0", "403 0", "200 0", "308 0", "200 0", "200 0"]
