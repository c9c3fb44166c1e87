"""What is neither HTTP nor TLS: bytes over TCP, datagrams over UDP, shown to hooks message by message."""
