"""`python -m tests.bench.selfcheck`: does a faulty proxy show as errors? Figures are worth nothing without it.

A small proxy makes one mistake at a time, on purpose, in front of the fake backend; the load generator must count
errors for each, and none when there is no mistake. Of streams and their log: `stream_checks`; of aggregates:
`aggregate_checks`.
"""

from tests.bench import aggregate_checks, stream_checks
from tests.bench.contenders import Target, running_backend
from tests.bench.measurements import run_bench
from tests.bench.programs import LOGS, build_programs
from tests.bench.proxies import Fault, drop, faulty_proxy, swap

FAULTS = (
    Fault("legacy: no fault", "legacy", "progress"),
    Fault("modern: no fault", "modern", "progress"),
    Fault("drops Mcp-Method", "modern", "echo", request=drop(b"mcp-method")),
    Fault("drops Mcp-Name", "modern", "echo", request=drop(b"mcp-name")),
    Fault("changes Mcp-Name", "modern", "echo", request=swap(b"Mcp-Name: echo", b"Mcp-Name: ecHo")),
    Fault("drops MCP-Protocol-Version, modern", "modern", "echo", request=drop(b"mcp-protocol-version")),
    Fault("drops MCP-Protocol-Version, legacy", "legacy", "echo", request=drop(b"mcp-protocol-version")),
    Fault("changes the _meta version", "modern", "echo", request=swap(b'"2026-07-28"', b'"2025-07-28"')),
    Fault("drops Mcp-Session-Id on the way up", "legacy", "echo", request=drop(b"mcp-session-id")),
    Fault("drops Mcp-Session-Id on the way down", "legacy", "echo", answer=drop(b"mcp-session-id")),
    Fault("changes Mcp-Session-Id", "legacy", "echo", request=swap(b"bk-000", b"bk-001")),
    Fault("drops Accept", "legacy", "echo", request=drop(b"accept")),
    Fault("drops Content-Type of requests", "modern", "echo", request=drop(b"content-type")),
    Fault("drops Content-Type of answers", "modern", "echo", answer=drop(b"content-type")),
    Fault("changes the status", "modern", "echo", answer=swap(b"HTTP/1.1 200 OK", b"HTTP/1.1 201 OK")),
    Fault("turns 202 into 200", "legacy", "echo", answer=swap(b"HTTP/1.1 202 A", b"HTTP/1.1 200 A")),
    Fault("changes the id", "modern", "echo", answer=swap(b'"id":10', b'"id":20')),
    Fault("changes the text", "modern", "echo_sse", answer=swap(b"xyzabc", b"xyzaBc")),
    Fault("drops resultType", "modern", "echo", answer=swap(b'"resultType"', b'"resultTypo"')),
    Fault("loses a progress notification", "modern", "progress", answer=swap(b'"progress":3,', b'"progress":2,')),
    Fault("renames progress notifications", "legacy", "progress", answer=swap(b"ns/progress", b"ns/regress!")),
    Fault("makes an error of the result", "legacy", "echo", answer=swap(b'"result":', b'"error" :')),
    Fault("drops progressToken", "legacy", "progress", request=swap(b'"progressToken"', b'"progressTaken"')),
)


def check_all(backend_port: int) -> None:
    """Raises RuntimeError, naming them, when a fault doesn't show, the absence of one does, or a count isn't what was done."""
    wrong = [fault.name for fault in FAULTS if _shows(fault, backend_port) == fault.name.endswith("no fault")]
    wrong += aggregate_checks.find_misjudged(backend_port)
    wrong += stream_checks.find_misjudged(backend_port)
    if wrong:
        raise RuntimeError(f"the harness can't be trusted, it misjudged: {', '.join(wrong)}")
    count = len(FAULTS) + len(aggregate_checks.FAULTS) + len(stream_checks.FAULTS)
    print(f"self-check: {count} proxies, the age of events, the log and the counts of Redis, each judged rightly")


def _shows(fault: Fault, backend_port: int) -> bool:
    with faulty_proxy(fault, backend_port) as port:
        found = run_bench(Target(fault.name, port, "/mcp", None), fault.era, [*_FEW_CALLS, "-t", fault.tool])
        return bool(found["errors"]) or not found["calls"]


_FEW_CALLS = ["-c", "2", "-w", "0", "-d", "2", "-q", "20"]


if __name__ == "__main__":
    LOGS.mkdir(exist_ok=True)
    build_programs()
    with running_backend() as port:
        check_all(port)
