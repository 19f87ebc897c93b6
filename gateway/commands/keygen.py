"""`mcp-gateway keygen`: a new session key on standard output."""

import argparse

_DESCRIPTION = "Print a new session key: 32 random bytes, base64url."
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
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "keygen",
        help="make a session key",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)


def run(_args: argparse.Namespace) -> int:
    from gateway.settings.session_keys import make_key

    print(make_key())
    return 0
