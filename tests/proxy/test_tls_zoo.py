"""Servers with certificates that are wrong: each is refused with a page that says why, and nothing is sent to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from rulesproxy.model.policy import TlsDecision, TlsVerdict
from rulesproxy.model.tls import Tunnel
from tests.support.origin import HELLO, run_origin
from tests.support.proxy import RunningProxy
from tests.support.zoo import ANIMALS, Animal, Issued, Plan, issue, make_root, server_context

MakeProxy = Callable[..., Awaitable[RunningProxy]]


class Intercept:
    def tls_decision(self, tunnel: Tunnel) -> TlsDecision:
        return TlsDecision(TlsVerdict.INTERCEPT)


@pytest.fixture
def root(tmp_path: Path) -> tuple[Issued, Path]:
    return make_root(tmp_path)


def test_the_zoo_is_large_enough() -> None:
    assert len({animal.name for animal in ANIMALS}) == len(ANIMALS) >= 12


async def test_a_good_certificate_is_accepted(make_proxy: MakeProxy, root: tuple[Issued, Path], tmp_path: Path) -> None:
    """What the others are told apart from: also below an intermediate that is sent along."""
    for issuer in (root[0], issue(root[0], Plan(ca=True), "intermediate")):
        context = server_context(issue(issuer, Plan()), tmp_path)
        proxy = await make_proxy(Intercept(), upstream_ca=str(root[1]))
        async with run_origin(HELLO, tls=context) as origin:
            answer = await proxy.curl("-s", f"https://localhost:{origin.port}/")
            assert answer.text == "hello"


@pytest.mark.parametrize("animal", ANIMALS, ids=lambda animal: animal.name)
async def test_a_bad_certificate_is_refused_with_the_reason(
        make_proxy: MakeProxy, root: tuple[Issued, Path], tmp_path: Path, animal: Animal) -> None:
    context = server_context(animal.make(root[0]), tmp_path)
    proxy = await make_proxy(Intercept(), upstream_ca=str(root[1]))
    async with run_origin(HELLO, tls=context) as origin:
        answer = await proxy.curl("-s", "-w", "\n%{http_code}", "-d", "secret", f"https://localhost:{origin.port}/")
        assert origin.received == b""  # not a byte of the request
    page, _, status = answer.text.rpartition("\n")
    assert status == "502"
    assert animal.says in page
    assert "certificate verify failed" in page
    assert "hello" not in page
    assert "action: {tls: {verify: false}}" in page  # how to allow it
    assert "tls_failed_server" in proxy.recorder.names and "tls_established_server" not in proxy.recorder.names


@pytest.mark.parametrize("animal", ANIMALS, ids=lambda animal: animal.name)
async def test_a_bad_certificate_is_accepted_when_nobody_verifies(
        make_proxy: MakeProxy, root: tuple[Issued, Path], tmp_path: Path, animal: Animal) -> None:
    context = server_context(animal.make(root[0]), tmp_path)
    proxy = await make_proxy(Intercept(), upstream_ca=str(root[1]), verify_upstream=False)
    async with run_origin(HELLO, tls=context) as origin:
        answer = await proxy.curl("-s", f"https://localhost:{origin.port}/")
        assert answer.text == "hello"
