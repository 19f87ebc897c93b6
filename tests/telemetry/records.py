"""Records of exchanges as the flow would leave them."""

import msgspec

from gateway.ports import Record
from gateway.protocol.outcomes import Outcome

STARTED = 100.0
ENDED = 100.004


def make_record(**changes: object) -> Record:
    """A tool call of 4 ms, 3 of them the backend's, with whatever is to be different."""
    record = Record(
        request_id="req-1",
        http_method="POST",
        path="/echo/mcp",
        started=STARTED,
        mount="/echo",
        backend="echo",
        era="modern",
        method="tools/call",
        name="add",
        client_name="claude-code",
        endpoint="http://10.0.0.7:9000/mcp",
        session="",
        status=200,
        outcome=Outcome.OK,
        bytes_in=180,
        bytes_out=220,
        forwarded=100.0005,
        answered=100.003,
        upstream_ended=100.0035,
    )
    return msgspec.structs.replace(record, **changes)
