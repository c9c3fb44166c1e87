"""The only package that touches sockets, TLS objects and the clock."""
