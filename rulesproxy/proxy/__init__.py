"""Sessions: one coroutine per client connection, one protocol per file, hooks fired as things happen."""
