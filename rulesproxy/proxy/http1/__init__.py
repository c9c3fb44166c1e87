"""HTTP/1: connections that carry one exchange at a time."""
