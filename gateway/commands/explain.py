"""`mcp-gateway explain`: whether somebody may do something, and which grant decides it. Starts and calls nothing."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gateway.commands.check import print_problems

if TYPE_CHECKING:
    from gateway.commands.ways import Way
    from gateway.policy.explanations import Explanation
    from gateway.policy.identities import Identity
    from gateway.policy.sites import Site
    from gateway.protocol.catalogues import Kind

_DESCRIPTION = """\
Say whether somebody may do something at a backend, and which of the configuration's `grants:` decides it, with its place
in the file. Asks nobody: who it is, and which groups and scopes they have, is what you say.
"""
_EPILOG = """\
examples:
  mcp-gateway explain --config gateway.yaml --principal 'https://login.example.com alice' --group support --tool math__add
  mcp-gateway explain --config gateway.yaml --principal 'key nightly-report' --backend docs --resource docs://public/a
  mcp-gateway explain --config gateway.yaml --group support --backend math --method logging/setLevel
  mcp-gateway explain --config gateway.yaml --mount /support --prompt greet --json

A principal is spelt as the access log has it: an issuer and its subject, `key NAME` (whose groups and scopes are those of the
configuration unless others are given), `proxy USER`. Without one, and without groups and scopes, it is somebody unknown.
A tool or prompt may be named as an aggregate shows it (math__add). Exit codes: 0 allowed, 1 denied, 2 for a wrong command
line or configuration.
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "explain",
        help="say who may do what, and which grant decides it",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", metavar="FILE", type=Path, help="the configuration file (default: $MCPGW_CONFIG)")
    parser.add_argument("--principal", metavar="P", default="", help="who it is")
    parser.add_argument("--group", metavar="G", action="append", default=[], help="a group of theirs; may be repeated")
    parser.add_argument("--scope", metavar="S", action="append", default=[], help="a scope; may be repeated")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--tool", metavar="T", help="to call this tool")
    what.add_argument("--prompt", metavar="T", help="to get this prompt")
    what.add_argument("--resource", metavar="URI", help="to read this resource")
    parser.add_argument("--method", metavar="M", help="to use this method, alone or about one of the former")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--backend", metavar="B", help="at this backend")
    where.add_argument("--mount", metavar="/X", help="at what is mounted there")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from gateway.commands.ways import Unclear, find_way
    from gateway.settings.configurations import load
    from gateway.settings.problems import ConfigurationInvalid

    try:
        site = load(args.config).site
        method, kind, name = read_question(args)
        identity = read_identity(args, site)
        way = find_way(site, kind, name, args.backend, args.mount)
    except ConfigurationInvalid as invalid:
        return print_problems(invalid)
    except Unclear as unclear:
        print(f"mcp-gateway explain: {unclear}", file=sys.stderr)
        return 2
    told = decide(site, identity, way, method, kind)
    what = Asked(identity, way, method, kind)
    print(what.encode(told) if args.json else what.describe(told))
    return 0 if told.is_allowed else 1


def read_question(args: argparse.Namespace) -> "tuple[str, Kind | None, str | None]":
    """Method, kind and name. Raises `Unclear` where too little is told."""
    from gateway.commands.ways import Unclear
    from gateway.policy.rules import COMPLETION, KINDS, USES
    from gateway.protocol.catalogues import Kind

    named = {Kind.TOOL: args.tool, Kind.PROMPT: args.prompt, Kind.RESOURCE: args.resource}
    kind, name = next(((kind, name) for kind, name in named.items() if name is not None), (None, None))
    if kind is not None:
        method = args.method or USES[kind]
        if method != COMPLETION and KINDS.get(method) is not kind:
            raise Unclear(f"{method} is not about a {kind}: leave one of them out")
        return method, kind, name
    if args.method is None:
        raise Unclear("say what is to be done: --tool, --prompt, --resource or --method")
    if args.method == COMPLETION or args.method in KINDS:
        wanted = KINDS.get(args.method)
        raise Unclear(f"{args.method} is about something: add {f'--{wanted}' if wanted else '--prompt or --resource'}")
    return args.method, None, None


def read_identity(args: argparse.Namespace, site: "Site") -> "Identity":
    """Who it is. Of an API key the configuration knows the groups and scopes. Raises `Unclear` for a key that isn't there."""
    from gateway.commands.ways import Unclear
    from gateway.policy.identities import Identity

    told = Identity(args.principal, frozenset(args.group), frozenset(args.scope))
    word, _, name = args.principal.partition(" ")
    if word != "key" or site.admission is None:
        return told
    key = next((key for key in site.admission.api_keys if key.name == name), None)
    if key is None:
        known = ", ".join(key.name for key in site.admission.api_keys) or "none"
        raise Unclear(f"there is no API key {name!r}: known are {known}")
    return Identity(args.principal, told.groups or key.groups, told.scopes or key.scopes)


def decide(site: "Site", identity: "Identity", way: "Way", method: str, kind: "Kind | None") -> "Explanation":
    """What the gateway would do, and why."""
    from gateway.policy.explanations import Explanation, explain
    from gateway.policy.identities import ANONYMOUS

    admission = site.admission
    if admission is not None and not admission.anonymous and identity == ANONYMOUS:
        return Explanation(False, "nobody is let in without saying who they are: `auth` has no `anonymous: true`")
    if kind is not None and way.aggregate is not None and way.is_hidden(kind):
        key = f"aggregates.{way.aggregate.name}"
        return Explanation(False, "the aggregate doesn't show it, whoever asks: its `allow` and `deny` say so", key)
    return explain(site.grants, identity, way.backend, method, kind, way.name)


class Asked(NamedTuple):
    """What was asked, to be told beside the decision."""

    identity: "Identity"
    way: "Way"
    method: str
    kind: "Kind | None"

    def describe(self, told: "Explanation") -> str:
        """Some lines, the decision first."""
        who, way = self.identity, self.way
        rows = [("rule", told.rule), ("at", told.place), ("who", who.principal or "somebody without a name")]
        rows += [("groups", ", ".join(sorted(who.groups))), ("scopes", ", ".join(sorted(who.scopes)))]
        what = self.method if self.kind is None else f"{self.method}, the {self.kind} {way.name}"
        rows += [("what", what), ("backend", way.backend)]
        lines = [f"{'allowed' if told.is_allowed else 'denied'}: {told.reason}"]
        lines += [f"  {key:<8} {value}" for key, value in rows if value]
        if told.scopes:
            lines.append(f"it would be allowed with the scopes {' '.join(told.scopes)}")
        return "\n".join(lines)

    def encode(self, told: "Explanation") -> str:
        """One JSON object."""
        who, way = self.identity, self.way
        fields: dict[str, Any] = {
            "allowed": told.is_allowed,
            "reason": told.reason,
            "rule": told.rule or None,
            "place": told.place or None,
            "needed_scopes": list(told.scopes),
            "principal": who.principal or None,
            "groups": sorted(who.groups),
            "scopes": sorted(who.scopes),
            "backend": way.backend,
            "method": self.method,
            "kind": self.kind,
            "name": way.name,
        }
        return json.dumps(fields, ensure_ascii=False, indent=2)
