"""What a backend may say has changed: of one kind are all its lists, of the other single resources.

Each such notification is a level trigger: it says that it is time to look, not what there is to see. So two of them say no
more than one (2026-07-28, basic/patterns/subscriptions).
"""

from enum import StrEnum


class Change(StrEnum):
    """A list that may change: `notifications/{change}/list_changed`."""

    TOOLS = "tools"
    PROMPTS = "prompts"
    RESOURCES = "resources"
