"""WebSocket: the handshake, and the conversation after it."""
