"""`mcp-gateway keygen`: a new session key, or API key, on standard output."""

import argparse
import sys

_DESCRIPTION = (
    "Print a new session key: 32 random bytes, base64url. Or, with --api-key, a new key for a program that calls."
)
_EPILOG = """\
example:
  export MCPGW_SESSION_KEYS=$(mcp-gateway keygen)
  mcp-gateway serve --config gateway.yaml

Session keys seal the sessions that clients hold. Every replica needs the same ones. They are a ring, apart by commas
(or one a line in `session_keys_file`): the first seals, all of them open.

to rotate without ending a session:
  1. add the new key last, on every replica     (all can open what it will seal)
  2. move it first, on every replica            (from now on it seals)
  3. wait until the sessions of the old key have ended: a day is plenty
  4. remove the old key
A key file or a changed configuration file is read again at once; environment variables need a restart.

  mcp-gateway keygen --api-key nightly-report
prints an API key, for its holder alone (standard output), and the lines for `auth.api_keys`, which hold no secret (standard
error). To rotate it: add the new one under another name, let its holder change over, remove the old one.
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "keygen",
        help="make a session key",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--api-key", metavar="NAME", help="make an API key, whose holder will be known by NAME")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if args.api_key is not None:
        return print_api_key(args.api_key)
    from gateway.settings.session_keys import make_key

    print(make_key())
    return 0


def print_api_key(name: str) -> int:
    from gateway.identity.api_keys import make_api_key
    from gateway.settings.admissions import check_key_name

    try:
        check_key_name(name)
    except ValueError as error:
        print(f"mcp-gateway keygen: {error}", file=sys.stderr)
        return 2
    key, digest = make_api_key()
    print(f"# for `auth.api_keys`:\n- name: {name}\n  sha256: {digest}", file=sys.stderr)
    print(key)
    return 0
