"""Serves the metadata of protected resources, and passes everything else on. Knows HTTP and CORS; `policy/metadata` knows
what there is to tell.

Any page may read it: it is what anyone may know, and a client in a browser needs it before it has a token.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.responses import Response

from gateway.downstream.clients import Receive, Scope, Send
from gateway.policy.metadata import describe_resource
from gateway.policy.sites import Site
from gateway.protocol.resources import WELL_KNOWN

_HEADERS: Final = {"access-control-allow-origin": "*", "cache-control": "public, max-age=60"}
_METHODS: Final = "GET, HEAD, OPTIONS"
_PREFLIGHT: Final = {
    "access-control-allow-origin": "*",
    "access-control-allow-methods": _METHODS,
    "access-control-allow-headers": "*",  # the SDKs send MCP-Protocol-Version here too
    "access-control-max-age": "600",
}


class MetadataApp:
    """ASGI. `site` gives the configuration in force, `otherwise` answers all other paths."""

    def __init__(self, site: Callable[[], Site], otherwise: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._site = site
        self._otherwise = otherwise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path != WELL_KNOWN and not path.startswith(f"{WELL_KNOWN}/"):
            await self._otherwise(scope, receive, send)
            return
        await self._answer(scope["method"], path)(scope, receive, send)

    def _answer(self, method: str, path: str) -> Response:
        document = describe_resource(self._site(), path)
        if document is None:
            return Response("nothing is protected at this path\n", 404, {"access-control-allow-origin": "*"})
        match method:
            case "GET" | "HEAD":
                return Response(document, 200, _HEADERS, "application/json")
            case "OPTIONS":
                return Response(None, 204, _PREFLIGHT)
            case _:
                return Response(None, 405, {"allow": _METHODS})
