"""`TLSStream`: TLS as a wrapper around any stream.

Theory of operation: an `ssl.SSLObject` between two memory BIOs does the cryptography. `read` feeds what the inner
stream delivers into one BIO and takes plain text out; `write` encrypts and hands what the other BIO holds to the inner
stream. Encrypting and handing over happen without a pause between them (every stream accepts all bytes of a `write`
before it first waits), so a reader and several writers need no lock and a cancelled call leaves the TLS state whole.
Nothing here knows about sockets: a tunnel inside a tunnel, or TLS in memory, is the same code.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Self

from cryptography import x509

from rulesproxy.net.buffer import ChunkBuffer
from rulesproxy.net.stream import ConnectionClosed, Stream

HANDSHAKE_SECONDS = 10.0
#: How long `aclose` waits for room to say goodbye.
GOODBYE_SECONDS = 1.0

_DER = 2  # how the ssl module calls the encoding where chains are not public yet
_RECORD = 16384  # plain text bytes in one record at most: RFC 8446 §5.1
_READ_SIZE = 65536
_WRITE_SLICE = 65536  # keeps the outgoing BIO, which never shrinks, small


class TLSError(OSError):
    """A handshake failed. The message says why.

    When the peer's certificate was the reason, `verify_message` and `verify_code` (X509_V_ERR_…) are OpenSSL's words
    for it. `alert` is what the peer refused with, in words (RFC 8446 §6): `unknown ca`.
    """

    def __init__(self, message: str, verify_message: str | None = None, verify_code: int = 0,
                 alert: str = "") -> None:
        super().__init__(message)
        self.verify_message = verify_message
        self.verify_code = verify_code
        self.alert = alert


class TLSStream:
    """A `Stream` of plain text over a `Stream` of TLS records. Made by `server` and `client`."""

    __slots__ = (
        "__weakref__", "_certificates", "_closed", "_eof", "_failure", "_incoming", "_object", "_outgoing", "_plain",
        "_wrote_eof", "inner", "on_end", "peer_spoke", "peername", "ragged_eof", "server_hostname", "sockname",
    )

    def __init__(self, inner: Stream, context: ssl.SSLContext, *, server_side: bool,
                 server_hostname: str | None = None, session: ssl.SSLSession | None = None) -> None:
        self.inner = inner
        self.peername = inner.peername
        self.sockname = inner.sockname
        self.server_hostname = server_hostname
        #: True when the peer ended the connection without close_notify: a body without framing may be cut.
        self.ragged_eof = False
        #: True once the peer sent anything but the handshake.
        self.peer_spoke = False
        #: Called once, when the stream ends here and its session can still be asked for.
        self.on_end: Callable[[TLSStream], None] | None = None
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        try:
            self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side,
                                            server_hostname=server_hostname, session=session)
        except (ValueError, TypeError) as exc:  # an empty label, a NUL
            raise TLSError(f"{server_hostname!r} cannot be used as a server name: {exc}") from exc
        self._plain = ChunkBuffer()  # decrypted before it was asked for: only around write_eof
        self._certificates: list[x509.Certificate] | None = None
        self._failure: ssl.SSLError | None = None
        self._eof = False
        self._wrote_eof = False
        self._closed = False

    @classmethod
    async def server(cls, stream: Stream, context: ssl.SSLContext, timeout: float = HANDSHAKE_SECONDS) -> Self:
        """Answer a client's handshake. Raises TLSError, or ConnectionClosed when the client leaves; `stream` stays
        open in both cases and is the caller's to close."""
        tls = cls(stream, context, server_side=True)
        await tls._handshake(timeout)
        return tls

    @classmethod
    async def client(cls, stream: Stream, context: ssl.SSLContext, server_hostname: str | None,
                     timeout: float = HANDSHAKE_SECONDS, session: ssl.SSLSession | None = None) -> Self:
        """Start a handshake; `server_hostname` goes out as SNI (unless it is an address) and is verified when the
        context says so. `session` is one of the same context to resume. Raises as `server` does."""
        tls = cls(stream, context, server_side=False, server_hostname=server_hostname, session=session)
        await tls._handshake(timeout)
        return tls

    # --- what was agreed on -----------------------------------------------------------------------------------

    @property
    def selected_alpn(self) -> bytes | None:
        protocol = self._object.selected_alpn_protocol()
        return protocol.encode("ascii", "surrogateescape") if protocol is not None else None

    @property
    def version(self) -> str:
        """`TLSv1.3`"""
        return self._object.version() or ""

    @property
    def cipher(self) -> str:
        cipher = self._object.cipher()
        return cipher[0] if cipher else ""

    @property
    def peer_certificates(self) -> list[x509.Certificate]:
        """What the peer sent, leaf first; the leaf alone when a session was resumed. Raises ValueError for what is no
        certificate, which can only come unverified."""
        if self._certificates is None:
            self._certificates = [x509.load_der_x509_certificate(der) for der in self._peer_chain()]
        return self._certificates

    def _peer_chain(self) -> list[bytes]:
        public = getattr(self._object, "get_unverified_chain", None)  # since Python 3.13
        private = getattr(getattr(self._object, "_sslobj", None), "get_unverified_chain", None)
        chain: list[bytes] = []
        if public is not None:
            chain = list(public())
        elif private is not None:
            chain = [certificate.public_bytes(_DER) for certificate in private() or () if certificate is not None]
        if not chain:  # a resumed session keeps the leaf only
            leaf = self._object.getpeercert(binary_form=True)
            return [leaf] if leaf else []
        return chain

    @property
    def session(self) -> ssl.SSLSession | None:
        """What a later connection of the same context can resume, None when the server gave nothing for that (yet: TLS
        1.3 sends it after the handshake)."""
        session = self._object.session
        return session if session is not None and (session.has_ticket or session.id) else None

    @property
    def session_reused(self) -> bool:
        return bool(self._object.session_reused)

    # --- the Stream interface ---------------------------------------------------------------------------------

    async def read(self, limit: int = 65536) -> bytes:
        while True:
            if self._plain.size:
                return self._plain.take(limit)
            if self._closed or self._eof:
                return b""
            if self._failure is not None:
                raise ConnectionClosed(_reason(self._failure)) from self._failure
            if (self._incoming.pending or self._object.pending()) and (data := self._decrypt(limit)):
                return data
            if self._outgoing.pending:  # what TLS itself answers: a key update, an alert
                await self._send_pending()
            if not self._eof and self._failure is None:
                await self._receive()

    async def write(self, data: bytes) -> None:
        if self._closed or self._wrote_eof:
            raise ConnectionClosed("the stream was closed here")
        if data:
            await self.inner.write(self._encrypt(data))

    async def write_eof(self) -> None:
        """Send close_notify; reading goes on (RFC 8446 §6.1)."""
        if self._closed or self._wrote_eof:
            return
        self._say_goodbye()
        try:
            await self._send_pending()
        except ConnectionClosed:
            return  # the next read tells
        await self.inner.write_eof()

    async def aclose(self) -> None:
        self._tell_end()
        if not self._closed:
            if not self._wrote_eof:
                self._say_goodbye()
            self._end()
            try:
                async with asyncio.timeout(GOODBYE_SECONDS):
                    await self._send_pending()
            except (ConnectionClosed, TimeoutError):  # nobody is listening: close without the courtesy
                pass
        await self.inner.aclose()

    def abort(self) -> None:
        self._tell_end()
        self._end()
        self.inner.abort()

    @property
    def pending(self) -> bool:
        return (self.inner.pending or self._incoming.pending > 0 or self._object.pending() > 0 or self._plain.size > 0
                or self._failure is not None)

    @property
    def closing(self) -> bool:
        return self._closed or self._eof or self.inner.closing

    def __repr__(self) -> str:
        state = "closed" if self._closed else "eof" if self._eof else "open"
        return f"<TLSStream {self._object.version()} {state} over {self.inner!r}>"

    # --- inside -----------------------------------------------------------------------------------------------

    async def _handshake(self, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                await self._shake_hands()
        except TimeoutError:
            raise TLSError(f"TLS handshake timed out after {timeout:g} s") from None

    async def _shake_hands(self) -> None:
        while True:
            try:
                self._object.do_handshake()
            except ssl.SSLWantReadError:
                await self._send_pending()
            except ssl.SSLError as exc:
                await self._send_alert()
                raise _handshake_error(exc) from exc
            else:
                await self._send_pending()
                return
            data = await self.inner.read(_READ_SIZE)
            if not data:
                raise ConnectionClosed("the peer closed the connection during the TLS handshake")
            self._incoming.write(data)

    async def _receive(self) -> None:
        data = await self.inner.read(_READ_SIZE)
        if data:
            self._incoming.write(data)
        elif not self._closed:
            self._eof = True
            self.ragged_eof = True  # close_notify would have ended `read` before

    def _decrypt(self, limit: int) -> bytes:
        """As much plain text as is here, at most `limit`; b"" when a record is incomplete or damaged, or the peer said
        goodbye."""
        chunks: list[bytes] = []
        size = 0
        try:
            while size < limit:
                chunk = self._object.read(min(limit - size, _RECORD))
                if not chunk:  # close_notify
                    self._eof = True
                    break
                chunks.append(chunk)
                size += len(chunk)
                if not self._incoming.pending and not self._object.pending():
                    break
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._eof = True
        except ssl.SSLError as exc:  # the text before the damage counts; `read` reports the rest
            self._failure = exc
        if chunks:
            self.peer_spoke = True
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _encrypt(self, data: bytes) -> bytes:
        try:
            if len(data) <= _WRITE_SLICE:
                self._object.write(data)
                return self._outgoing.read()
            view = memoryview(data)
            records: list[bytes] = []
            for start in range(0, len(view), _WRITE_SLICE):
                self._object.write(view[start:start + _WRITE_SLICE])
                records.append(self._outgoing.read())
        except ssl.SSLError as exc:
            raise ConnectionClosed(_reason(exc)) from exc
        return b"".join(records)

    def _say_goodbye(self) -> None:
        """Put close_notify into the outgoing BIO."""
        # OpenSSL takes application data that waits while it looks for the peer's close_notify for an error.
        while (self._incoming.pending or self._object.pending()) and (data := self._decrypt(_READ_SIZE)):
            self._plain.append(data)
        self._wrote_eof = True
        try:
            self._object.unwrap()
        except ssl.SSLError:  # it wants the peer's close_notify, which we do not wait for
            pass

    async def _send_pending(self) -> None:
        data = self._outgoing.read()
        if data:
            await self.inner.write(data)

    async def _send_alert(self) -> None:
        try:
            await self._send_pending()
        except ConnectionClosed:  # the handshake's own error is the better news
            pass

    def _tell_end(self) -> None:
        if self.on_end is not None:
            tell, self.on_end = self.on_end, None
            tell(self)

    def _end(self) -> None:
        self._closed = True
        self._eof = True
        self._plain.clear()


def told_alert(message: str) -> str:
    """The alert that the message of an error from here tells of, in words; empty for none. Errors of what lies above
    quote it: in TLS 1.3 a server judges its client's certificate after the handshake (RFC 8446 §4.4.2.4)."""
    return message.rpartition(_REFUSED)[2] if _REFUSED in message else ""


def _reason(exc: ssl.SSLError) -> str:
    """`tlsv1 alert unknown ca` and the like, in words."""
    reason = (exc.reason or "").upper()
    if reason in _REASONS:
        return _REASONS[reason]
    alert = _alert(reason)
    if alert:
        return f"{_REFUSED}{alert}"
    return f"TLS error: {_words(reason) if reason else exc}"


def _alert(reason: str) -> str:
    """The alert that OpenSSL calls `TLSV1_ALERT_UNKNOWN_CA`: `unknown ca`; empty for what is no alert."""
    for prefix in ("TLSV1_ALERT_", "SSLV3_ALERT_", "TLSV13_ALERT_", "TLSV1_", "SSL/TLS_ALERT_"):
        if reason.startswith(prefix):
            return _words(reason.removeprefix(prefix))
    return ""


NO_CERTIFICATE = "the peer showed no certificate"
NO_VERSION = "the peer offers no TLS version that is allowed here"
_REFUSED = "the peer refused with the TLS alert: "
_REASONS = {
    "WRONG_VERSION_NUMBER": "the peer does not speak TLS",
    "HTTP_REQUEST": "the peer does not speak TLS: it sent an HTTP request",
    "HTTPS_PROXY_REQUEST": "the peer does not speak TLS: it sent an HTTP CONNECT request",
    "UNSUPPORTED_PROTOCOL": NO_VERSION,
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": NO_CERTIFICATE,
    "NO_SHARED_CIPHER": "no cipher suite in common",
    "NO_SUITABLE_SIGNATURE_ALGORITHM": "no signature algorithm in common",
    "NO_SUITABLE_KEY_SHARE": "no key exchange group in common",
    "UNEXPECTED_EOF_WHILE_READING": "the peer closed the connection without close_notify",
}


def _words(reason: str) -> str:
    return reason.lower().replace("_", " ")


def _handshake_error(exc: ssl.SSLError) -> TLSError:
    if isinstance(exc, ssl.SSLCertVerificationError):
        message = exc.verify_message.rstrip(".")
        if message[1:2].islower():  # not "IP address mismatch"
            message = message[0].lower() + message[1:]
        return TLSError(f"certificate verify failed: {message}", exc.verify_message, exc.verify_code)
    return TLSError(_reason(exc), alert=_alert((exc.reason or "").upper()))
