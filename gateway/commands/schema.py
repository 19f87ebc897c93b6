"""`mcp-gateway schema`: the configuration file's JSON Schema on standard output."""

import argparse

_DESCRIPTION = "Print the JSON Schema of the configuration file, for editors and for programs that write such files."
_EPILOG = """\
example:
  mcp-gateway schema > gateway.schema.json

then, as the first line of a configuration file, for editors with a YAML language server:
  # yaml-language-server: $schema=gateway.schema.json
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "schema",
        help="print the configuration's JSON Schema",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)


def run(_args: argparse.Namespace) -> int:
    from gateway.settings.schemas import encode_schema

    print(encode_schema(), end="")
    return 0
