"""Acceptance line 7: what is decrypted and what is not, as `openssl s_client` sees it."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.acceptance.command import RulesProxy, run_command
from tests.acceptance.conftest import MakeNginx, MakeResolver, Start
from tests.acceptance.load import connect
from tests.support.certificates import OriginCA
from tests.support.nginx import Nginx
from tests.support.tools import run_tool

MakeScene = Callable[..., Awaitable["Scene"]]

OURS, ORIGINS, NOBODYS = "rulesproxy CA", "Test origin CA", ""

NAMES = ("shop.test", "other.test", "moved.test", "pinned.test", "bank.test", "refused.test", "opened.test",
         "api.bank.test", "127.0.0.1")
RULES = """\
version: 1
rules:
  - name: leave-the-bank
    match: {domain: bank.test}
    action: {pass: {}}
    priority: 10
  - name: pinned
    match: {host: pinned.test}
    action: {tls: passthrough}
    priority: 10
  - name: refused
    match: {host: refused.test}
    action: {tls: refuse}
    priority: 10
  - name: no-ads
    match: {host: ads.test}
    action: {block: {}}
  - name: opened
    match: {host: opened.test}
    action: {tls: intercept}
  - name: mark
    match: {host: [shop.test, pinned.test, bank.test, api.bank.test]}
    action: {rewrite: {response_headers: {set: {x-mark: "yes"}}}}
  - name: moved
    match: {host: moved.test}
    action: {redirect_server: {to: "staging.test:STAGING"}}
