"""Scripts in a running proxy: what a client and an origin see of them, on real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from rulesproxy.addons.context import ctx
from rulesproxy.addons.core_options import ProxyOptions
from rulesproxy.addons.manager import AddonManager
from rulesproxy.addons.script import Scripts
from rulesproxy.certs.authority import Authority
from rulesproxy.net.resolve import SystemResolver
from rulesproxy.proxy.server import Proxy
from rulesproxy.proxy.settings import Settings
from tests.support.origin import run_origin

EXAMPLES = Path(__file__).parents[2] / "examples"


@asynccontextmanager
async def proxy_with(confdir: Path, script: Path, **values: object) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a proxy that runs the script."""
    options = ctx.options = ProxyOptions()
    options.update(**values)
    manager = AddonManager(options)
    manager.add(Scripts([script], manager))
    manager.configure_all()
    resolver = SystemResolver()
    proxy = Proxy(manager, Authority.load_or_create(confdir), resolver, modes=["regular@127.0.0.1:0"],
                  settings=Settings.from_options(options))
    await proxy.start()
    await manager.running()
    host, port = proxy.addresses[0][:2]
    try:
        async with httpx.AsyncClient(proxy=f"http://{host}:{port}", timeout=5, trust_env=False) as client:
            yield client
    finally:
        await asyncio.wait_for(proxy.stop(0.5), 5)
        await asyncio.wait_for(manager.shutdown(), 5)
        await resolver.aclose()
        del ctx.options


@pytest.fixture
def confdir(tmp_path: Path) -> Path:
    return tmp_path / "conf"


async def test_a_mock_answers_without_touching_the_origin(confdir: Path) -> None:
    async with run_origin() as origin, proxy_with(confdir, EXAMPLES / "mock_api.py") as client:
        base = f"http://127.0.0.1:{origin.port}"
        mocked = await client.post(f"{base}/greet", content=json.dumps({"name": "Ada"}))
        assert (mocked.status_code, mocked.json()) == (200, {"greeting": "Hello, Ada!"})
        assert origin.requests == []
        assert (await client.get(f"{base}/other")).text == "hello"
        assert [request.target for request in origin.requests] == [b"/other"]


async def test_a_response_gets_its_header(confdir: Path) -> None:
    async with run_origin() as origin, proxy_with(confdir, EXAMPLES / "add_header.py") as client:
        response = await client.get(f"http://127.0.0.1:{origin.port}/")
        assert response.headers["x-passed-by"] == "yes" and response.text == "hello"


@pytest.mark.parametrize("hook, refused", [("requestheaders", 500), ("request", 500), ("response", 500)])
@pytest.mark.parametrize("addon_errors", ["continue", "refuse"])
async def test_a_raising_script_is_passed_over_or_closes(
        confdir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, hook: str, refused: int,
        addon_errors: str) -> None:
    script = tmp_path / "raising.py"
    script.write_text(f"def {hook}(flow):\n  raise ValueError('broken')\n")
    async with run_origin() as origin, proxy_with(confdir, script, addon_errors=addon_errors) as client:
        response = await client.get(f"http://127.0.0.1:{origin.port}/")
        assert response.status_code == (200 if addon_errors == "continue" else refused)
        assert len(origin.requests) == (0 if addon_errors == "refuse" and hook != "response" else 1)
        assert "hello" not in response.text or addon_errors == "continue"
    assert f"addon raising.py failed in {hook}" in caplog.text


async def test_what_cannot_be_refused_with_a_page_is_cut_off(confdir: Path, tmp_path: Path) -> None:
    script = tmp_path / "raising.py"
    script.write_text("def responseheaders(flow):\n  raise ValueError('broken')\n")
    async with run_origin() as origin, proxy_with(confdir, script, addon_errors="refuse") as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(f"http://127.0.0.1:{origin.port}/")


async def test_an_edited_script_takes_effect_on_an_open_connection(confdir: Path, tmp_path: Path) -> None:
    script = tmp_path / "version.py"
    text = ("from rulesproxy.model.http import Response\n"
            "def request(flow): flow.response = Response.make(200, '{}')\n")
    script.write_text(text.format("old"))
    async with proxy_with(confdir, script) as client:
        assert (await client.get("http://version.example/")).text == "old"
        script.write_text(text.format("new"))
        async with asyncio.timeout(10):
            while (seen := (await client.get("http://version.example/")).text) == "old":
                pass
        assert seen == "new"
