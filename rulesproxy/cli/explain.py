"""Show how the rules treat one request, phase by phase: what acted, what almost did, what lost, and why.

REQUEST is a method and a URL, as "GET https://shop.test/cart". With --dns NAME TYPE a DNS query is explained instead,
with --message TEXT a message: of the WebSocket that REQUEST opens, or on tcp://host:port, tls://… or udp://….
Nothing touches the network. Exit status 0, 2 when the rules do not compile, 3 on an internal error.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
from collections.abc import Iterator
from typing import Any

from rulesproxy.cli._rules import BROKEN, ServedFiles, add_options, compiled, print_json
from rulesproxy.compiler.byte_text import read_bytes
from rulesproxy.compiler.diagnostics import printable
from rulesproxy.compiler.explain import Explanation, PhaseStory, RuleVerdict, Verdict, explain
from rulesproxy.compiler.outcome import Outcome
from rulesproxy.compiler.simulate import World, simulate
from rulesproxy.compiler.source import Position
from rulesproxy.compiler.testcase import Expect, Fields, TestQuery, TestRequest, TestStep, Upstream
from rulesproxy.compiler.testmessage import TestMessage, http_url, make_message
from rulesproxy.errors import StartupError
from rulesproxy.model.dns_types import types
from rulesproxy.model.policy import TlsVerdict
from rulesproxy.runtime.phase import spoken

SUMMARY = "show how one request is treated, and why"

INTERNAL_ERROR = 3
_NOWHERE = Position("", 1, 1)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("request", nargs="?", metavar="REQUEST", help='"GET https://shop.test/cart"; GET may be left out')
    add("rules", nargs="*", metavar="RULES", help="rule files, or folders of them")
    add("-H", "--header", action="append", default=[], metavar="NAME: VALUE", help="a request field; repeatable")
    add("-d", "--data", metavar="TEXT", help="the request body")
    add("--dns", nargs=2, metavar=("NAME", "TYPE"), help="explain this DNS query instead of a request")
    add("--message", metavar="TEXT", help="explain this message on REQUEST, which may be tcp://host:port too")
    add("--bytes", metavar="HEX", help="the same in hexadecimal digits, on a WebSocket a binary message")
    add("--to-client", action="store_true", help="the message comes from the server")
    add("--client", metavar="IP", help="the client's address (default 127.0.0.1)")
    add("--status", type=int, default=200, metavar="N", help="what the origin answers (default 200)")
    add("--response-header", action="append", default=[], metavar="NAME: VALUE", help="a field of its answer")
    add("--response-body", metavar="TEXT", help="the body of its answer")
    add("--seed", type=int, default=0, metavar="N", help="fixes uuid and random (default 0)")
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    if args.dns is not None and args.request is not None:
        args.rules, args.request = [args.request, *args.rules], None  # with --dns all that is left are files
    step = _step(args)
    program = compiled(args)
    if program is None or program.rules is None:
        return BROKEN
    logging.getLogger("rulesproxy.rules").addHandler(logging.NullHandler())
    [outcome] = simulate(World(program.rules, ServedFiles(), seed=args.seed), (step,))
    story = explain(program.build.rules, outcome)
    if args.json:
        print_json("explain", _json(step, outcome, story))
    else:
        sys.stdout.write("".join(f"{printable(line).rstrip()}\n" for line in _lines(step, outcome, story)))
    for disagreement in story.disagreements:
        sys.stderr.write(f"internal error: compiled rules and interpreter disagree: {printable(disagreement)}\n")
    return INTERNAL_ERROR if story.disagreements else 0


# --- what was asked --------------------------------------------------------------------------------------------------


def _step(args: argparse.Namespace) -> TestStep:
    upstream = Upstream(args.status, _fields(args.response_header), args.response_body)
    step = TestStep(_NOWHERE, Expect(_NOWHERE), upstream, client=args.client)
    if args.dns is not None:
        try:
            types.from_str(args.dns[1])
        except ValueError as exc:
            raise StartupError(printable(str(exc))) from None
        return dataclasses.replace(step, dns=TestQuery(args.dns[0], args.dns[1].upper()))
    if args.message is not None or args.bytes is not None:
        return dataclasses.replace(step, message=_message(args))
    if args.request is None:
        raise StartupError('explain needs a request, as "GET https://shop.test/cart", or --dns NAME TYPE')
    method, _, url = args.request.strip().rpartition(" ")
    if "://" not in url:
        raise StartupError(f'"{printable(args.request)}" is no request: write a method and an absolute URL, '
                           'in quotes: "GET https://shop.test/cart"')
    if url.lower().startswith(("tcp://", "tls://", "udp://")):
        raise StartupError(f"{printable(url)} carries messages: add --message TEXT or --bytes HEX")
    request = TestRequest(method.strip().upper() or "GET", http_url(url), _fields(args.header), args.data)
    return dataclasses.replace(step, request=request)


def _message(args: argparse.Namespace) -> TestMessage:
    if args.request is None:
        raise StartupError('a message needs the request it comes on, as "wss://shop.test/live" or tcp://db.test:5432')
    try:
        content = args.message.encode("utf-8", "replace") if args.bytes is None else read_bytes(args.bytes)
        return make_message(args.request, content, is_text=args.bytes is None, headers=_fields(args.header),
                            direction="to_client" if args.to_client else "to_server")
    except ValueError as exc:
        raise StartupError(printable(str(exc))) from None


def _fields(lines: list[str]) -> Fields:
    found = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise StartupError(f'"{printable(line)}" is no field: write "name: value"')
        found.append((name.strip(), value.strip()))
    return tuple(found)


# --- text ------------------------------------------------------------------------------------------------------------

_MARKS = {Verdict.ACTED: "+", Verdict.OVERRULED: "~", Verdict.WAITED: "~", Verdict.FAILED: "!",
          Verdict.NOT_ASKED: "-", Verdict.MISSED: "-"}


def _lines(step: TestStep, outcome: Outcome, story: Explanation) -> Iterator[str]:
    if step.request is not None:
        yield f"{step.request.method} {step.request.url}"
    elif step.dns is not None:
        yield f"DNS {step.dns.name} {step.dns.type}"
    elif step.message is not None:
        yield f"message {step.message.direction.replace('_', ' ')} on {step.message.url}"
    for phase in story.phases:
        yield ""
        yield from _phase(phase)
    yield ""
    yield from _result(step, outcome)


def _phase(story: PhaseStory) -> Iterator[str]:
    yield spoken((story.phase,))[0]
    width = max((len(verdict.rule) for verdict in story.shown), default=0)
    for verdict in story.shown:
        why = f": {verdict.why}" if verdict.why else ""
        yield f"  {_MARKS[verdict.verdict]} {verdict.rule:<{width}}  {verdict.verdict.value}{why}  ({verdict.pos})"
    hidden = len(story.verdicts) - len(story.shown)
    if hidden:
        yield f"  {hidden:,} more rules do not match"
    elif not story.verdicts:
        yield "  no rule acts in this phase"
    for effect in story.effects:
        yield f"    => {effect}"


def _result(step: TestStep, outcome: Outcome) -> Iterator[str]:
    yield f"rules that took effect: {', '.join(outcome.rules) or 'none'}"
    if step.dns is not None:
        answer = f"{outcome.rcode} {', '.join(outcome.records)}" if outcome.answer is not None else "forwarded"
        yield f"answer: {answer}"
        return
    if outcome.said is not None:
        yield from _said(outcome)
        return
    if outcome.sent is not None:
        through = f" through {outcome.via}" if outcome.via not in (None, "direct") else ""
        at = f" at {', '.join(outcome.addresses)}" if outcome.addresses else ""
        yield f"sent: {outcome.sent.method} {outcome.sent.url} to {outcome.server}{at}{through}"
    else:
        yield "sent: nothing"
    if outcome.drop is not None:
        yield f"answer: none, the connection is dropped ({outcome.drop.value})"
    elif outcome.response is not None:
        response = outcome.response
        kind = response.headers.get("content-type", "no content type")
        yield f"answer: {response.status_code} {response.reason}, {len(response.raw_content or b'')} bytes, {kind}"
    if outcome.pacing is not None:
        yield f"delayed: {outcome.pacing.request:.3f} s before the request, {outcome.pacing.response:.3f} s after"
    if outcome.tags:
        yield f"tags: {', '.join(outcome.tags)}"
    for rule, exc in outcome.failures:
        yield f"failed: rule {rule.name} ({rule.where}): {type(exc).__name__}: {exc}"


def _said(outcome: Outcome) -> Iterator[str]:
    """What a message leads to."""
    if outcome.tls is TlsVerdict.RELAY:
        yield "the tunnel is relayed untouched: no rule sees its messages"
    if outcome.forwarded is None:
        yield "the message does not go on"
    for said in outcome.said or ():
        own = " (sent by a rule)" if said.own else ""
        yield f"{said.direction.replace('_', ' ')}{own}: {_shown(said.content)}"
    if outcome.ended:
        yield f"the conversation is {outcome.ended}"
    if outcome.tags:
        yield f"tags: {', '.join(outcome.tags)}"
    for rule, exc in outcome.failures:
        yield f"failed: rule {rule.name} ({rule.where}): {type(exc).__name__}: {exc}"


def _shown(content: bytes) -> str:
    """Text as it is, other bytes in hexadecimal; not more than a line of either."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content[:60].hex(" ")
    return text if len(text) <= 200 else text[:199] + "…"


