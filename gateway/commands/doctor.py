"""`mcp-gateway doctor`: why a client can't connect to an MCP server, from its name to its streams."""

import argparse
import asyncio
import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import ssl

    from gateway.commands.diagnosis.findings import Chart, Finding
    from gateway.commands.diagnosis.targets import Target

_COLUMN: Final = 12
_MOST_SECONDS: Final = 600

_DESCRIPTION = """\
Examine an MCP server as a client meets it: name and addresses, TCP, TLS, both handshakes (server/discover of 2026-07-28,
initialize of 2025-11-25), sessions on several connections, streams and what holds them back, the end of a session, the
URL's other spelling, CORS, OAuth metadata. Each finding says what was seen and how to mend it. No tool is called.
"""
_EPILOG = """\
examples:
  mcp-gateway doctor http://127.0.0.1:8080/echo/mcp
  mcp-gateway doctor https://mcp.example.com/echo/mcp --header "Authorization: Bearer $TOKEN"
  mcp-gateway doctor https://mcp.example.com/echo/mcp --json | jq '.findings[] | select(.verdict != "fine")'

Signs: ✓ fine, ! some clients will have trouble, ✗ a client fails by it. Exit codes: 0 without ✗, 1 with, 2 for a wrong
command line. What --header sends is never printed.
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "doctor",
        help="say why a client can't connect to a URL",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("url", metavar="URL", help="the MCP endpoint, as the client is given it")
    parser.add_argument(
        "--header",
        metavar="'NAME: VALUE'",
        action="append",
        default=[],
        help="send this too; may be given several times",
    )
    parser.add_argument(
        "--timeout", metavar="S", type=_seconds, default=10.0, help="for each answer (default: 10 seconds)"
    )
    parser.add_argument("--ca-file", metavar="FILE", type=Path, help="PEM file of roots to trust besides the system's")
    parser.add_argument(
        "--origin",
        metavar="URL",
        default="http://localhost:6274",
        help="the web page to ask leave for (default: the MCP Inspector's, %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    parser.set_defaults(run=run)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds between 0 and {_MOST_SECONDS}")
    return seconds


def run(args: argparse.Namespace) -> int:
    """Examines the URL; the exit code."""
    from gateway.commands.diagnosis.examinations import examine
    from gateway.commands.diagnosis.findings import Chart, Verdict
    from gateway.commands.diagnosis.targets import parse_target

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that can't show ✓ still gets the rest
    try:
        target = parse_target(args.url, args.header)
        trust = _load_trust(args.ca_file)
    except ValueError as error:
        print(f"mcp-gateway doctor: {error}", file=sys.stderr)
        return 2
    chart = Chart(target.secrets, _ignore if args.json else _print_finding)
    asyncio.run(examine(target, chart, trust, args.timeout, args.origin))
    print(encode_chart(target, chart) if args.json else summarize(chart))
    return 1 if chart.count(Verdict.FAULTY) else 0


def _load_trust(ca_file: Path | None) -> "ssl.SSLContext":
    """The system's roots, those that SSL_CERT_FILE names, and the file's. Raises ValueError."""
    import ssl

    trust = ssl.create_default_context()
    if ca_file is not None:
        try:
            trust.load_verify_locations(ca_file)
        except OSError as error:  # ssl.SSLError is one: the file holds no certificate
            raise ValueError(f"--ca-file {ca_file}: {error.strerror or error}") from error
    return trust


def _ignore(_finding: "Finding") -> None:
    pass


def _print_finding(finding: "Finding") -> None:
    from gateway.commands.diagnosis.findings import SIGNS

    print(f"{SIGNS[finding.verdict]} {finding.check:<{_COLUMN}}{finding.seen}")
    if finding.mend:
        print(f"  {'':<{_COLUMN}}→ {finding.mend}", flush=True)


def summarize(chart: "Chart") -> str:
    """The last line."""
    from gateway.commands.diagnosis.findings import Verdict

    faults, doubts = chart.count(Verdict.FAULTY), chart.count(Verdict.DOUBTFUL)
    if faults:
        return f"{faults} of {len(chart.findings)} checks failed"
    return (
        f"nothing is broken; {doubts} of {len(chart.findings)} checks found something to look at"
        if doubts
        else "all is fine"
    )


def encode_chart(target: "Target", chart: "Chart") -> str:
    """One JSON object: url, fine, findings."""
    from gateway.commands.diagnosis.findings import Verdict

    findings = [
        {"check": f.check, "verdict": str(f.verdict), "seen": f.seen, "mend": f.mend or None} for f in chart.findings
    ]
    fine = chart.count(Verdict.FAULTY) == 0
    return json.dumps({"url": target.shown, "fine": fine, "findings": findings}, ensure_ascii=False, indent=2)
