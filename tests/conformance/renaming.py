"""A proxy that gives names back: what the suite calls `x` goes on as `PREFIX__x`, and what is listed as `PREFIX__x` as `x`.

    python -m tests.conformance.renaming http://localhost:8080/three/mcp reference

The suite has the names of its tools and prompts written into it; so it can be put to an aggregate that shows them under a
prefix. All else passes as it is, events as they come.
"""

import argparse
import json
from collections.abc import AsyncIterator

import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from backends.serving import open_listener

OWN = {"connection", "content-length", "transfer-encoding"}
"""Headers of one connection."""

NAMED = {"tools/call", "prompts/get"}


class Renaming:
    """One server behind another name for each of its tools and prompts."""

    def __init__(self, url: str, prefix: str) -> None:
        self._url = url
        self._prefix = f"{prefix}__"
        self._http = httpx2.AsyncClient(timeout=None, trust_env=False, verify=False)

    async def serve(self, request: Request) -> Response:
        headers = [(name, value) for name, value in request.headers.items() if name not in OWN]
        body, is_named = self._rename(await request.body())
        if is_named:
            headers = [(name, self._prefix + value if name == "mcp-name" else value) for name, value in headers]
        sent = self._http.build_request(request.method, self._url, headers=headers, content=body or None)
        answer = await self._http.send(sent, stream=True)
        kept = {name: value for name, value in answer.headers.items() if name not in OWN}
        closing = BackgroundTask(answer.aclose)
        if "text/event-stream" in kept.get("content-type", ""):
            return StreamingResponse(self._give_back(answer), answer.status_code, kept, background=closing)
        whole = self._unmark(await answer.aread())
        return Response(whole, answer.status_code, kept, background=closing)

    def _rename(self, body: bytes) -> tuple[bytes, bool]:
        """The body that the gateway is to have, and whether a name in it was changed."""
        try:
            message = json.loads(body)
            params = message["params"]
            method = message["method"]
        except (ValueError, KeyError, TypeError):
            return body, False
        holder = params if method in NAMED else params.get("ref", {}) if isinstance(params, dict) else {}
        if not isinstance(holder, dict) or not isinstance(holder.get("name"), str):
            return body, False
        holder["name"] = self._prefix + holder["name"]
        return json.dumps(message).encode(), method in NAMED

    async def _give_back(self, answer: httpx2.Response) -> AsyncIterator[bytes]:
        try:
            rest = b""
            async for piece in answer.aiter_raw():
                *lines, rest = (rest + piece).split(b"\n")
                if lines:
                    yield self._unmark(b"\n".join([*lines, b""]))
            if rest:
                yield self._unmark(rest)
        finally:
            await answer.aclose()

    def _unmark(self, body: bytes) -> bytes:
        return body.replace(b'"' + self._prefix.encode(), b'"')


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.renaming")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("url")
    parser.add_argument("prefix")
    options = parser.parse_args()
    listener = open_listener("127.0.0.1", options.port)
    print(f"renaming listens at http://localhost:{listener.getsockname()[1]}/mcp", flush=True)
    renaming = Renaming(options.url, options.prefix)
    app = Starlette(routes=[Route("/mcp", renaming.serve, methods=["GET", "POST", "DELETE", "OPTIONS", "PUT"])])
    # httptools leaves blanks at the end of a header's value, which httpx refuses to send.
    config = uvicorn.Config(app, http="h11", log_level="warning", access_log=False, timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
