"""What a grant allows or denies: globs over the names of things and over methods, and which method is about which thing."""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from gateway.protocol.catalogues import LIST_METHODS, Kind

Subject = Literal["tools", "prompts", "resources", "methods"]
"""The key of a rule: what it is about."""

SUBJECTS: Final[Mapping[Kind, Subject]] = {
    Kind.TOOL: "tools",
    Kind.PROMPT: "prompts",
    Kind.RESOURCE: "resources",
    Kind.TEMPLATE: "resources",  # judged as it is spelt; what it is filled with is judged when that is read
}

KINDS: Final[Mapping[str, Kind]] = {
    "tools/call": Kind.TOOL,
    "prompts/get": Kind.PROMPT,
    "resources/read": Kind.RESOURCE,
    "resources/subscribe": Kind.RESOURCE,
}
"""What a method names, which decides. `completion/complete` is about either kind of thing: its `ref` says which."""

USES: Final[Mapping[Kind, str]] = {
    Kind.TOOL: "tools/call",
    Kind.PROMPT: "prompts/get",
    Kind.RESOURCE: "resources/read",
    Kind.TEMPLATE: "resources/read",
}
"""For what something is listed: who may not do that isn't shown it."""

COMPLETION: Final = "completion/complete"

_LIFE: Final = frozenset(
    {
        "",  # a response, a GET, a DELETE: of a session that was let in
        *("initialize", "server/discover", "ping", "logging/setLevel"),
        *("subscriptions/listen", "resources/unsubscribe"),
        *LIST_METHODS,  # what they list is filtered
    }
)
_LIFE_PREFIXES: Final = ("notifications/", "tasks/")  # tasks are their principal's


KNOWN_METHODS: Final = frozenset({*_LIFE, *KINDS, COMPLETION} - {""})
"""Those of clients that a rule may name, without those of families (`_LIFE_PREFIXES`)."""


def is_of_life(method: str) -> bool:
    """Whether the protocol can't live without the method: whoever may do anything at a backend may use it there."""
    return method in _LIFE or method.startswith(_LIFE_PREFIXES)


class Rules(msgspec.Struct, frozen=True):
    """Globs over a backend's own names, of resources their URIs, and over methods, by which everything is meant that they do."""

    tools: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()

    def of(self, subject: Subject) -> tuple[str, ...]:
        match subject:
            case "tools":
                return self.tools
            case "prompts":
                return self.prompts
            case "resources":
                return self.resources
            case "methods":
                return self.methods

    @property
    def is_empty(self) -> bool:
        return not (self.tools or self.prompts or self.resources or self.methods)


EVERYTHING: Final = Rules(methods=("*",))
NOTHING: Final = Rules()
