"""`mcp-gateway demo`: the gateway in front of its sample backends, tried out, and how to connect a client to it."""

import argparse
import asyncio
import io
import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from signal import Signals
from typing import TYPE_CHECKING, Final

from gateway.commands.check import align

if TYPE_CHECKING:
    import httpx2

    from gateway.commands.children import Child, Children
    from gateway.commands.snippets import Urls
    from gateway.commands.trials import Sample, Trial
    from gateway.protocol.versions import Era

START_SECONDS: Final = 60.0
"""For four Python programs to start and answer; on an idle machine it takes three."""

ALL: Final = "all"
"""The aggregate of all samples, at /mcp."""

_LOOK_SECONDS: Final = 0.1
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_ESCAPES: Final = re.compile(r"\x1b\[[0-9;]*m")

_DESCRIPTION = """\
Start three sample MCP servers (echo, math, weather) and the gateway in front of them, call a tool of each through the
gateway in both protocol eras, also at /mcp where all three are one server, and print how to connect a client. Goes on
until Ctrl-C; everything it started ends with it. For trying out: it listens on this machine only.
"""
_EPILOG = """\
examples:
  mcp-gateway demo
  mcp-gateway demo --port 8090
  mcp-gateway demo --log-level debug     # show the way of each request, headers redacted

Exit codes: 0 after Ctrl-C or SIGTERM, 1 if a part did not start or a tool could not be called, 2 if the port can't be had.
"""


class DemoFailed(Exception):
    """Something did not work; the message says what."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "demo",
        help="try the gateway with three sample servers",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--host", choices=_LOOPBACK, default=_LOOPBACK[0], help="where to listen (default: %(default)s)"
    )
    parser.add_argument("--port", type=int, default=8080, help="the port to listen on; 0: any (default: %(default)s)")
    parser.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        default="info",
        help="what of the gateway's log to show; info is one line for each call (default: %(default)s)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the demonstration until it is told to end; the exit code."""
    from gateway.commands.children import ChildEnded
    from gateway.downstream.listeners import Place, Unavailable, close, listen, port_of

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that can't show ✓ still gets its table
    try:
        listeners = listen(Place(args.host, args.port))  # before all else, so that a taken port is told at once
        port = port_of(listeners)
        close(listeners)
        return asyncio.run(Demo(args.host, port, args.log_level, list_samples()).play())
    except Unavailable as unavailable:
        print(f"mcp-gateway demo: {unavailable}", file=sys.stderr)
        return 2
    except (DemoFailed, ChildEnded) as failure:
        print(f"mcp-gateway demo: {failure}", file=sys.stderr)
        return 1


def list_samples() -> "dict[str, Sample]":
    """The sample backends: the module `backends.NAME`, and what is called to try it."""
    from gateway.commands.trials import Sample

    return {
        "echo": Sample("echo", {"text": "hello"}, "hello"),
        "math": Sample("add", {"a": 2, "b": 3}, "5"),
        "weather": Sample("get_weather", {"city": "Reykjavik", "month": 1}, "0.4"),
    }


def prefix_sample(samples: "Mapping[str, Sample]") -> "Sample":
    """The first sample's call as one makes it where all are one server."""
    import msgspec

    from gateway.policy.aggregates import SEPARATOR

    name, sample = next(iter(samples.items()))
    return msgspec.structs.replace(sample, tool=f"{name}{SEPARATOR}{sample.tool}")


