"""FastMCP's proxy in front of one backend, for comparison: `fastmcp_proxy.py BACKEND_URL PORT default|shared`.

Runs in FastMCP's own environment and knows nothing of this package. `default` is what `create_proxy(URL)` gives: a new
upstream client for every call. `shared` is one upstream client, connected once, for all calls: faster, but every caller
then shares one upstream session.
"""

import asyncio
import sys

import uvicorn
from fastmcp import Client  # type: ignore[import-not-found]  # it lives in an environment of its own
from fastmcp.server import create_proxy  # type: ignore[import-not-found]


async def serve(url: str, port: int, *, shared: bool) -> None:
    client = Client(url)
    if shared:
        await client.__aenter__()
    proxy = create_proxy(client if shared else url, name="proxy")
    config = uvicorn.Config(
        proxy.http_app(path="/mcp"),
        host="127.0.0.1",
        port=port,
        log_level="error",
        access_log=False,
    )
    await uvicorn.Server(config).serve()


asyncio.run(serve(sys.argv[1], int(sys.argv[2]), shared=sys.argv[3] == "shared"))
