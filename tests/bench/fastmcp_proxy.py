"""FastMCP's proxy in front of one backend or of several, for comparison: `fastmcp_proxy.py PORT default|shared URL…`.

Runs in FastMCP's own environment and knows nothing of this package. `default` is what `create_proxy(URL)` gives: a new
upstream client for every call. `shared` is one upstream client, connected once, for all calls: faster, but every caller
then shares one upstream session. Several are mounted in one server, the first under the namespace b01, and so on.
"""

import asyncio
import sys
from typing import Any

import uvicorn
from fastmcp import Client, FastMCP  # type: ignore[import-not-found]  # it lives in an environment of its own
from fastmcp.server import create_proxy  # type: ignore[import-not-found]


async def make_proxy(url: str, *, shared: bool) -> Any:
    client = Client(url)
    if shared:
        await client.__aenter__()
    return create_proxy(client if shared else url, name="proxy")


async def mount_all(urls: list[str], *, shared: bool) -> Any:
    whole = FastMCP("proxy")
    for number, url in enumerate(urls, 1):
        whole.mount(await make_proxy(url, shared=shared), namespace=f"b{number:02d}")
    return whole


async def serve(port: int, urls: list[str], *, shared: bool) -> None:
    server = await (mount_all(urls, shared=shared) if len(urls) > 1 else make_proxy(urls[0], shared=shared))
    config = uvicorn.Config(
        server.http_app(path="/mcp"),
        host="127.0.0.1",
        port=port,
        log_level="error",
        access_log=False,
    )
    await uvicorn.Server(config).serve()


asyncio.run(serve(int(sys.argv[1]), sys.argv[3:], shared=sys.argv[2] == "shared"))
