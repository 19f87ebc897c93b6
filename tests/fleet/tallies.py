"""A backend that can't resume, and keeps a tally of how often its tool was begun, and how often it was cancelled.

    python -m tests.fleet.tallies --port 0 [--read-only]

The tool is `count`, as `tests.fleet.resumable` has it, so that its client can call it; `tally` tells.
"""

import argparse
import asyncio
from collections import Counter

from mcp.server.mcpserver import Context, MCPServer
from mcp.types import ToolAnnotations

from backends import serving


def build(*, is_read_only: bool) -> MCPServer:
    server = MCPServer("tallies", title="Tallies", description="counts, and counts its counts", log_level="ERROR")
    tallied: Counter[str] = Counter()

    @server.tool(annotations=ToolAnnotations(read_only_hint=is_read_only))
    async def count(n: int, delay_ms: int, ctx: Context) -> str:
        """Counts to n, a step each so many milliseconds, and tells of each."""
        tallied["begun"] += 1
        try:
            for step in range(1, n + 1):
                await asyncio.sleep(delay_ms / 1000)
                await ctx.report_progress(step, n)
        except asyncio.CancelledError:
            tallied["cancelled"] += 1
            raise
        return f"counted to {n}"

    @server.tool()
    async def tally() -> str:
        """How many counts were begun, and how many of them cancelled."""
        return f"{tallied['begun']} begun, {tallied['cancelled']} cancelled"

    return server


def main() -> None:
    """Serves until it is ended."""
    parser = argparse.ArgumentParser(prog="python -m tests.fleet.tallies")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--read-only", action="store_true")
    options = parser.parse_args()
    listener = serving.open_listener("127.0.0.1", options.port)
    app = build(is_read_only=options.read_only).streamable_http_app()
    print(f"tallies listens at http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
    asyncio.run(serving.serve(app, listener))


if __name__ == "__main__":
    main()
