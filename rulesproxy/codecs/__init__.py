"""Bytes to events and back: HTTP/1, ClientHello, protocol detection, DNS. No sockets, no clock, no awaits."""
