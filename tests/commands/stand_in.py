"""`mcp-gateway serve` with a small application in the gateway's place: `python -m tests.commands.stand_in --config …`.

GET /pid tells which process answers and counts an exchange; GET /slow begins a reply at once and ends it when the
process drains; the operators' paths are the real ones.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from gateway.commands import serve
from gateway.downstream.operations import BackendState, build_operations, build_probes
from gateway.settings.settings import Settings


class StandIn:
    version = "1.2.3"

    def __init__(self, settings: Settings) -> None:
        from gateway.telemetry.metrics import Metrics  # as the gateway does it: in the worker

        self._settings = settings
        self._draining = asyncio.Event()
        self._metrics = Metrics(self.version)
        self.admin = None if settings.admin_port is None else build_operations(self, details=True)
        own = build_probes(self) if self.admin else build_operations(self, details=True)
        routes = [Route("/pid", self._tell_pid), Route("/slow", self._stream), *own.routes]
        self._app = Starlette(routes=routes)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app(scope, receive, send)

    def drain(self) -> None:
        self._draining.set()

    def release(self) -> None:
        """It has no streams that others could go on with."""

    def give_up(self) -> None:
        """Nor calls that could be lost."""

    is_busy = False
    lost = 0

    def hindrances(self) -> Sequence[str]:
        return ["draining"] if self._draining.is_set() else []

    def digest(self) -> str:
        return self._settings.site.digest

    def backends(self) -> Sequence[BackendState]:
        return ()

    def redis_troubles(self) -> None:
        """It has no Redis."""

    def render_metrics(self, accept: str) -> tuple[bytes, str]:
        return self._metrics.render(accept)

    async def _tell_pid(self, _request: Request) -> Response:
        from tests.telemetry.records import ENDED, make_record

        self._metrics.finish(make_record(), ENDED)
        return PlainTextResponse(str(os.getpid()), headers={"connection": "close"})

    async def _stream(self, _request: Request) -> Response:
        async def parts() -> Any:
            yield b"begun\n"
            await self._draining.wait()
            yield b"ended\n"

        return StreamingResponse(parts(), media_type="text/plain")


def create(settings: Settings, _reload: Callable[[], Settings]) -> StandIn:
    return StandIn(settings)


def main() -> int:
    parser = argparse.ArgumentParser()
    serve.add_parser(parser.add_subparsers())
    return serve.run(parser.parse_args(["serve", *sys.argv[1:]]), create)


if __name__ == "__main__":
    sys.exit(main())
