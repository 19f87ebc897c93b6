"""Who watches which resource, and how each is told: the one place where the two eras differ for a server's author.

Since 2026-07-28 a client opens `subscriptions/listen` and the SDK does the rest. Before, it sent `resources/subscribe`,
and was told on its session's GET stream; of that, `MCPServer` leaves the book-keeping to us.
"""

from typing import Any

from mcp.server import ServerRequestContext
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.session import ServerSession
from mcp.types import EmptyResult, SubscribeRequestParams, UnsubscribeRequestParams

MOST_SESSIONS = 1_000
"""Subscribed sessions per resource. Nobody tells us that a session is over, so the oldest goes when one more comes."""


class Watchers:
    """The sessions that subscribed to a resource, by URI and session id."""

    def __init__(self, server: MCPServer) -> None:
        self._sessions: dict[str, dict[str, ServerSession]] = {}
        low = server._lowlevel_server  # noqa: SLF001  MCPServer 2.3 has no public way to serve these two methods
        low.add_request_handler("resources/subscribe", SubscribeRequestParams, self._subscribe)
        low.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, self._unsubscribe)

    async def tell(self, uri: str, ctx: Context) -> None:
        """Tells everyone who watches `uri` that it changed; clients then read it again."""
        await ctx.notify_resource_updated(uri)  # modern
        for session in list(self._sessions.get(uri, {}).values()):
            await session.send_resource_updated(uri)  # legacy

    async def _subscribe(self, ctx: ServerRequestContext[Any], params: SubscribeRequestParams) -> EmptyResult:
        sessions = self._sessions.setdefault(str(params.uri), {})
        sessions[_session_id(ctx)] = ctx.session
        if len(sessions) > MOST_SESSIONS:
            del sessions[next(iter(sessions))]
        return EmptyResult()

    async def _unsubscribe(self, ctx: ServerRequestContext[Any], params: UnsubscribeRequestParams) -> EmptyResult:
        self._sessions.get(str(params.uri), {}).pop(_session_id(ctx), None)
        return EmptyResult()


def _session_id(ctx: ServerRequestContext[Any]) -> str:
    """The HTTP header that names the session; one name for all where there is no HTTP (in-process, stdio)."""
    return ctx.request.headers.get("mcp-session-id", "") if ctx.request is not None else ""
