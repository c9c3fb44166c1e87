"""Messages between HTTP/1 and HTTP/2 in every direction: bodies, trailers, fields and their order, and framing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.policy import TlsDecision, TlsVerdict
from tests.support.certificates import OriginCA
from tests.support.proxy import RunningProxy
from tests.support.translation import WAYS, Received, Sent, is_bodyless, on_the_way, same_cookies

MakeProxy = Callable[..., Awaitable[RunningProxy]]
BODY = b"0123456789" * 7
LARGE = bytes(range(256)) * 1600  # larger than every window and buffer on the way
TRAILERS = (("x-check", "9"), ("x-sum", "a b"))
HELLO = Sent(body=b"hello")


class Intercept:
    """Decrypts everything; `whole`: wants all bodies before they go on."""

    def __init__(self, whole: bool = False) -> None:
        self._whole = whole

    def tls_decision(self, tunnel: Any) -> TlsDecision:
        return TlsDecision(TlsVerdict.INTERCEPT)

    def needs_body(self, flow: HTTPFlow, phase: str) -> bool:
        return self._whole



@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    """What the client speaks, and what the origin does."""
    return str(request.param)


#: For what only HTTP/1 has: with clients, and with origins.
from_http1 = pytest.mark.parametrize("way", [way for way in WAYS if way.startswith("h1")])
to_http1 = pytest.mark.parametrize("way", [way for way in WAYS if way.endswith("h1")])
passing = pytest.mark.parametrize("whole", [False, True], ids=["streamed", "collected"])

REQUESTS = {
    "GET": Sent("GET", "/a?b=c%20d&e"),
    "GET with a body": Sent("GET", body=BODY),
    "HEAD": Sent("HEAD"),
    "DELETE": Sent("DELETE"),
    "OPTIONS": Sent("OPTIONS"),
    "a method of its own": Sent("X-Own.Method", body=BODY, sized=False),
    "POST without a body": Sent("POST"),
    "POST, sized": Sent("POST", body=BODY),
    "POST, no length": Sent("POST", body=BODY, sized=False),
    "POST, empty": Sent("POST", body=b""),
    "POST, empty, no length": Sent("POST", body=b"", sized=False),
    "PUT, large": Sent("PUT", body=LARGE),
    "PUT, large, no length": Sent("PUT", body=LARGE, sized=False),
    "PATCH, slow": Sent("PATCH", body=BODY, pieces=5),
    "PATCH, slow, no length": Sent("PATCH", body=BODY, pieces=5, sized=False),
    "trailers": Sent("POST", body=BODY, sized=False, trailers=TRAILERS),
    "trailers, slow": Sent("POST", body=BODY, sized=False, pieces=4, trailers=TRAILERS),
    "trailers, large": Sent("POST", body=LARGE, sized=False, trailers=TRAILERS),
    "trailers after nothing": Sent("POST", body=b"", sized=False, trailers=TRAILERS),
}

ANSWERS = {
    "sized": Sent(body=BODY),
    "no length": Sent(body=BODY, sized=False),
    "empty": Sent(body=b""),
    "empty, no length": Sent(body=b"", sized=False),
    "large": Sent(body=LARGE),
    "large, no length": Sent(body=LARGE, sized=False),
    "slow": Sent(body=BODY, pieces=5),
    "slow, no length": Sent(body=BODY, sized=False, pieces=5),
    "trailers": Sent(body=BODY, sized=False, trailers=TRAILERS),
    "trailers, slow": Sent(body=BODY, sized=False, pieces=4, trailers=TRAILERS),
    "trailers after nothing": Sent(body=b"", sized=False, trailers=TRAILERS),
    "204": Sent(status=204),
    "304": Sent(status=304, fields=(("etag", '"x"'),)),
    "404": Sent(status=404, body=BODY),
    "503": Sent(status=503, body=BODY, sized=False, fields=(("retry-after", "3"),)),
    "103 before": Sent(body=BODY, interim=(103,)),
    "several before": Sent(body=BODY, sized=False, interim=(103, 102, 103)),
}


def check(received: Received, sent: Sent, *, whole: bool = True, bodyless: bool = False) -> None:
    assert received.whole is whole
    assert received.body == (sent.body or b"")
    assert received.trailers == list(sent.trailers)
    received.check_framing(bodyless=bodyless)


@passing
@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS.keys())
async def test_requests(make_proxy: MakeProxy, origin_ca: OriginCA, way: str, whole: bool, request_: Sent) -> None:
    proxy = await make_proxy(Intercept(whole))
    async with on_the_way(way, proxy, origin_ca) as stage:
        for _ in range(2):  # the connections are good for another exchange
            received, answered = await stage.exchange(request_, HELLO)
            assert received.start == (request_.method, request_.path)
            assert received.authority == f"localhost:{stage.port}"
            check(received, request_)
            assert answered.start == ("200",)
        assert stage.connections() == 1
    if request_.body is None and request_.method != "POST":
        assert not received.values("content-length") and not received.values("transfer-encoding")
    elif request_.sized or whole:  # what is known is said
        length = [] if received.trailers else [str(len(request_.body or b""))]
        assert received.values("content-length") in ([], length)
        assert request_.body or received.values("content-length") == length or received.trailers


@passing
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
async def test_answers(make_proxy: MakeProxy, origin_ca: OriginCA, way: str, whole: bool, answer: Sent) -> None:
    proxy = await make_proxy(Intercept(whole))
    async with on_the_way(way, proxy, origin_ca) as stage:
        for _ in range(2):
            _, answered = await stage.exchange(Sent(fields=(("te", "trailers"),)), answer)
            assert answered.start == (str(answer.status),)
            assert answered.interim == list(answer.interim)
            check(answered, answer, bodyless=is_bodyless("GET", answer.status))
            assert set(answered.passed) >= set(answer.fields)
        assert stage.connections() == 1


@pytest.mark.parametrize("answer", [Sent(body=BODY), Sent(body=BODY, sized=False), Sent(status=304), Sent(status=204)],
                         ids=["sized", "no length", "304", "204"])
async def test_answers_to_head(make_proxy: MakeProxy, origin_ca: OriginCA, way: str, answer: Sent) -> None:
    """They have no body, and say how long it would be where the origin did."""
    proxy = await make_proxy(Intercept())
    async with on_the_way(way, proxy, origin_ca) as stage:
        for _ in range(2):
            _, answered = await stage.exchange(Sent("HEAD"), answer)
            assert (answered.start, answered.body, answered.whole) == ((str(answer.status),), b"", True)
            said = [str(len(BODY))] if answer.body and answer.sized else []
            assert answered.values("content-length") == said


@passing
@to_http1
async def test_an_answer_that_ends_with_its_connection(make_proxy: MakeProxy, origin_ca: OriginCA, way: str,
                                                       whole: bool) -> None:
    proxy = await make_proxy(Intercept(whole))
    async with on_the_way(way, proxy, origin_ca) as stage:
        for _ in range(2):
            _, answered = await stage.exchange(Sent(), Sent(body=LARGE, sized=False, until_close=True))
            check(answered, Sent(body=LARGE))


async def test_fields_pass_in_their_order(make_proxy: MakeProxy, origin_ca: OriginCA, way: str) -> None:
    fields = (("x-b", "1"), ("accept", "a, b"), ("x-a", "2"), ("x-b", "3"), ("x-empty", ""), ("x-b", "1"),
              ("x-high", "caf\xe9" if way == "h1→h1" else "x"), ("x-colon", "a: b"))
    answered = (("set-cookie", "a=1; Path=/"), ("x-b", "1"), ("set-cookie", "b=2"), ("x-a", "2"), ("x-b", "3"),
                ("set-cookie", "a=1"))
    proxy = await make_proxy(Intercept())
    async with on_the_way(way, proxy, origin_ca) as stage:
        received, answer = await stage.exchange(Sent("POST", body=BODY, fields=fields),
                                                Sent(body=BODY, fields=answered))
    assert received.passed == list(fields)
    assert answer.passed == list(answered)


async def test_names_keep_their_case_where_there_is_one(make_proxy: MakeProxy, origin_ca: OriginCA, way: str) -> None:
    proxy = await make_proxy(Intercept())
    async with on_the_way(way, proxy, origin_ca) as stage:
        received, _ = await stage.exchange(Sent(fields=(("X-CamelCase", "1"),)), HELLO)
    names = [name for name, _ in received.fields if name.lower() == "x-camelcase"]
    assert names == (["X-CamelCase"] if way == "h1→h1" else ["x-camelcase"])


@pytest.mark.parametrize("crumbs", [("a=1",), ("a=1", "b=2", "c=3"), ("a=1; b=2", "c=3")],
                         ids=["one", "three", "two lines"])
async def test_cookies_arrive_in_one_line_over_http1(make_proxy: MakeProxy, origin_ca: OriginCA, way: str,
                                                     crumbs: tuple[str, ...]) -> None:
    """RFC 9113 §8.2.3: they may come in crumbs over HTTP/2; RFC 6265 §5.4: one line over HTTP/1."""
    if way.startswith("h1"):
        crumbs = ("; ".join(crumbs),)
    proxy = await make_proxy(Intercept())
    fields = (("x-before", "1"), *(("cookie", crumb) for crumb in crumbs), ("x-after", "2"))
    async with on_the_way(way, proxy, origin_ca) as stage:
        received, _ = await stage.exchange(Sent(fields=fields), HELLO)
    assert same_cookies(received.fields) == "; ".join(crumbs).split("; ")
    if way.endswith("h1"):
        assert len(received.values("cookie")) == 1
    (flow,) = proxy.recorder.arguments("request")
    assert flow.request.headers["cookie"] == "; ".join(crumbs)


async def test_te_trailers_travels_on(make_proxy: MakeProxy, origin_ca: OriginCA, way: str) -> None:
    """RFC 9110 §10.1.4: over HTTP/1 with a Connection that names it. Nothing else of TE does."""
    proxy = await make_proxy(Intercept())
    fields = (("TE", "trailers"), ("Connection", "TE")) if way.startswith("h1") else (("te", "trailers"),)
    async with on_the_way(way, proxy, origin_ca) as stage:
        received, _ = await stage.exchange(Sent(fields=fields), HELLO)
    assert received.values("te") == ["trailers"]
    assert received.values("connection") == ([] if way.endswith("h2") else ["TE"])


@from_http1  # from others they are refused: see test_translation_refused.py
async def test_what_is_for_the_hop_stays_there(make_proxy: MakeProxy, origin_ca: OriginCA, way: str) -> None:
    fields = (("Connection", "x-named, keep-alive"), ("Keep-Alive", "5"), ("X-Named", "1"), ("TE", "gzip"),
              ("Proxy-Connection", "keep-alive"), ("X-Other", "2"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABk"))
    proxy = await make_proxy(Intercept())
    async with on_the_way(way, proxy, origin_ca) as stage:
        received, _ = await stage.exchange(Sent(fields=fields), HELLO)
    assert received.passed == [("x-other", "2")]


@to_http1  # from others they are refused: see test_translation_refused.py
async def test_answers_say_nothing_of_the_origins_hop(make_proxy: MakeProxy, origin_ca: OriginCA, way: str) -> None:
    fields = (("Connection", "x-named, keep-alive"), ("Keep-Alive", "timeout=5"), ("X-Named", "1"), ("X-Other", "2"))
    proxy = await make_proxy(Intercept())
    async with on_the_way(way, proxy, origin_ca) as stage:
        _, answered = await stage.exchange(Sent(), Sent(body=BODY, fields=fields))
    assert answered.passed == [("x-other", "2")]


@passing
async def test_an_expectation_is_met_by_whoever_reads(make_proxy: MakeProxy, origin_ca: OriginCA, way: str,
                                                      whole: bool) -> None:
    """The origin says 100 where the body streams to it; the proxy does where it collects it."""
    proxy = await make_proxy(Intercept(whole))
    async with on_the_way(way, proxy, origin_ca) as stage:
        received, answered = await stage.exchange(Sent("POST", body=BODY, fields=(("expect", "100-continue"),)), HELLO)
    assert received.body == BODY and answered.start == ("200",)


async def test_what_an_addon_changes_is_framed_anew(make_proxy: MakeProxy, origin_ca: OriginCA, way: str) -> None:
    class Change:
        def needs_body(self, flow: HTTPFlow, phase: str) -> bool:
            return True

        def request(self, flow: HTTPFlow) -> None:
            flow.request.text = "another"
            flow.request.headers["X-Added"] = "1"

        def response(self, flow: HTTPFlow) -> None:
            flow.response.text = "yet another"
            flow.response.headers["X-Added"] = "2"

    proxy = await make_proxy(Intercept(), Change())
    async with on_the_way(way, proxy, origin_ca) as stage:
        received, answered = await stage.exchange(Sent("POST", body=BODY, sized=False), Sent(body=BODY, sized=False))
    check(received, Sent(body=b"another"))
    check(answered, Sent(body=b"yet another"))
    assert received.passed == [("x-added", "1")] and answered.passed == [("x-added", "2")]
    assert received.values("content-length") == ["7"] and answered.values("content-length") == ["11"]


async def test_streams_through_a_callable(make_proxy: MakeProxy, origin_ca: OriginCA, way: str) -> None:
    """The length that was said does not hold any more, so none is."""
    class Upper:
        def requestheaders(self, flow: HTTPFlow) -> None:
            flow.request.stream = lambda data: data.replace(b"0", b"zero") if data else b"!"

        def responseheaders(self, flow: HTTPFlow) -> None:
            flow.response.stream = lambda data: [data, data] if data else [b"?"]

    proxy = await make_proxy(Intercept(), Upper())
    async with on_the_way(way, proxy, origin_ca) as stage:
        received, answered = await stage.exchange(Sent("POST", body=BODY), Sent(body=b"abc"))
    assert (received.body, answered.body) == (BODY.replace(b"0", b"zero") + b"!", b"abcabc?")
    received.check_framing()
    answered.check_framing()
    assert not received.values("content-length") and not answered.values("content-length")
