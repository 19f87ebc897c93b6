"""`mcp-gateway serve`: the gateway itself, until SIGTERM or SIGINT."""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from socket import socket

    from gateway.downstream.servers import Application
    from gateway.settings.settings import Settings

    Reload = Callable[[], Settings]
    Create = Callable[[Settings, Reload], Application]

_DESCRIPTION = """\
Serve MCP at every mount of a configuration. The file is watched: a changed one is taken up without dropping a
connection, an invalid one is refused and logged, and the one before goes on.
"""
_EPILOG = """\
examples:
  mcp-gateway serve --config gateway.yaml
  mcp-gateway serve --config gateway.yaml --host 0.0.0.0 --port 8080 --workers 4
  mcp-gateway serve --config gateway.yaml --log-level debug     # why can't my client connect?

What a flag says stands over MCPGW_... variables, and these over the file.

SIGTERM ends it as load balancers need it: unready at once, serving for `drain.delay`, then up to `drain.grace` for what
is under way. Ctrl-C leaves the delay out. A second signal ends it at once.

Exit codes: 0 after SIGTERM or SIGINT, 128 + the signal after a second one, 2 if the configuration is invalid or a port
can't be had.
"""

_NO_FOLDER = (
    "several workers share their metrics in a folder, and there is no place for one ({}): "
    "set PROMETHEUS_MULTIPROC_DIR or TMPDIR to a folder that can be written to, or use one worker"
)


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "serve",
        help="run the gateway",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", metavar="FILE", type=Path, help="the configuration file (default: $MCPGW_CONFIG)")
    parser.add_argument("--host", metavar="H", help="the address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", metavar="P", help="the port to listen on (default: 8080)")
    parser.add_argument("--workers", metavar="N", help="how many processes serve (default: 1)")
    parser.add_argument("--log-level", metavar="L", help="debug, info (default), warning or error")
    parser.add_argument("--log-format", metavar="F", help="json, pretty or auto (default): pretty on a terminal")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, create: "Create | None" = None) -> int:
    """Serves until told to end; the exit code. `create` makes the application in each worker, `gateway.app`'s if None."""
    from gateway.commands.check import print_problems
    from gateway.settings.configurations import load
    from gateway.settings.problems import ConfigurationInvalid

    overrides = {
        "host": args.host,
        "port": args.port,
        "workers": args.workers,
        "log.level": args.log_level,
        "log.format": args.log_format,
    }
    try:
        settings = load(args.config, overrides=overrides)
    except ConfigurationInvalid as invalid:
        return print_problems(invalid)
    return serve(settings, lambda: load(args.config, overrides=overrides), create)


def serve(settings: "Settings", reload: "Reload", create: "Create | None" = None) -> int:
    """Serves what the settings say until told to end; `reload` reads them again. The exit code."""
    from gateway.downstream.listeners import Unavailable

    try:
        folder = _share_metrics(settings.workers)
    except OSError as error:
        print(f"mcp-gateway: {_NO_FOLDER.format(error)}", file=sys.stderr)
        return 2
    try:
        listeners, admin_listeners = _listen(settings)
    except Unavailable as unavailable:
        print(f"mcp-gateway: {unavailable}", file=sys.stderr)
        if folder is not None:
            folder.rmdir()
        return 2
    _announce(settings, listeners, admin_listeners)
    return _run(settings, reload, create, listeners, admin_listeners, folder)


def _share_metrics(workers: int) -> Path | None:
    """Where several workers keep their numbers. It must be told before prometheus-client is imported."""
    configured = os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
    if workers == 1:
        return None  # one worker keeps them in memory, whatever the variable says
    if "prometheus_client" in sys.modules:
        raise RuntimeError("prometheus_client was imported too early: the workers' metrics would not be shared")
    # A folder of this run's own: what another run left would be counted again.
    folder = tempfile.mkdtemp(prefix="mcp-gateway-metrics-", dir=configured)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    return Path(folder)


def _listen(settings: "Settings") -> "tuple[list[socket], list[socket]]":
    """The listening sockets of both ports. Raises `Unavailable`."""
    from gateway.downstream.listeners import Place, close, listen

    listeners = listen(Place(settings.host, settings.port))
    if settings.admin_port is None:
        return listeners, []
    try:
        admin = Place(settings.admin_host, settings.admin_port, "`admin.host`", "`admin.port`")
        return listeners, listen(admin)
    except BaseException:
        close(listeners)
        raise


def _announce(settings: "Settings", listeners: "list[socket]", admin_listeners: "list[socket]") -> None:
    """Lets all that is logged from now on come out in one form, and says where the gateway listens."""
    import logging

    from gateway.downstream.listeners import port_of
    from gateway.settings.settings import doubts
    from gateway.telemetry.logs import Logs

    Logs(settings.log_level, settings.log_format).route_stdlib()
    logger = logging.getLogger("gateway.serve")
    for doubt in doubts(settings):
        logger.warning(doubt)
    facts: dict[str, object] = {"url": _spell(settings.host, port_of(listeners)), "workers": settings.workers}
    if admin_listeners:
        facts["admin_url"] = _spell(settings.admin_host, port_of(admin_listeners))
    logger.info("listening", extra={**facts, "configuration": settings.site.digest})


def _spell(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _run(
    settings: "Settings",
    reload: "Reload",
    create: "Create | None",
    listeners: "list[socket]",
    admin_listeners: "list[socket]",
    folder: Path | None,
) -> int:
    from gateway.downstream.protocols import GatewayProtocol
    from gateway.downstream.servers import Plan, run_one

    make = create or _import_app()
    plan = Plan(
        lambda: make(_refresh(settings, reload), reload), GatewayProtocol, listeners, admin_listeners, settings.drain
    )
    if folder is None:
        return run_one(plan)
    from gateway.downstream.workers import run_many

    return run_many(plan, settings.workers, folder)


def _import_app() -> "Create":
    """The real application's factory. Imported before there are workers, so that they share what it brings along."""
    from gateway.app import create_app

    return create_app


def _refresh(settings: "Settings", reload: "Reload") -> "Settings":
    """The settings for a worker that starts now: of one that replaces another, the file may have changed meanwhile."""
    import logging

    from gateway.settings.problems import ConfigurationInvalid
    from gateway.settings.watches import keep_generated_keys

    try:
        return keep_generated_keys(settings, reload())
    except ConfigurationInvalid as invalid:
        problems = list(map(str, invalid.problems))
        logging.getLogger("gateway.serve").error(
            "configuration refused, the one that the gateway started with is used", extra={"problems": problems}
        )
        return settings
