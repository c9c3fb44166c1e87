"""Source text of a rule file → nodes with positions.

What comes in: the bytes of one file. What goes out: the root node of each document, or diagnostics. Knows YAML and its
limits; knows nothing of rules. Nodes live in `yaml_nodes`, the event reader in `yaml_reader`; this module is the name
the rest of the compiler uses.
"""

from __future__ import annotations

from rulesproxy.compiler.yaml_nodes import Mapping, Node, Position, Scalar, Sequence, describe, to_data
from rulesproxy.compiler.yaml_reader import parse

__all__ = ["Mapping", "Node", "Position", "Scalar", "Sequence", "describe", "parse", "to_data"]
