"""WHAT ONE TYPES. One module a subcommand of `mcp-gateway`."""
