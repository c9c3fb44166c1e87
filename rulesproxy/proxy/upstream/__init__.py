"""Connections to servers: what is asked for, how one is made, and the pool that keeps them."""
