"""The demonstration: servers, a proxy with the starter rules, and real requests through it, in one process."""
