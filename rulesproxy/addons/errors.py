"""The exceptions addons may raise, and those raised about them."""

from __future__ import annotations


class AddonHalt(Exception):
    """Raised in a handler: the addons after this one do not see the event."""


class AddonManagerError(Exception):
    """An addon cannot be added: it failed to load, or a handler has the wrong signature."""


class ScriptError(AddonManagerError):
    """A script file cannot be read or fails while it is imported. The message may have several lines."""


class OptionsError(Exception):
    """An option value is refused. Raised from `configure`, it takes the whole change back."""
