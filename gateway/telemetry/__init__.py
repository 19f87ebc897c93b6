"""WHAT WE TELL. Metrics and logs."""
