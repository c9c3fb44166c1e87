"""One DNS query from hook to answer, whatever transport it came over.

Theory of operation. In comes a flow with a query that was read without complaint; out comes the answer on the wire,
or None when nothing may be sent. `dns_request` may set the answer; otherwise the query is forwarded as it came, and
the answer goes back as it came unless a handler changed it. Every flow ends in exactly one of an answer (after
`dns_response`) and `dns_error`. Nothing here knows of sockets or of rules.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from rulesproxy.addons.hooks import Hook
from rulesproxy.addons.manager import AddonManager
from rulesproxy.addons.policy import PolicyChain
from rulesproxy.codecs.dns import fit, strip_http3_hints
from rulesproxy.model.dns import DNSError, DNSFlow, DNSMessage, ResourceRecord
from rulesproxy.model.dns_types import classes, op_codes, response_codes, types
from rulesproxy.model.flow import Error
from rulesproxy.model.policy import TlsVerdict
from rulesproxy.model.tls import ClientHello, Tunnel
from rulesproxy.net.dns_forward import Forwarder, ForwardError

log = logging.getLogger("rulesproxy")


@dataclass(slots=True)
class DnsRequestHook(Hook):
    """A query arrived. Setting `flow.response` answers it, `flow.kill()` ends it without an answer."""

    flow: DNSFlow


@dataclass(slots=True)
class DnsResponseHook(Hook):
    """The answer is here, received or set, and about to go to the client."""

    flow: DNSFlow


@dataclass(slots=True)
class DnsErrorHook(Hook):
    """There is no answer: `flow.error` says why. The client gets SERVFAIL, and after a kill nothing."""

    flow: DNSFlow


class _Killed(Exception):
    """A handler called `flow.kill()`."""


async def exchange(addons: AddonManager, forwarder: Forwarder, flow: DNSFlow, wire: bytes) -> bytes | None:
    """The answer to `flow.request`, which came as `wire`, as large as its transport takes. None: send nothing."""
    query = flow.request
    try:
        if addons.active(DnsRequestHook):
            query = query.copy()  # handlers may write on theirs
            await addons.fire(DnsRequestHook(flow))
            _stop_if_killed(flow)
        if flow.pacing is not None:
            await asyncio.sleep(flow.pacing.request)
        received = await _find_answer(forwarder, flow, query, wire)
        return await _finish(addons, flow, query, received)
    except _Killed:
        await addons.fire(DnsErrorHook(flow))
        return None
    except (ForwardError, DNSError) as exc:
        return await _fail(addons, flow, query, str(exc))
    except asyncio.CancelledError:
        flow.error = Error("the query was given up")
        await addons.fire(DnsErrorHook(flow))
        raise
    except Exception as exc:
        log.exception("dns: %s: unexpected error", query)
        return await _fail(addons, flow, query, f"{type(exc).__name__}: {exc}")
    finally:
        flow.live = False


def _stop_if_killed(flow: DNSFlow) -> None:
    if flow.error is not None and flow.error.msg == Error.KILLED_MESSAGE:
        raise _Killed


async def _fail(addons: AddonManager, flow: DNSFlow, query: DNSMessage, reason: str) -> bytes | None:
    log.info("dns: %s for %s: %s", query, flow.client_conn.ip, reason)
    flow.error = Error(reason)
    await addons.fire(DnsErrorHook(flow))
    try:
        _stop_if_killed(flow)
    except _Killed:
        return None
    return query.fail(response_codes.SERVFAIL).packed


async def _finish(addons: AddonManager, flow: DNSFlow, query: DNSMessage, received: bytes | None) -> bytes:
    """Fire `dns_response`; `received` is the answer on the wire if it came that way."""
    if hide_shortcuts(addons.policy, flow):
        received = None
    response = flow.response
    if addons.active(DnsResponseHook):
        before = response.copy() if response is not None and received is not None else None
        await addons.fire(DnsResponseHook(flow))
        _stop_if_killed(flow)
        response = flow.response
        if response != before:
            received = None
    if response is None:
        raise DNSError("a handler took the answer away")
    if flow.client_conn.transport_protocol == "tcp":
        return received or response.packed
    # RFC 5625 §4.4.2: what a resolver thought right for the client goes on, whatever its size.
    return fit(response, received, query.udp_size) if received else fit(response, response.packed, query.udp_limit)


def hide_shortcuts(policy: PolicyChain, flow: DNSFlow) -> bool:
    """Names whose TLS will be opened must not be reached past the proxy, by HTTP/3 or with an encrypted ClientHello
    (rule-language 5.1). True if the answer was changed."""
    question = flow.request.question
    if flow.response is None or question is None or question.type not in (types.HTTPS, types.SVCB):
        return False
    hello = ClientHello(question.name, (), (), (), (), b"")
    tunnel = Tunnel(flow.client_conn, question.name, 443, hello, hypothetical=True)
    if policy.tls_decision(tunnel).verdict is not TlsVerdict.INTERCEPT:
        return False
    before, flow.response = flow.response, strip_http3_hints(flow.response)
    return flow.response is not before


# --- finding the answer ------------------------------------------------------------------------------------------


async def _find_answer(forwarder: Forwarder, flow: DNSFlow, query: DNSMessage, wire: bytes) -> bytes | None:
    """Set `flow.response`. Answers its wire form if that is what was received."""
    if flow.follow is not None:
        await _follow(forwarder, flow, flow.follow)
    if flow.response is not None:
        return None
    question = flow.request.question
    if question is not None and question.type in (types.AXFR, types.IXFR) and query.op_code == op_codes.QUERY:
        # RFC 5936 §2.2: a transfer is a stream of messages, which a forwarder of single answers would cut.
        flow.response = flow.request.fail(response_codes.REFUSED)
        return None
    unchanged = flow.request == query
    tcp = flow.client_conn.transport_protocol == "tcp"
    answer = await forwarder.exchange(flow.request, wire if unchanged else None, tcp=tcp)
    _stop_if_killed(flow)
    flow.server_conn.address = answer.server
    if answer.message.truncation and tcp:
        raise ForwardError("the resolver's answer is cut, and it does not give the whole over TCP")
    flow.response = answer.message
    if unchanged:
        return answer.wire
    # A handler asked something else in the client's name: the client still gets its own question back.
    flow.response.id, flow.response.questions = query.id, list(query.questions)
    return None


async def _follow(forwarder: Forwarder, flow: DNSFlow, target: str) -> None:
    """Append the addresses of `target` to the answer (see `DNSFlow.follow`)."""
    question = flow.request.question
    if question is None:
        raise DNSError("the query has no question any more")
    if flow.response is None:
        flow.response = flow.request.succeed([ResourceRecord.CNAME(question.name, target)])
    response = flow.response
    if question.type not in (types.A, types.AAAA) or question.class_ != classes.IN:
        return
    found = await forwarder.exchange(DNSMessage.make_query(target, question.type, udp_size=1232))
    _stop_if_killed(flow)
    flow.server_conn.address = found.server
    code = found.message.response_code
    if code not in (response_codes.NOERROR, response_codes.NXDOMAIN):
        raise ForwardError(f"the resolver answers {response_codes.to_str(code)} for {target}")
    response.response_code = code  # RFC 2308 §2.1: NXDOMAIN speaks of the name at the end of the chain
    response.answers.extend(found.message.chain(target, question.type))
