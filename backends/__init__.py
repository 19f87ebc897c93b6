"""Sample MCP servers to put behind the gateway: `echo`, `math` and `weather`. Copy one to start your own.

Each is one file on the official `mcp` SDK, runs alone (`python -m backends.echo --port 9001`) and serves both protocol
eras at once: 2026-07-28 without sessions, and the versions before it with them. None of them knows the gateway.
"""
