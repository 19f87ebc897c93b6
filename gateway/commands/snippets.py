"""How one connects an MCP client to a URL: the line to type, or the file to write, for each client. Pure."""

import json
import shlex
from collections.abc import Mapping

Urls = Mapping[str, str]
"""name → URL of its MCP endpoint"""


def claude_code(urls: Urls) -> list[str]:
    """One line a server, to type in a project's folder (https://code.claude.com/docs/en/mcp)."""
    return [f"claude mcp add --transport http {shlex.quote(name)} {shlex.quote(url)}" for name, url in urls.items()]


def vs_code(urls: Urls) -> list[str]:
    """One line a server, for the user's profile (https://code.visualstudio.com/docs/copilot/chat/mcp-servers)."""
    servers = [json.dumps({"name": name, "type": "http", "url": url}) for name, url in urls.items()]
    return [f"code --add-mcp {shlex.quote(server)}" for server in servers]


def vs_code_file(urls: Urls) -> list[str]:
    """The lines of a project's `.vscode/mcp.json`."""
    return _file("servers", {name: {"type": "http", "url": url} for name, url in urls.items()})


def cursor_file(urls: Urls) -> list[str]:
    """The lines of a project's `.cursor/mcp.json` (https://cursor.com/docs/context/mcp)."""
    return _file("mcpServers", {name: {"url": url} for name, url in urls.items()})


def _file(key: str, servers: Mapping[str, Mapping[str, str]]) -> list[str]:
    """A JSON file of one object, a line for each server."""
    members = [f"  {json.dumps(name)}: {json.dumps(server)}," for name, server in servers.items()]
    return [f"{{{json.dumps(key)}: {{", *members[:-1], *(last.removesuffix(",") for last in members[-1:]), "}}"]


def inspector(url: str) -> list[str]:
    """The MCP Inspector: its answer on the terminal, and its page in a browser (version 2 on)."""
    program = "npx @modelcontextprotocol/inspector"
    quoted = shlex.quote(url)
    return [
        f"{program} --cli {quoted} --transport http --method tools/list",
        f"{program} --server-url {quoted} --transport http",
    ]
