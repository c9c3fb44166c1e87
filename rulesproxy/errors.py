"""The exceptions that end a command with one clear message instead of a traceback."""

from __future__ import annotations

from rulesproxy.addons.errors import AddonHalt, AddonManagerError, OptionsError, ScriptError
from rulesproxy.certs.files import CertificateError


class StartupError(Exception):
    """The proxy cannot start as asked: a busy port, an unreadable file. The message is for the person at the shell."""


#: What a command turns into a message on standard error and a non-zero exit status.
USER_ERRORS = (StartupError, OptionsError, AddonManagerError, CertificateError)

__all__ = ["USER_ERRORS", "AddonHalt", "AddonManagerError", "CertificateError", "OptionsError", "ScriptError",
           "StartupError"]
