"""`python -m rulesproxy` and the `rulesproxy` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its status."""
    try:
        from rulesproxy.cli.main import run_command_line

        status = run_command_line(sys.argv[1:])
    except KeyboardInterrupt:
        status = 130  # 128 + SIGINT, as shells have it
    sys.exit(status)


if __name__ == "__main__":
    main()
