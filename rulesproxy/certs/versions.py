"""Which versions of TLS are spoken: the words of options and rules, and what they come to in an SSL context."""

from __future__ import annotations

import ssl
import warnings

#: The values of `tls_version_client_min` and `tls_version_server_min`, oldest first.
VERSIONS: dict[str, ssl.TLSVersion] = {
    "TLS1": ssl.TLSVersion.MINIMUM_SUPPORTED,  # SSL 3 is switched off in every context
    "TLS1_1": ssl.TLSVersion.TLSv1_1,
    "TLS1_2": ssl.TLSVersion.TLSv1_2,
    "TLS1_3": ssl.TLSVersion.TLSv1_3,
}
DEFAULT = "TLS1_2"
_OUTDATED = ("TLS1", "TLS1_1")  # RFC 8996
# OpenSSL 3 signs the handshakes of old versions (MD5 with SHA-1) on this level only.
_OLD_CIPHERS = "DEFAULT:@SECLEVEL=0"


def require(context: ssl.SSLContext, minimum: str) -> None:
    """Speak `minimum` (a key of `VERSIONS`) and newer."""
    if minimum not in _OUTDATED:
        context.minimum_version = VERSIONS[minimum]
        return
    context.set_ciphers(_OLD_CIPHERS)
    with warnings.catch_warnings():  # the module warns of what was asked for
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = VERSIONS[minimum]
