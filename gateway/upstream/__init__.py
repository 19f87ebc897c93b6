"""WHOM WE CALL. The HTTP client, its connections, and the endpoints of each backend."""
