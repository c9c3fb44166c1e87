"""`SessionCache`: TLS sessions with servers, kept to be resumed (RFC 8446 §2.2, RFC 5077).

A session is taken from a stream as late as possible, for TLS 1.3 hands tickets out after the handshake: when the
stream ends, or when somebody wants another connection to the same place.

Older Pythons lose six kilobytes each time a session is taken (CPython issue 116810). There it is done seldom, and
connections beyond that are set up in full.
"""

from __future__ import annotations

import ssl
import sys
import time
from collections import OrderedDict
from collections.abc import Hashable
from datetime import UTC, datetime
from weakref import ReferenceType, ref

from cryptography import x509

from rulesproxy.net.tls import TLSStream

#: Sessions may live for a week (RFC 8446 §4.6.1), but what was verified once should be verified again before.
LIFETIME_SECONDS = 3600.0

#: Asking for a session leaks a copy of it.
LEAKS = sys.version_info < (3, 12, 8) or (3, 13, 0) <= sys.version_info < (3, 13, 1)
#: How often that is done in spite of it: so many times, and once more for each of these periods.
LEAKS_ALLOWED = 100
LEAK_SECONDS = 60.0


class _Allowance:
    """How many sessions may be asked for now. It grows with time, up to `most`."""

    __slots__ = ("_left", "_most", "_since")

    def __init__(self, most: float) -> None:
        self._left = self._most = most
        self._since = time.monotonic()

    def spend(self) -> bool:
        now = time.monotonic()
        self._left = min(self._most, self._left + (now - self._since) / LEAK_SECONDS)
        self._since = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class _Entry:
    """What is known of the last connection to one place."""

    __slots__ = ("allowance", "certificates", "live", "session", "single_use", "used", "verified_at")

    def __init__(self, stream: TLSStream, certificates: list[x509.Certificate], allowance: _Allowance) -> None:
        self.allowance = allowance
        self.live: ReferenceType[TLSStream] | None = ref(stream)
        self.certificates = certificates
        # RFC 8446 §C.4: with 1.3 a ticket is for one connection; older sessions are for many.
        self.single_use = stream.version == "TLSv1.3"
        self.session: ssl.SSLSession | None = None
        self.used = b""
        #: When the certificates were looked at, which a resumed handshake does not do again.
        self.verified_at = time.monotonic()

    def store(self, stream: TLSStream) -> None:
        """Ask the stream for its session, unless there is one that can still be used."""
        if LEAKS and (self._fresh or not self.allowance.spend()):
            return
        session = stream.session
        if session is not None:
            self.session = session

    @property
    def _fresh(self) -> bool:
        return self.session is not None and not (self.single_use and self.session.id == self.used)

    def take(self) -> ssl.SSLSession | None:
        stream = self.live() if self.live is not None else None
        if stream is not None:
            self.store(stream)
        if not self._fresh or self.session is None:
            return None
        if self.single_use:
            self.used = self.session.id
        return self.session

    @property
    def valid(self) -> bool:
        """False once a certificate that was verified then would not be now, and in any case after a while."""
        if time.monotonic() - self.verified_at > LIFETIME_SECONDS:
            return False
        now = datetime.now(UTC)
        return all(certificate.not_valid_after_utc > now for certificate in self.certificates)


class SessionCache:
    """The last session for each of at most `limit` places. A place names everything a session depends on: the SSL
    context, the server's name and address."""

    def __init__(self, limit: int = 1024) -> None:
        self._limit = limit
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._allowance = _Allowance(LEAKS_ALLOWED)

    def __len__(self) -> int:
        return len(self._entries)

    def take(self, place: Hashable) -> tuple[ssl.SSLSession | None, list[x509.Certificate]]:
        """A session to resume, if there is one, and the certificates its server had shown."""
        entry = self._entries.get(place)
        if entry is None:
            return None, []
        if not entry.valid:
            del self._entries[place]
            return None, []
        return entry.take(), entry.certificates

    def watch(self, place: Hashable, stream: TLSStream, certificates: list[x509.Certificate]) -> None:
        """Remember the session of a stream that was just set up, now or when it ends."""
        before = self._entries.pop(place, None)
        entry = self._entries[place] = _Entry(stream, certificates, self._allowance)
        if before is not None and (entry.single_use or stream.session_reused):  # else the server takes it no more
            entry.session, entry.used = before.session, before.used
            if stream.session_reused:
                entry.verified_at = before.verified_at
        if len(self._entries) > self._limit:
            self._entries.popitem(last=False)

        def ended(stream: TLSStream) -> None:
            current = self._entries.get(place)
            if current is not None:
                current.store(stream)

        stream.on_end = ended

    def forget(self, place: Hashable) -> None:
        """A handshake with that place failed: start anew."""
        self._entries.pop(place, None)