# --- JSON ------------------------------------------------------------------------------------------------------------


def _json(step: TestStep, outcome: Outcome, story: Explanation) -> dict[str, Any]:
    response, sent = outcome.response, outcome.sent
    return {
        "request": None if step.request is None else {"method": step.request.method, "url": step.request.url},
        "dns": None if step.dns is None else {"name": step.dns.name, "type": step.dns.type},
        "message": None if step.message is None else {"on": step.message.url, "direction": step.message.direction},
        "phases": [{"phase": spoken((phase.phase,))[0], "rules": [_verdict_json(v) for v in phase.verdicts],
                    "effects": list(phase.effects)} for phase in story.phases],
        "result": {
            "rules": outcome.rules,
            "tls": outcome.tls.value if outcome.tls is not None else None,
            "server": outcome.server,
            "via": outcome.via,
            "sent": None if sent is None else {"method": sent.method, "url": sent.url, "sni": sent.sni},
            "status": response.status_code if response is not None else None,
            "dropped": outcome.drop.value if outcome.drop is not None else None,
            "answer": None if outcome.answer is None else {"rcode": outcome.rcode, "records": outcome.records},
            "messages": None if outcome.said is None else [
                {"direction": said.direction, "content": said.content.decode("utf-8", "replace"), "own": said.own}
                for said in outcome.said],
            "ended": outcome.ended or None,
            "tags": outcome.tags,
        },
        "internal_errors": list(story.disagreements),
    }  # fmt: skip


def _verdict_json(verdict: RuleVerdict) -> dict[str, Any]:
    return {"rule": verdict.rule, "file": verdict.pos.file, "line": verdict.pos.line, "column": verdict.pos.column,
            "verdict": verdict.verdict.value, "why": verdict.why, "near": verdict.near}
