"""One file per action: schema fragment, operation, effect on the flow, documented example. Found by name."""