"""


@dataclass(frozen=True)
class Session:
    """What s_client saw."""

    text: str
    errors: str

    @property
    def issuer(self) -> str:
        """The common name of who signed the server's certificate; empty without one."""
        match = re.search(r"^issuer=.*CN = (.*)$", self.text, re.MULTILINE)
        return match[1] if match else NOBODYS

    @property
    def certificate(self) -> str:
        match = re.search(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", self.text, re.DOTALL)
        return match[0] if match else ""

    @property
    def answer(self) -> str:
        """Head and body of the HTTP answer; s_client's own words stand around it."""
        _, found, rest = self.text.partition("HTTP/1.1 ")
        head, _, rest = rest.partition("\r\n\r\n")
        length = re.search(r"^content-length: (\d+)", head, re.MULTILINE | re.IGNORECASE)
        assert bool(found) == bool(length), self.text
        return f"{head}\r\n\r\n{rest[:int(length[1])]}".replace("\r\n", "\n") if length else ""


@dataclass
class Scene:
    """The command between s_client and two nginx; the second one is where `moved` leads."""

    proxy: RulesProxy
    nginx: Nginx
    staging: Nginx
    roots: Path

    async def s_client(self, target: str, sni: str | None = None, host: str | None = None,
                       named: str | None = None, direct: bool = False) -> Session:
        """TLS to nginx as `target`, and a GET of /name in it.

        `sni` is another server name, or "" for none; `host` another Host. The certificate must be valid for `named`,
        which is the server name, else the target.
        """
        sni = target if sni is None else sni
        port = self.nginx.tls_port
        way = (["-connect", f"127.0.0.1:{port}"] if direct
               else ["-proxy", self.proxy.address, "-connect", f"{target}:{port}"])
        name = ["-servername", sni] if sni else ["-noservername"]
        named = named or sni or target
        check = ["-verify_ip" if named[0].isdigit() else "-verify_hostname", named, "-verify_return_error"]
        request = f"GET /name HTTP/1.1\r\nHost: {host or target}:{port}\r\nConnection: close\r\n\r\n"
        done = await run_tool("openssl", "s_client", *way, *name, "-CAfile", str(self.roots), *check, "-ign_eof",
                              stdin=request.encode())
        return Session(done.text, done.err.decode())


@pytest.fixture
async def make_scene(start: Start, make_nginx: MakeNginx, make_resolver: MakeResolver, origin_ca: OriginCA,
                     rules: Path, tmp_path: Path) -> MakeScene:
    async def make(*arguments: str | Path, text: str = RULES) -> Scene:
        nginx = await make_nginx(names=NAMES, locations=_says("nginx"))
        staging = await make_nginx(names=("staging.test", "moved.test"), locations=_says("staging"))
        resolver = await make_resolver({(name, "A"): ["127.0.0.1"] for name in (*NAMES, "staging.test")})
        rules.write_text(text.replace("STAGING", str(staging.tls_port)))
        proxy = await start(rules, "--verbose", "--set", f"resolvers={resolver.address}", *arguments)
        roots = tmp_path / "roots.pem"
        roots.write_bytes(origin_ca.pem.read_bytes() + proxy.ca.read_bytes())
        return Scene(proxy, nginx, staging, roots)

    return make


def _says(who: str) -> str:
    return f'location = /name {{ return 200 "{who} sni=$ssl_server_name"; }}'


@pytest.fixture
async def scene(make_scene: MakeScene) -> Scene:
    return await make_scene()


# --- what no rule needs is relayed -------------------------------------------------------------------------------


async def test_a_host_no_rule_needs_is_relayed_untouched(scene: Scene) -> None:
    """The very certificate that nginx has, and its very answer."""
    session = await scene.s_client("other.test")
    assert session.issuer == ORIGINS
    assert session.certificate == (await scene.s_client("other.test", direct=True)).certificate
    assert session.answer.endswith("nginx sni=other.test")
    assert "certificate made" not in scene.proxy.stderr


async def test_a_host_a_rule_needs_is_intercepted(scene: Scene) -> None:
    session = await scene.s_client("shop.test")
    assert session.issuer == OURS
    assert "x-mark: yes\n" in session.answer
    assert session.answer.endswith("nginx sni=shop.test")


async def test_rules_say_what_happens_to_tls(scene: Scene) -> None:
    """pass and tls: passthrough above a rule that would need plaintext; tls: intercept that no rule needs."""
    for target, issuer in (("bank.test", ORIGINS), ("api.bank.test", ORIGINS), ("pinned.test", ORIGINS),
                           ("opened.test", OURS)):
        session = await scene.s_client(target)
        assert session.issuer == issuer, target
        assert session.answer.startswith("200"), target
        assert "x-mark" not in session.answer
    session = await scene.s_client("refused.test")
    assert session.issuer == NOBODYS
    assert "TLS to refused.test" in scene.proxy.stderr
    assert "refused by rule refused" in scene.proxy.stderr


async def test_a_relayed_tunnel_can_be_moved(scene: Scene) -> None:
    """redirect_server with host keys only: the other server's certificate, and the SNI as the client sent it."""
    session = await scene.s_client("moved.test")
    assert session.issuer == ORIGINS
    assert session.certificate != (await scene.s_client("other.test")).certificate
    assert session.answer.endswith("staging sni=moved.test")
    assert scene.nginx.log == [line for line in scene.nginx.log if "other.test" in line]


# --- names -------------------------------------------------------------------------------------------------------


async def test_without_a_server_name_the_tunnel_has_the_name_of_its_connect(scene: Scene) -> None:
    session = await scene.s_client("shop.test", sni="")
    assert session.issuer == OURS
    assert "x-mark: yes\n" in session.answer
    assert (await scene.s_client("other.test", sni="")).issuer == ORIGINS


async def test_the_server_name_is_the_name_of_a_tunnel_to_another_host(scene: Scene) -> None:
    """CONNECT other.test, SNI shop.test: rules of shop.test, dialled is other.test. And the other way round."""
    session = await scene.s_client("other.test", sni="shop.test", host="shop.test")
    assert session.issuer == OURS
    assert "x-mark: yes\n" in session.answer
    session = await scene.s_client("moved.test", sni="shop.test", host="shop.test", named="shop.test")
    assert (session.issuer, session.answer[:3]) == (OURS, "200")
    assert (await scene.s_client("shop.test", sni="other.test")).issuer == ORIGINS


@pytest.mark.parametrize(("unnamed", "issuer"), [("relay", ORIGINS), ("intercept", OURS), ("refuse", NOBODYS)])
async def test_a_bare_address_is_what_the_option_says(make_scene: MakeScene, unnamed: str, issuer: str) -> None:
    """Rules on hosts do not apply to it; with a server name it is a tunnel like others."""
    scene = await make_scene("--set", f"unnamed={unnamed}")
    session = await scene.s_client("127.0.0.1", sni="")
    assert session.issuer == issuer
    assert session.answer.endswith("nginx sni=") == bool(issuer)
    session = await scene.s_client("127.0.0.1", sni="shop.test", host="shop.test")
    assert session.issuer == OURS
    assert "x-mark: yes\n" in session.answer


async def test_other_spellings_of_a_server_name_are_the_same_name(scene: Scene) -> None:
    for spelling in ("SHOP.test", "shop.TEST."):
        session = await scene.s_client("other.test", sni=spelling, host="shop.test", named="shop.test")
        assert (session.issuer, "x-mark: yes\n" in session.answer) == (OURS, True), spelling


async def test_a_blocked_name_in_a_tunnel_to_another_is_refused(scene: Scene) -> None:
    """The CONNECT did not show it, the ClientHello does: an alert, and no certificate."""
    session = await scene.s_client("other.test", sni="ads.test")
    assert session.issuer == NOBODYS
    assert "alert access denied" in session.errors
    assert "TLS to ads.test" in scene.proxy.stderr
    assert "certificate made" not in scene.proxy.stderr
    assert scene.nginx.log == []


async def test_a_bare_address_is_relayed_unless_something_else_is_said(scene: Scene) -> None:
    assert (await scene.s_client("127.0.0.1", sni="")).issuer == ORIGINS


async def test_a_request_for_another_host_than_its_tunnel_is_misdirected(scene: Scene) -> None:
    session = await scene.s_client("shop.test", host="other.test")
    assert session.issuer == OURS
    assert session.answer.startswith("421 ")
    assert "--set identity=warn" in session.answer
    session = await scene.s_client("shop.test", sni="", host="other.test")
    assert session.answer.startswith("421 ")
    assert scene.nginx.log == []


async def test_a_later_request_in_the_tunnel_may_not_be_for_another_host_either(scene: Scene) -> None:
    """Nor one whose target says another host than its Host."""
    port = scene.nginx.tls_port
    tunnel = f"shop.test:{port}"
    trust = ssl.create_default_context(cafile=scene.proxy.ca)
    for target, host, status in (("/name", tunnel, 200), ("/name", f"other.test:{port}", 421),
                                 (f"https://other.test:{port}/name", tunnel, 421)):
        reader, writer = await connect(scene.proxy.port, tunnel, trust)
        try:
            async with asyncio.timeout(10):
                for request in (f"GET /name HTTP/1.1\r\nHost: {tunnel}\r\n\r\n",
                                f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"):
                    writer.write(request.encode())
                answers = re.findall(rb"HTTP/1\.1 (\d+) ", await reader.read())
            assert answers == [b"200", str(status).encode()], target
        finally:
            writer.close()


async def test_a_request_for_another_host_can_be_let_through(make_scene: MakeScene) -> None:
    """Rules match what the request says it is for."""
    scene = await make_scene("--set", "identity=warn")
    session = await scene.s_client("opened.test", host="shop.test")
    assert session.answer.startswith("200 ")
    assert "x-mark: yes\n" in session.answer
    session = await scene.s_client("shop.test", host="other.test")
    assert session.answer.startswith("200 ")
    assert "x-mark" not in session.answer


# --- rules and scripts without hosts -----------------------------------------------------------------------------

EVERYWHERE = RULES + """  - name: everywhere
    match: {path: /never}
    action: {respond: {status: 204}}
"""


async def test_a_rule_without_hosts_decrypts_everything_and_says_so(make_scene: MakeScene) -> None:
    scene = await make_scene(text=EVERYWHERE)
    assert re.search(r"rule everywhere .*names no host: all TLS is decrypted", scene.proxy.stderr)
    assert (await scene.s_client("other.test")).issuer == OURS
    assert (await scene.s_client("bank.test")).issuer == ORIGINS


async def test_such_rules_can_be_confined_to_named_hosts(make_scene: MakeScene) -> None:
    scene = await make_scene("--set", "decrypt=named", text=EVERYWHERE)
    assert (await scene.s_client("other.test")).issuer == ORIGINS
    assert (await scene.s_client("shop.test")).issuer == OURS


async def test_a_script_that_wants_http_decrypts_what_no_rule_decides_on(make_scene: MakeScene, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("def response(flow):\n    flow.response.headers['x-script'] = 'yes'\n")
    scene = await make_scene("-s", script)
    session = await scene.s_client("other.test")
    assert session.issuer == OURS
    assert "x-script: yes\n" in session.answer
    assert (await scene.s_client("pinned.test")).issuer == ORIGINS


# --- plan --------------------------------------------------------------------------------------------------------


async def test_plan_lists_what_is_decrypted_and_what_is_relayed(rules: Path) -> None:
    rules.write_text(RULES.replace("STAGING", "443"))
    plan = json.loads((await run_command("plan", "--json", rules)).out)
    sets: dict[str, set[str]] = {}
    for line in plan["tunnels"]:
        sets.setdefault(line["verdict"], set()).update(line["hosts"])
    assert sets["intercept"] == {"shop.test", "opened.test"}
    # api.bank.test is named by a rule that needs plaintext, below the one that leaves the bank alone. moved.test is
    # one of "every other host".
    assert sets["relay"] == {"pinned.test", "bank.test", ".bank.test", "api.bank.test"}
    assert sets["refuse"] == {"refused.test", "ads.test"}
    assert plan["decrypts_everything"] == []
    done = await run_command("plan", rules)
    decrypted, _, relayed = done.text.partition("Decrypted:")[2].partition("Relayed untouched:")
    assert "shop.test" in decrypted
    assert "bank.test" not in decrypted
    assert "pinned.test" in relayed
    assert "TLS for every other host is relayed untouched." in relayed


async def test_plan_and_check_name_the_rule_that_decrypts_everything(rules: Path) -> None:
    rules.write_text(EVERYWHERE.replace("STAGING", "443"))
    assert json.loads((await run_command("plan", "--json", rules)).out)["decrypts_everything"] == ["everywhere"]
    assert "All TLS is decrypted, for: everywhere." in (await run_command("plan", rules)).text
    done = await run_command("check", rules)
    assert done.code == 0
    assert "everywhere" in done.text
    assert "decrypt" in done.text
