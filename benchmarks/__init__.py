"""How fast the proxy is, against others on the same machine in the same minutes: `python -m benchmarks`."""
