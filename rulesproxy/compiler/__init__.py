"""YAML text → nodes with positions → IR → plan → generated Python → `RuleSet`. Pure: no sockets, no clock, no loop."""
