"""What hooks see: flows, messages, connections. Plain data, no I/O, imports nothing of ours."""
