"""Hooks, the addon manager, options, and the addons that come with the proxy."""
