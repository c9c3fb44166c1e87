"""The command line: one file per sub-command; `main` says what such a file provides."""
