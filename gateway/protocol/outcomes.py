"""How an exchange can end: one closed enum, and one table for all who must agree on it.

The same word stands in logs, metrics and code. What the gateway refuses or fails is raised as `Rejected` (the
protocol said no), `Denied` (the policy said no) or `Failed` (the world said no); each carries an `Outcome`, and
`STATUS` says which HTTP status and which JSON-RPC code the client gets for it.

An outage is never a 4xx: the SDK clients take a 4xx for a backend of the other era (design §11).
"""

from enum import StrEnum
from typing import Any, Final, NamedTuple


class Outcome(StrEnum):
    """The closed list of endings. Rows of `STATUS` follow this order."""

    OK = "ok"
    RPC_ERROR = "rpc_error"  # the backend answered with a JSON-RPC error: the exchange itself went well
    TOOL_ERROR = "tool_error"  # a tool's result with `isError`
    BACKEND_REFUSED = "backend_refused"  # the backend answered 4xx without a JSON-RPC error
    CLIENT_LEFT = "client_left"

    # the protocol says no: `Rejected`
    PARSE_ERROR = "parse_error"
    INVALID_REQUEST = "invalid_request"
    INVALID_PARAMS = "invalid_params"
    AMBIGUOUS = "ambiguous"
    HEADER_MISMATCH = "header_mismatch"
    UNSUPPORTED_VERSION = "unsupported_version"
    ERA_MISMATCH = "era_mismatch"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    TOO_LARGE = "too_large"
    BODY_TIMEOUT = "body_timeout"
    UNKNOWN_SESSION = "unknown_session"
    UNKNOWN_NAME = "unknown_name"  # no member of an aggregate has it, or none that may be seen
    UNKNOWN_METHOD = "unknown_method"

    # the policy says no: `Denied`
    HOST_DENIED = "host_denied"
    ORIGIN_DENIED = "origin_denied"
    NOT_GRANTED = "not_granted"  # known who it is, and that it may not
    UNAUTHENTICATED = "unauthenticated"  # nobody, or nobody who could prove it
    INSUFFICIENT_SCOPE = "insufficient_scope"
    LIMITED = "limited"  # more than it may ask for in a time

    # the world says no: `Failed`
    UNREACHABLE = "unreachable"  # no byte was sent: may be tried again, whatever the method
    BROKEN = "broken"  # the connection broke after something was sent
    TIMED_OUT = "timed_out"
    NONSENSE = "nonsense"  # the backend answered what MCP doesn't allow
    BACKEND_FAILED = "backend_failed"  # the backend answered 5xx
    BACKEND_UNAUTHORIZED = "backend_unauthorized"
    ISSUER_AWAY = "issuer_away"  # nobody can say now whether the token is good
    OVERLOADED = "overloaded"
    DRAINING = "draining"
    INTERNAL = "internal"  # our own fault


class Verdict(NamedTuple):
    """What a client gets for an outcome that the gateway itself reports."""

    http_status: int
    code: int  # JSON-RPC error code


PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
HEADER_MISMATCH: Final = -32020
UNSUPPORTED_PROTOCOL_VERSION: Final = -32022
# JSON-RPC leaves -32000..-32099 to implementations, and MCP took -32020..-32022 and -32042 of them (2026-07-28,
# basic/index "Error Codes"). The SDKs answer an unknown session with -32600 and an unexplained failure with -32603;
# clients know these two, so the gateway adds no code of its own and says more in `data`.

