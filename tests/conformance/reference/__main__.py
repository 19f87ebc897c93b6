"""Puts the reference server together and serves it."""

import asyncio
import sys
import warnings

from mcp import MCPDeprecationWarning
from mcp.server import CacheHint
from mcp.server.mcpserver import MCPServer, RequestStateSecurity

from backends import serving
from tests.conformance.reference import contents, questions, rounds
from tests.conformance.reference.events import RecentEvents


def build() -> MCPServer:
    """A fresh server with every fixture."""
    hint = CacheHint(ttl_ms=60_000, scope="public")
    server = MCPServer(
        "reference",
        title="Reference",
        description="has every fixture of the official conformance suite",
        version="1.0.0",
        log_level="WARNING",
        tools=[contents.schema_tool()],
        request_state_security=RequestStateSecurity(keys=["the reference server's only secret is known to all"]),
        cache_hints={
            "tools/list": hint,
            "prompts/list": hint,
            "resources/list": hint,
            "resources/templates/list": hint,
            "resources/read": hint,
        },
    )
    for room in (contents, questions, rounds):
        room.furnish(server)
    return server


def main() -> None:
    """Serves as the sample backends do, and remembers events so that streams can be resumed."""
    server = build()
    options = serving.parse_options(server, None)
    listener = serving.open_listener(options.host, options.port)
    host, port = listener.getsockname()[:2]
    app = server.streamable_http_app(host=host, event_store=RecentEvents(), retry_interval=100)
    print(f"{server.name} listens at http://{host}:{port}/mcp", flush=True)
    try:
        asyncio.run(serving.serve(app, listener))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    # The suite still tests logging and sampling, which 2026-07-28 deprecates.
    warnings.simplefilter("ignore", MCPDeprecationWarning)
    main()
