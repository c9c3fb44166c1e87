"""What is wrong with a server's certificate, in words for whoever reads the 502 page, and how to allow it."""

from __future__ import annotations

from typing import NamedTuple


class Verdict(NamedTuple):
    """`kind` is short and stable, `why` a sentence, `remedy` what mends it without giving up verification, if
    anything does."""

    kind: str
    why: str
    remedy: str = ""


_TRUST = "If you know its authority, trust that with --set upstream_ca=FILE. "
_NAME = "If it is the right server under another name, say that name with `sni:` on the rule that leads there. "

_EXPIRED = Verdict("expired",
                   "The certificate, or one in its chain, has expired; or the clock of this machine is wrong.")
_FUTURE = Verdict("not yet valid",
                  "The certificate, or one in its chain, is not valid yet; or the clock of this machine is wrong.")
_SELF_SIGNED = Verdict("self-signed", "The server signed its certificate itself: nobody vouches for it.",
                       "If it is yours, trust the certificate itself with --set upstream_ca=FILE. ")
_UNKNOWN_CA = Verdict("unknown authority", "The certificate is signed by an authority that is not trusted here.",
                      _TRUST)
_NO_ISSUER = Verdict("unknown authority", "The certificate is signed by an authority that is not trusted here, or the "
                     "server leaves out an intermediate certificate.", _TRUST)
_WRONG_NAME = Verdict("wrong name", "The certificate is for other names than the one asked for.", _NAME)
_INVALID_CA = Verdict("not an authority", "A certificate in the chain signed others without being allowed to.")
_CONSTRAINTS = Verdict("name constraints", "An authority in the chain signed a name outside of what it may sign.")
_BAD_SIGNATURE = Verdict("bad signature", "A signature in the chain is wrong: the certificate was damaged or forged.")
_WEAK_KEY = Verdict("weak key", "A key in the chain is too short to be safe.")
_WEAK_HASH = Verdict("weak signature", "A certificate in the chain is signed with an outdated hash (SHA-1 or MD5).")
_PURPOSE = Verdict("wrong purpose", "The certificate is not one for servers (extended key usage).")
_REVOKED = Verdict("revoked", "The authority has revoked the certificate.")
_TOO_LONG = Verdict("chain too long", "The chain is longer than an authority in it, or OpenSSL, allows.")
_OTHER = Verdict("not trusted", "The certificate did not pass verification.")

#: By the codes of OpenSSL (x509_vfy.h, X509_V_ERR_…), which are stable.
_BY_CODE = {
    2: _NO_ISSUER, 7: _BAD_SIGNATURE, 9: _FUTURE, 10: _EXPIRED, 13: _FUTURE, 14: _EXPIRED, 18: _SELF_SIGNED,
    19: _UNKNOWN_CA, 20: _NO_ISSUER, 21: _NO_ISSUER, 22: _TOO_LONG, 23: _REVOKED, 24: _INVALID_CA, 25: _TOO_LONG,
    26: _PURPOSE, 27: _UNKNOWN_CA, 28: _PURPOSE, 32: _INVALID_CA, 47: _CONSTRAINTS, 48: _CONSTRAINTS,
    62: _WRONG_NAME, 64: _WRONG_NAME, 66: _WEAK_KEY, 67: _WEAK_KEY, 68: _WEAK_HASH, 79: _INVALID_CA,
}  # fmt: skip


def judge(code: int) -> Verdict:
    """For the `verify_code` of a failed verification."""
    return _BY_CODE.get(code, _OTHER)


def advice(verdict: Verdict, name: str) -> str:
    """Why, and how to go on with the server `name` nevertheless."""
    return (f"{verdict.why} {verdict.remedy}If you expect exactly this certificate, allow it for one host with a rule, "
            f"`- {{name: allow-{name}, match: {{host: {_quoted(name)}}}, action: {{tls: {{verify: false}}}}}}`, with "
            "`verify: false` on the rule that leads there, or for all servers with --set verify_upstream=false.")


def _quoted(name: str) -> str:
    return f'"{name}"' if ":" in name else name