STATUS: Final[dict[Outcome, Verdict]] = {
    Outcome.OK: Verdict(200, 0),
    Outcome.RPC_ERROR: Verdict(200, 0),
    Outcome.TOOL_ERROR: Verdict(200, 0),
    Outcome.BACKEND_REFUSED: Verdict(400, INVALID_REQUEST),
    Outcome.CLIENT_LEFT: Verdict(499, INTERNAL_ERROR),
    Outcome.PARSE_ERROR: Verdict(400, PARSE_ERROR),
    Outcome.INVALID_REQUEST: Verdict(400, INVALID_REQUEST),
    Outcome.INVALID_PARAMS: Verdict(400, INVALID_PARAMS),
    Outcome.AMBIGUOUS: Verdict(400, INVALID_REQUEST),
    Outcome.HEADER_MISMATCH: Verdict(400, HEADER_MISMATCH),
    Outcome.UNSUPPORTED_VERSION: Verdict(400, UNSUPPORTED_PROTOCOL_VERSION),
    Outcome.ERA_MISMATCH: Verdict(400, INVALID_REQUEST),
    Outcome.NOT_FOUND: Verdict(404, INVALID_REQUEST),
    Outcome.METHOD_NOT_ALLOWED: Verdict(405, INVALID_REQUEST),
    Outcome.UNSUPPORTED_MEDIA_TYPE: Verdict(415, INVALID_REQUEST),
    Outcome.TOO_LARGE: Verdict(413, INVALID_REQUEST),
    Outcome.BODY_TIMEOUT: Verdict(408, INVALID_REQUEST),
    Outcome.UNKNOWN_SESSION: Verdict(404, INVALID_REQUEST),
    # 200: an SDK's legacy client takes any 4xx for the end of its session.
    Outcome.UNKNOWN_NAME: Verdict(200, INVALID_PARAMS),
    Outcome.UNKNOWN_METHOD: Verdict(200, METHOD_NOT_FOUND),
    Outcome.HOST_DENIED: Verdict(421, INVALID_REQUEST),
    Outcome.ORIGIN_DENIED: Verdict(403, INVALID_REQUEST),
    Outcome.NOT_GRANTED: Verdict(403, INVALID_REQUEST),
    Outcome.UNAUTHENTICATED: Verdict(401, INVALID_REQUEST),
    Outcome.INSUFFICIENT_SCOPE: Verdict(403, INVALID_REQUEST),
    # Its message isn't at fault, and may be sent again.
    Outcome.LIMITED: Verdict(429, INTERNAL_ERROR),
    Outcome.UNREACHABLE: Verdict(503, INTERNAL_ERROR),
    Outcome.BROKEN: Verdict(502, INTERNAL_ERROR),
    Outcome.TIMED_OUT: Verdict(504, INTERNAL_ERROR),
    Outcome.NONSENSE: Verdict(502, INTERNAL_ERROR),
    Outcome.BACKEND_FAILED: Verdict(502, INTERNAL_ERROR),
    Outcome.BACKEND_UNAUTHORIZED: Verdict(502, INTERNAL_ERROR),
    Outcome.ISSUER_AWAY: Verdict(503, INTERNAL_ERROR),
    Outcome.OVERLOADED: Verdict(429, INTERNAL_ERROR),
    Outcome.DRAINING: Verdict(503, INTERNAL_ERROR),
    Outcome.INTERNAL: Verdict(500, INTERNAL_ERROR),
}

COUNTS_AGAINST_ENDPOINT: Final = frozenset(
    {Outcome.UNREACHABLE, Outcome.BROKEN, Outcome.TIMED_OUT, Outcome.BACKEND_FAILED}
)
"""Outcomes that passive ejection counts. A client that left, or a backend that said no, is never the endpoint's fault."""


class Ended(Exception):
    """An exchange that ended before, or instead of, the backend's own answer.

    `message` is for the client's user and must say what is wrong and how to mend it, without internal addresses.
    `data` is merged into the JSON-RPC error's `data`. `code` and `status` override the table's.
    """

    def __init__(
        self,
        outcome: Outcome,
        message: str,
        *,
        data: dict[str, Any] | None = None,
        code: int | None = None,
        status: int | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.message = message
        self.data = data
        self.code = STATUS[outcome].code if code is None else code
        self.http_status = STATUS[outcome].http_status if status is None else status
        self.headers = headers
        self.request_id: int | str | None = None  # of the JSON-RPC request that this answers, once it is known


class Rejected(Ended):
    """The protocol said no: the client's message is at fault."""


class Denied(Ended):
    """The policy said no."""


class Failed(Ended):
    """The world said no: the backend, the network, or ourselves."""
