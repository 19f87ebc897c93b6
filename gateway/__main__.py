"""The command line. Each subcommand is a module of `gateway.commands` with `add_parser(subparsers)` and `run(args)`;
what is heavy is imported by `run`, so that `--help` answers at once.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Final

COMMANDS: Final = (
    "serve",
    "demo",
    "doctor",
    "check",
    "explain",
    "keygen",
    "schema",
)
"""In the order of `--help`. A new subcommand is a new line here."""

_EPILOG = """\
example:
  mcp-gateway check --config gateway.yaml

`mcp-gateway COMMAND --help` says more, with an example.
"""


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mcp-gateway",
        description="A horizontally scaled, stateless MCP gateway.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        importlib.import_module(f"gateway.commands.{command}").add_parser(subparsers)
    return parser


def _version() -> str:
    try:
        return version("mcp-stateless-gateway")
    except PackageNotFoundError:  # run from a source tree that isn't installed
        return "(not installed)"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command that `argv` (the process's own where None) names; its exit code."""
    args = make_parser().parse_args(argv)
    try:
        code: int = args.run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130  # 128 + SIGINT, as shells have it
    except (
        BrokenPipeError
    ):  # `mcp-gateway schema | head`: nobody reads on, and the interpreter's last flush mustn't fail
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # 128 + SIGPIPE
    return code


if __name__ == "__main__":
    sys.exit(main())
