"""`mcp-gateway check`: all that is wrong with a configuration, or what it amounts to. Starts and calls nothing."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.policy.aggregates import Aggregate, Member
    from gateway.policy.grants import Audience
    from gateway.policy.rules import Rules
    from gateway.policy.sites import Site
    from gateway.settings.problems import ConfigurationInvalid
    from gateway.settings.settings import Settings

_DESCRIPTION = """\
Check a configuration without starting anything. Prints every mistake as `file:line:column: key: message` to standard
error and exits 2, or prints what the configuration amounts to and exits 0.
"""
_EPILOG = """\
example:
  mcp-gateway check --config gateway.yaml

The environment counts as it would for `serve`: ${NAME} and MCPGW_... variables must be set.
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "check",
        help="say all that is wrong with a configuration",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", metavar="FILE", type=Path, help="the configuration file (default: $MCPGW_CONFIG)")
    parser.add_argument("--host", metavar="H", help="check as if served at this address")
    parser.add_argument("--port", metavar="P", help="check as if served at this port")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from gateway.settings.configurations import load
    from gateway.settings.problems import ConfigurationInvalid

    try:
        settings = load(args.config, overrides={"host": args.host, "port": args.port})
    except ConfigurationInvalid as invalid:
        return print_problems(invalid)
    print(summarize(settings))
    return 0


def print_problems(invalid: "ConfigurationInvalid") -> int:
    """Prints every mistake to standard error; the exit code that goes with them."""
    count = len(invalid.problems)
    print(*invalid.problems, sep="\n", file=sys.stderr)
    print(f"{count} problem{'s' if count > 1 else ''} found", file=sys.stderr)
    return 2


def summarize(settings: "Settings") -> str:
    """What the configuration amounts to, in a few lines."""
    from gateway.settings.settings import doubts

    bracketed = f"[{settings.host}]" if ":" in settings.host else settings.host
    origin = settings.site.public_url or f"http://{bracketed}:{settings.port}"
    rows = [("backend", "url", "endpoints")]
    for backend in settings.site.backends.values():
        url = f"{origin}{backend.mount}/mcp" if backend.mount else "(hidden)"
        rows.append((backend.name, url, " ".join(_without_query(url) for url in backend.endpoints)))
    parts = [align(rows), align_aggregates(settings.site.aggregates.values(), origin), align_grants(settings.site)]
    keys = "made at start" if settings.session_keys_generated else str(len(settings.session_keys))
    facts = [
        f"listens on {bracketed}:{settings.port} with {settings.workers} worker{'s' if settings.workers > 1 else ''}",
        f"session keys: {keys}; digest: {settings.site.digest}",
    ]
    tables = [line for part in parts if part for line in (*part, "")]
    return "\n".join([*tables, *facts, *(f"warning: {doubt}" for doubt in doubts(settings)), "ok"])


def align_aggregates(aggregates: "Iterable[Aggregate]", origin: str) -> list[str]:
    """A table of what is served as one, each backend with the prefix that its names get; empty where nothing is."""
    rows = [
        (one.name, f"{origin}{one.mount.rstrip('/')}/mcp", ", ".join(map(_describe, one.members))) for one in aggregates
    ]
    return align([("aggregate", "url", "backends"), *rows]) if rows else []


def align_grants(site: "Site") -> list[str]:
    """A table of who may do what; empty where everybody may do everything."""
    if site.grants is None:
        return []
    rows = [
        (one.key, _name(one.to), ", ".join(one.backends), _list(one.allow) or "-", _list(one.deny) or "-")
        for one in site.grants.grants
    ]
    return align([("grant", "to", "backends", "allow", "deny"), *rows])


def _name(to: "Audience") -> str:
    if to.is_anybody:
        return "anybody"
    named = [*to.principals, *(f"group {group}" for group in to.groups)]
    scopes = f"scope {' '.join(to.scopes)}" if to.scopes else ""
    return " with ".join(part for part in (" or ".join(named), scopes) if part)


def _list(rules: "Rules") -> str:
    told = {"tools": rules.tools, "prompts": rules.prompts, "resources": rules.resources, "methods": rules.methods}
    return "; ".join(f"{key} {', '.join(globs)}" for key, globs in told.items() if globs)


def _describe(member: "Member") -> str:
    if member.is_bare:
        return f"{member.backend} (no prefix)"
    return member.backend if member.prefix == member.backend else f"{member.backend} as {member.prefix}"


def _without_query(url: str) -> str:
    return url.partition("?")[0]


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows as lines, their columns one below the other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
