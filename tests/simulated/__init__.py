"""A fleet within one process, on a clock that nobody waits for: replicas, their clients, their backend, and what befalls them."""
