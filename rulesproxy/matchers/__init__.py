"""One file per matcher: schema fragment, IR leaf, emitted test, documented example. Found by name, no table to edit."""
