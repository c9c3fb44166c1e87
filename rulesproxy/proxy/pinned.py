"""Clients that refuse the certificates made here: likely they accept their own only, and are better passed through.

In: how handshakes with clients ended. Out: after a few refusals in a row one log line with the rule that would leave
that name alone, and a list for the status page. Nothing is decided here: a client that lacks our authority looks the
same, and which of both it is only its owner knows.
"""

from __future__ import annotations

import logging
from collections import OrderedDict

from rulesproxy.model.names import is_ip
from rulesproxy.net.stream import ConnectionClosed
from rulesproxy.net.tls import TLSError

log = logging.getLogger("rulesproxy")

#: Refusals in a row, of one client for one name, before a word is said.
ENOUGH = 3
LIMIT = 1024

# RFC 8446 §6.2: what clients send when they do not like a certificate, whatever they mean by it.
_ALERTS = frozenset(("unknown ca", "bad certificate", "certificate unknown", "certificate revoked",
                     "unsupported certificate", "bad certificate status response", "decrypt error"))


def refuses_certificate(exc: BaseException) -> bool:
    """True if a handshake that failed like this may have failed for our certificate: the client said so, or left
    without a word when it had seen it."""
    if isinstance(exc, TLSError):
        return exc.alert in _ALERTS
    return isinstance(exc, ConnectionClosed)


def pass_through_rule(name: str) -> str:
    """A rule to paste: it stands before all others, wherever it is put."""
    match = f'host: "{name}"' if is_ip(name) else f"domain: {name}"
    return f"- {{name: leave-{name.replace(':', '-')}-alone, priority: 1000, match: {{{match}}}, " \
           "action: {tls: passthrough}}"


class PinnedClients:
    """Bounded tables of refusals, by client address and name, and of the names a rule was suggested for."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._refusals: OrderedDict[tuple[str, str], int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._refusals)

    def refused(self, client: str, name: str) -> None:
        """The client did not go on after it had seen a certificate for `name`."""
        key = (client, name)
        count = self._refusals.pop(key, 0) + 1
        self._refusals[key] = count
        if len(self._refusals) > self._limit:
            self._refusals.popitem(last=False)
        if count == ENOUGH:
            log.warning("%s refused the certificate for %s %d times: it does not trust this proxy's CA, or accepts one "
                        "certificate only. To leave its TLS alone: %s", client, name, count, pass_through_rule(name))

    def accepted(self, client: str, name: str) -> None:
        """The client spoke inside TLS: it is not pinned."""
        self._refusals.pop((client, name), None)

    @property
    def suggestions(self) -> list[dict[str, str | int]]:
        """Names that clients keep refusing, with the rule for each; for the status page."""
        names: dict[str, int] = {}
        for (_, name), count in self._refusals.items():
            if count >= ENOUGH:
                names[name] = names.get(name, 0) + count
        return [{"name": name, "refusals": count, "rule": pass_through_rule(name)} for name, count in names.items()]
