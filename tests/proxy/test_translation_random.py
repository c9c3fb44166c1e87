"""Random messages between both versions of HTTP: what arrives is what was sent, whatever was sent before it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.policy import TlsDecision, TlsVerdict
from tests.support.certificates import OriginCA
from tests.support.proxy import RunningProxy
from tests.support.translation import SECONDS, WAYS, Sent, is_bodyless, on_the_way

MakeProxy = Callable[..., Awaitable[RunningProxy]]

TOKEN = st.text("abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~", min_size=1, max_size=12)
#: Names of no meaning: those with one have tables of their own.
NAME = TOKEN.map(lambda token: f"x-{token}")
VALUE = st.text([chr(code) for code in range(32, 127)] + ["\t"], max_size=40).map(str.strip)
FIELDS = st.lists(st.tuples(NAME, VALUE), max_size=6).map(tuple)
#: A backslash is refused: some would read it as a slash.
PATH = st.text([chr(code) for code in range(33, 127) if chr(code) not in "#\\"], max_size=30).map("/".__add__)
METHOD = st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"]) | TOKEN.filter(
    lambda token: token.upper() != "CONNECT")
BODY = st.none() | st.binary(max_size=300) | st.integers(1, 100_000).map(lambda size: bytes(size))


@st.composite
def messages(draw: st.DrawFn, *, answer: bool) -> Sent:
    body = draw(BODY)
    sized = draw(st.booleans())
    trailers = draw(FIELDS) if body is not None and not sized else ()
    return Sent(method="GET" if answer else draw(METHOD), path="/" if answer else draw(PATH), fields=draw(FIELDS),
                body=b"" if answer and body is None else body, sized=sized, pieces=draw(st.integers(1, 4)),
                trailers=_distinct(trailers), status=draw(st.sampled_from([200, 201, 204, 206, 304, 404, 500, 599])),
                interim=draw(st.sampled_from([(), (), (103,), (102, 103)])))


def _distinct(trailers: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    return tuple(dict(trailers).items())


EXCHANGES = st.lists(st.tuples(messages(answer=False), messages(answer=True)), min_size=1, max_size=4)


class Intercept:
    """Decrypts everything, and collects what is sent to a path with a `7` in it."""

    def tls_decision(self, tunnel: Any) -> TlsDecision:
        return TlsDecision(TlsVerdict.INTERCEPT)

    def needs_body(self, flow: HTTPFlow, phase: str) -> bool:
        return "7" in flow.request.path

    def server_connect(self, data: Any) -> None:
        """While somebody handles this, connections end with their client."""


@pytest.mark.parametrize("way", WAYS)
async def test_what_is_sent_arrives(make_proxy: MakeProxy, origin_ca: OriginCA, way: str) -> None:
    proxy = await make_proxy(Intercept(), record=False)

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(exchanges=EXCHANGES)
    async def arrives(exchanges: list[tuple[Sent, Sent]]) -> None:
        async with on_the_way(way, proxy, origin_ca) as stage:
            for request, answer in exchanges:
                received, answered = await stage.exchange(request, answer)
                assert received.start == (request.method, request.path)
                assert received.passed == list(request.fields)
                assert (received.whole, received.body) == (True, request.body or b"")
                assert received.trailers == list(request.trailers)
                received.check_framing()
                bodyless = is_bodyless(request.method, answer.status)
                assert answered.start == (str(answer.status),)
                assert answered.passed == list(answer.fields)
                assert answered.interim == list(answer.interim)
                assert (answered.whole, answered.body) == (True, b"" if bodyless else answer.body)
                assert answered.trailers == ([] if bodyless else list(answer.trailers))
                if not bodyless:
                    answered.check_framing()

    await _run(arrives)


async def _run(test: Any) -> None:
    """Hypothesis calls in a thread what the loop of this test does."""
    loop = asyncio.get_running_loop()
    inner = test.hypothesis.inner_test

    def call(**arguments: Any) -> None:
        asyncio.run_coroutine_threadsafe(inner(**arguments), loop).result(3 * SECONDS)

    test.hypothesis.inner_test = call
    await asyncio.to_thread(test)