class Demo:
    """One run: the children, and how far it came."""

    def __init__(self, host: str, port: int, log_level: str, samples: "Mapping[str, Sample]") -> None:
        self._origin = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        self._flags = ("--host", host, "--port", str(port), "--log-level", log_level, "--log-format", "pretty")
        self._samples = samples
        self._tried = {**samples, ALL: prefix_sample(samples)}
        self._urls = {name: f"{self._origin}/{name}/mcp" for name in samples} | {ALL: f"{self._origin}/mcp"}
        self._is_up = False
        self._is_ending = False
        self._colours = sys.stdout.isatty()

    async def play(self) -> int:
        """Until Ctrl-C or SIGTERM: 0 if all was up by then, else 128 + the signal. Raises `DemoFailed`, `ChildEnded`."""
        from gateway.commands.children import Children, signals

        task, received = asyncio.current_task(), list[Signals]()
        children = Children(self._tell)

        def interrupt(number: Signals) -> None:
            if received:
                children.kill()  # who asks twice doesn't want to wait
            elif task is not None:
                task.cancel()
            received.append(number)

        with signals(interrupt), tempfile.TemporaryDirectory(prefix="mcp-gateway-demo-") as folder:
            try:
                async with children:
                    await self._play(children, Path(folder) / "gateway.yaml")
            except asyncio.CancelledError:
                if not received:
                    raise
                if task is not None:
                    task.uncancel()
        return 0 if self._is_up else 128 + received[0]

    async def _play(self, children: "Children", config: Path) -> None:
        try:
            gateway = await self._start(children, config)
            await self._try_all()
            await gateway.fall_silent()  # so that no line about the trial comes below the table
            print(render_advice({"gateway": self._urls[ALL]}, self._origin, config), flush=True)
            self._is_up = True
            await children.run_until_one_ends()
        finally:
            self._is_ending = True

    async def _start(self, children: "Children", config: Path) -> "Child":
        print("Starting the sample backends and the gateway ...", flush=True)
        try:
            async with asyncio.timeout(START_SECONDS):
                write_config(config, await self._start_backends(children))
                return await self._start_gateway(children, config)
        except TimeoutError:
            raise DemoFailed(
                f"not all was up within {START_SECONDS:g} s: this machine may be busy, try again"
            ) from None

    async def _start_backends(self, children: "Children") -> dict[str, str]:
        """name → URL"""
        started = {name: await children.start(name, f"backends.{name}", ("--port", "0")) for name in self._samples}
        return {name: (await child.find(r"listens at (\S+)"))[1] for name, child in started.items()}

    async def _start_gateway(self, children: "Children", config: Path) -> "Child":
        import httpx2

        # Variables that configure the user's own gateway are not meant for this one.
        env = {name: value for name, value in os.environ.items() if not name.startswith("MCPGW_")}
        gateway = await children.start("gateway", "gateway", ("serve", "--config", str(config), *self._flags), env)
        ended = asyncio.create_task(gateway.wait())
        try:
            async with httpx2.AsyncClient(trust_env=False) as client:
                while not await _is_ready(client, f"{self._origin}/readyz"):
                    await asyncio.wait({ended}, timeout=_LOOK_SECONDS)
                    if ended.done():
                        raise gateway.explain_end()
        finally:
            ended.cancel()
        return gateway

    async def _try_all(self) -> None:
        from gateway.commands.trials import try_server
        from gateway.protocol.versions import Era

        async def try_both(name: str) -> "dict[Era, Trial]":
            return {era: await try_server(self._urls[name], era, self._tried[name]) for era in reversed(Era)}

        trials = dict(zip(self._tried, await asyncio.gather(*map(try_both, self._tried)), strict=True))
        print(render_table(self._tried, self._urls, trials), flush=True)
        faults = [f"{name}, {era}: {t.fault}" for name, tried in trials.items() for era, t in tried.items() if t.fault]
        if faults:
            raise DemoFailed("\n".join(["not every tool could be called through the gateway:", *faults]))

    def _tell(self, name: str, line: str) -> None:
        """A child's line: shown from when the table stands, so that nothing runs through it, to the end."""
        if self._is_up and not self._is_ending:
            text = line if self._colours else _ESCAPES.sub("", line)
            print(text if name == "gateway" else f"{name}: {text}", flush=True)


async def _is_ready(client: "httpx2.AsyncClient", url: str) -> bool:
    import httpx2

    with suppress(httpx2.TransportError):
        return (await client.get(url)).status_code == 200
    return False


def write_config(config: Path, endpoints: Mapping[str, str]) -> None:
    """Writes the configuration that the gateway runs, as a file that may be edited."""
    lines = [
        "# What `mcp-gateway demo` runs. A change is taken up at once; the file is removed at the end.",
        "drain: {delay: 0s}  # no load balancer has to learn of its end",
        "backends:",
    ]
    for name, url in endpoints.items():
        lines += [f"  {name}:", f"    endpoints: [{url}]"]
    lines += ["aggregates:", f"  {ALL}: {{mount: /}}  # all of them as one server, at /mcp"]
    config.write_text("\n".join([*lines, ""]), "utf-8")


def render_table(samples: "Mapping[str, Sample]", urls: "Urls", trials: "Mapping[str, Mapping[Era, Trial]]") -> str:
    """One line a backend, and one for all as one: its tools, what was called, how either era did, its URL."""
    rows = [["backend", "tools", "called", *(_ERA_TITLES[era] for era in next(iter(trials.values()))), "URL"]]
    for name, tried in trials.items():
        tools = str(max(trial.tools for trial in tried.values()))
        eras = ["✗ failed" if trial.fault else f"✓ {trial.milliseconds:.0f} ms" for trial in tried.values()]
        arguments = ", ".join(f"{key}={value!r}" for key, value in samples[name].arguments.items())
        rows.append([name, tools, f"{samples[name].tool}({arguments})", *eras, urls[name]])
    return "\n".join(["", *align(rows), ""])


_ERA_TITLES: Final = {"modern": "2026-07-28", "legacy": "2025-11-25"}


def render_advice(urls: "Urls", origin: str, config: Path) -> str:
    """How to connect each client to all backends at once, and where to look."""
    from gateway.commands import snippets

    parts = {
        "Claude Code": snippets.claude_code(urls),
        "VS Code (or write .vscode/mcp.json)": [*snippets.vs_code(urls), *snippets.vs_code_file(urls)],
        "Cursor (.cursor/mcp.json)": snippets.cursor_file(urls),
        "MCP Inspector": snippets.inspector(next(iter(urls.values()))),
        "One backend alone": ["in the same way, at its URL in the table above"],
        "The gateway itself": [
            f"curl {origin}/health    curl {origin}/metrics",
            f"its configuration, which you may change while it runs: {config}",
        ],
    }
    lines = [line for title, told in parts.items() for line in (title, *_indent(told), "")]
    return "\n".join([*lines, "Ctrl-C ends it all. From here on: one line for each call that goes through.", ""])


def _indent(lines: Sequence[str]) -> list[str]:
    return [f"  {line}" for line in lines]
