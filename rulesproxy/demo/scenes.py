"""The scenes of the demo: each sends something real, checks what came of it, and says so in one line."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from rulesproxy.demo.client import TunnelRefused
from rulesproxy.demo.stage import Stage


class Unexpected(Exception):
    """A scene did not end as it has to; the message says how it did."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A row of the table. `play` answers the effect in words, or raises Unexpected."""

    request: str
    rule: str
    play: Callable[[Stage], Awaitable[str]]


def _must(holds: bool, otherwise: object) -> None:
    if not holds:
        raise Unexpected(str(otherwise))


def _must_act(stage: Stage, rule: str) -> None:
    acted = stage.acted()
    _must(rule in acted, f"these rules took effect: {', '.join(sorted(acted)) or 'none'}")


# --- plain HTTP -------------------------------------------------------------------------------------------------


async def _rewritten(stage: Stage) -> str:
    answer = await stage.client.get("http://shop.test/")
    _must_act(stage, "mark-requests")
    seen = stage.origins.plain.requests[-1][1]
    _must(seen.get("x-env") == "demo" and seen["host"] == "shop.test", seen)
    _must("server" not in answer.headers and answer.headers.get("x-served-by") == "rulesproxy", answer.headers)
    return "the server saw x-env: demo; the answer lost Server and got x-served-by"


async def _blocked(stage: Stage) -> str:
    answer = await stage.client.get("http://eu.tracker.test/pixel.gif")
    _must_act(stage, "block-trackers")
    _must(answer.status == 403 and "block-trackers" in answer.text, answer)
    return "403, and the page names the rule"


async def _mocked(stage: Stage) -> str:
    before = stage.origins.request_count
    answer = await stage.client.get("http://api.shop.test/users/7")
    _must_act(stage, "mock-user")
    _must(answer.json == {"id": 7, "name": "Ada"}, answer)
    _must(stage.origins.request_count == before, "a server was asked")
    return f"{answer.text.strip()}; no server was asked"


async def _redirected(stage: Stage) -> str:
    answer = await stage.client.get("http://old.shop.test/docs/returns")
    _must_act(stage, "docs-have-moved")
    location = answer.headers.get("location")
    _must(answer.status == 301 and location == "https://shop.test/manual/returns", answer)
    return f"301 to {location}"


async def _other_server(stage: Stage) -> str:
    answer = await stage.client.get("http://shop.test/new/hats")
    _must_act(stage, "shop-from-staging")
    _must((answer.json["server"], answer.json["host"]) == ("staging", "shop.test"), answer)
    return "answered by staging, which was told Host: shop.test"


async def _other_server_and_host(stage: Stage) -> str:
    answer = await stage.client.get("http://api.shop.test/v3/items")
    _must_act(stage, "api-from-staging")
    own = f"127.0.0.1:{stage.origins.staging.port}"
    _must((answer.json["server"], answer.json["host"]) == ("staging", own), answer)
    return f"answered by staging, which was told Host: {own}"


async def _local_file(stage: Stage) -> str:
    answer = await stage.client.get("http://cdn.shop.test/assets/hello.txt")
    _must_act(stage, "local-assets")
    _must(answer.body == (stage.rules / "files/hello.txt").read_bytes(), answer)
    return f"{answer.text.strip()!r} from files/hello.txt"


# --- HTTPS ------------------------------------------------------------------------------------------------------


async def _decrypted(stage: Stage) -> str:
    answer = await stage.client.get("https://shop.test/api/items/hat", stage.app.authority.path)
    _must_act(stage, "everything-is-free")
    _must(answer.json["price"] == 0 and answer.json["path"] == "/api/items/hat", answer)
    return "decrypted with the proxy's certificate; price 19 became 0"


async def _relayed(stage: Stage) -> str:
    decision = stage.decided_on_tls("api.pinned.test")
    _must(decision is not None and decision.rule == "pinned-app", decision)
    answer = await stage.client.get("https://api.pinned.test/", stage.origins.ca)
    _must(answer.json["host"] == "api.pinned.test", answer)
    return "relayed untouched; the certificate is the server's own"


