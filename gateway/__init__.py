"""A horizontally scaled, stateless MCP gateway. Start reading at `gateway/flow.py`."""
