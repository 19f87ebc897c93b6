"""The labels that callers could make endless: methods and tools by name, each from a bounded set."""

from typing import Final

from mcp_types.methods import CLIENT_NOTIFICATIONS, CLIENT_REQUESTS

from gateway.ports import Record
from gateway.protocol.outcomes import Outcome

TOOLS_PER_BACKEND: Final = 200
"""Names that get series of their own, for each backend and worker. Beyond it a call counts as `_other`."""

UNPROVEN_TOOLS_PER_BACKEND: Final = 100
"""How many of them calls without success may take: invented names must not crowd out a backend's real tools."""

TOOL_NAME_CHARACTERS: Final = 128
"""A longer name counts as `_other`: the specification allows no more (2025-11-25, server/tools, "Tool Names")."""

OTHER: Final = "_other"
NO_METHOD: Final = "_none"
WITHOUT_METHOD: Final = {"GET": "_listen", "DELETE": "_end"}
"""What stands for the method of an exchange without a JSON-RPC method, by HTTP method. The rest are `_none`: a POST
that carries a response, or a body that can't be read."""

_TASK_METHODS: Final = ("tasks/get", "tasks/list", "tasks/result", "tasks/cancel", "notifications/tasks/status")
METHODS: Final = frozenset(name for name, _ in (*CLIENT_REQUESTS, *CLIENT_NOTIFICATIONS)).union(_TASK_METHODS)
"""The methods that clients may send, in any version. 2025-11-25's experimental tasks are missing in the SDK's table."""


def name_method(record: Record) -> str:
    """The bounded label for what was asked: an MCP method, or `_other`, `_listen`, `_end`, `_none`."""
    if record.method:
        return record.method if record.method in METHODS else OTHER
    return WITHOUT_METHOD.get(record.http_method, NO_METHOD)


class ToolNames:
    """The tools that have series of their own."""

    def __init__(self) -> None:
        self._known: dict[str, set[str]] = {}

    def name(self, record: Record) -> str:
        """The tool's own name while there is room for it, else `_other`."""
        known, name = self._known.setdefault(record.backend, set()), record.name
        if name in known:
            return name
        room = TOOLS_PER_BACKEND if record.outcome is Outcome.OK else UNPROVEN_TOOLS_PER_BACKEND
        if len(known) >= room or not 0 < len(name) <= TOOL_NAME_CHARACTERS:
            return OTHER
        known.add(name)
        return name