async def _refused(stage: Stage) -> str:
    try:
        answer = await stage.client.get("https://eu.tracker.test/", stage.app.authority.path)
    except TunnelRefused as exc:
        _must_act(stage, "block-trackers")
        _must(exc.status == 403, exc)
        return "CONNECT refused with 403; nothing was decrypted"
    raise Unexpected(str(answer))


# --- DNS --------------------------------------------------------------------------------------------------------


async def _spoofed(stage: Stage) -> str:
    _must("lab-printer" in stage.acted_on_name("printer.lab.test", "A"), "the rule does not hold")
    rcode, records = await stage.client.ask("printer.lab.test", "A")
    _must((rcode, records) == ("NOERROR", ["192.0.2.10"]), (rcode, records))
    return records[0]


async def _spoofed_over_tcp(stage: Stage) -> str:
    _must("lab-printer" in stage.acted_on_name("printer.lab.test", "TXT"), "the rule does not hold")
    rcode, records = await stage.client.ask("printer.lab.test", "TXT", tcp=True)
    _must((rcode, records) == ("NOERROR", ['"second floor, by the window"']), (rcode, records))
    return f"{records[0]} over TCP"


async def _no_such_name(stage: Stage) -> str:
    _must("block-trackers" in stage.acted_on_name("tracker.test", "A"), "the rule does not hold")
    rcode, records = await stage.client.ask("tracker.test", "A")
    _must((rcode, records) == ("NXDOMAIN", []), (rcode, records))
    return rcode


# --- edits ------------------------------------------------------------------------------------------------------


async def _edited(stage: Stage) -> str:
    reload = stage.app.reloader.state
    before = reload.live
    seconds = await stage.edit("respond.yaml", "name: Ada}", "name: Grace}", lambda: reload.live != before)
    return f"live after {seconds * 1000:.0f} ms"


async def _mocked_anew(stage: Stage) -> str:
    answer = await stage.client.get("http://api.shop.test/users/7")
    _must_act(stage, "mock-user")
    _must(answer.json == {"id": 7, "name": "Grace"}, answer)
    return answer.text.strip()


async def _broken(stage: Stage) -> str:
    reload = stage.app.reloader.state
    before = reload.live
    await stage.edit("respond.yaml", "respond:", "respnd:", lambda: bool(reload.last_error))
    first = reload.last_error.partition("\n")[0]
    _must(reload.live == before and "respnd" in first, reload.last_error)
    return f"not taken: {first.removeprefix(f'{stage.rules.parent}/')}"


async def _still_mocked(stage: Stage) -> str:
    return f"{await _mocked_anew(stage)}: the last good rules stay"


async def _mended(stage: Stage) -> str:
    reload = stage.app.reloader.state
    await stage.edit("respond.yaml", "respnd:", "respond:", lambda: not reload.last_error)
    return "as before"


SCENES = (
    Scene("GET http://shop.test/", "mark-requests", _rewritten),
    Scene("GET http://eu.tracker.test/pixel.gif", "block-trackers", _blocked),
    Scene("GET http://api.shop.test/users/7", "mock-user", _mocked),
    Scene("GET http://old.shop.test/docs/returns", "docs-have-moved", _redirected),
    Scene("GET http://shop.test/new/hats", "shop-from-staging", _other_server),
    Scene("GET http://api.shop.test/v3/items", "api-from-staging", _other_server_and_host),
    Scene("GET http://cdn.shop.test/assets/hello.txt", "local-assets", _local_file),
    Scene("GET https://shop.test/api/items/hat", "everything-is-free", _decrypted),
    Scene("GET https://api.pinned.test/", "pinned-app", _relayed),
    Scene("GET https://eu.tracker.test/", "block-trackers", _refused),
    Scene("DNS printer.lab.test A", "lab-printer", _spoofed),
    Scene("DNS printer.lab.test TXT", "lab-printer", _spoofed_over_tcp),
    Scene("DNS tracker.test A", "block-trackers", _no_such_name),
    Scene("save respond.yaml with Grace for Ada", "", _edited),
    Scene("GET http://api.shop.test/users/7", "mock-user", _mocked_anew),
    Scene("save respond.yaml with a typo", "", _broken),
    Scene("GET http://api.shop.test/users/7", "mock-user", _still_mocked),
    Scene("save respond.yaml without the typo", "", _mended),
)
