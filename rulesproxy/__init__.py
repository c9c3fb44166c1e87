"""rulesproxy: an intercepting proxy whose behaviour is a folder of YAML."""

__version__ = "0.1.0"
