"""`python -m tests.bench.selfcheck`: does a faulty proxy show as errors? Figures are worth nothing without it.

A small proxy makes one mistake at a time, on purpose, in front of the fake backend; the load generator must count
errors for each, and none when there is no mistake.
"""

import contextlib
import re
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.bench.contenders import Target, running_backend
from tests.bench.measurements import run_bench
from tests.bench.programs import build_programs
from tests.bench.rows import Era

Change = Callable[[bytes], bytes]


class Fault(NamedTuple):
    """A mistake: what it does to requests and to answers, and the kind of call that shows it."""

    name: str
    era: Era
    tool: str
    request: Change = bytes
    answer: Change = bytes


def _drop(name: bytes) -> Change:
    pattern = re.compile(rb"\r\n" + name + rb":[^\r]*", re.IGNORECASE)
    return lambda data: pattern.sub(b"", data)


def _swap(old: bytes, new: bytes) -> Change:
    """Changes every occurrence; old and new are of one length, so that lengths in heads and chunks still hold."""
    assert len(old) == len(new)
    return lambda data: data.replace(old, new)


FAULTS = (
    Fault("legacy: no fault", "legacy", "progress"),
    Fault("modern: no fault", "modern", "progress"),
    Fault("drops Mcp-Method", "modern", "echo", request=_drop(b"mcp-method")),
    Fault("drops Mcp-Name", "modern", "echo", request=_drop(b"mcp-name")),
    Fault("changes Mcp-Name", "modern", "echo", request=_swap(b"Mcp-Name: echo", b"Mcp-Name: ecHo")),
    Fault("drops MCP-Protocol-Version, modern", "modern", "echo", request=_drop(b"mcp-protocol-version")),
    Fault("drops MCP-Protocol-Version, legacy", "legacy", "echo", request=_drop(b"mcp-protocol-version")),
    Fault("changes the _meta version", "modern", "echo", request=_swap(b'"2026-07-28"', b'"2025-07-28"')),
    Fault("drops Mcp-Session-Id on the way up", "legacy", "echo", request=_drop(b"mcp-session-id")),
    Fault("drops Mcp-Session-Id on the way down", "legacy", "echo", answer=_drop(b"mcp-session-id")),
    Fault("changes Mcp-Session-Id", "legacy", "echo", request=_swap(b"bk-000", b"bk-001")),
    Fault("drops Accept", "legacy", "echo", request=_drop(b"accept")),
    Fault("drops Content-Type of requests", "modern", "echo", request=_drop(b"content-type")),
    Fault("drops Content-Type of answers", "modern", "echo", answer=_drop(b"content-type")),
    Fault("changes the status", "modern", "echo", answer=_swap(b"HTTP/1.1 200 OK", b"HTTP/1.1 201 OK")),
    Fault("turns 202 into 200", "legacy", "echo", answer=_swap(b"HTTP/1.1 202 A", b"HTTP/1.1 200 A")),
    Fault("changes the id", "modern", "echo", answer=_swap(b'"id":10', b'"id":20')),
    Fault("changes the text", "modern", "echo_sse", answer=_swap(b"xyzabc", b"xyzaBc")),
    Fault("drops resultType", "modern", "echo", answer=_swap(b'"resultType"', b'"resultTypo"')),
    Fault("loses a progress notification", "modern", "progress", answer=_swap(b'"progress":3,', b'"progress":2,')),
    Fault("renames progress notifications", "legacy", "progress", answer=_swap(b"ns/progress", b"ns/regress!")),
    Fault("makes an error of the result", "legacy", "echo", answer=_swap(b'"result":', b'"error" :')),
    Fault("drops progressToken", "legacy", "progress", request=_swap(b'"progressToken"', b'"progressTaken"')),
)


def check_all(backend_port: int) -> None:
    """Raises RuntimeError, naming the faults, when one of them doesn't show, or the absence of one does."""
    wrong = [fault.name for fault in FAULTS if _shows(fault, backend_port) == fault.name.endswith("no fault")]
    if wrong:
        raise RuntimeError(f"the harness can't be trusted, it misjudged: {', '.join(wrong)}")
    print(f"self-check: {len(FAULTS)} proxies, each judged rightly")


def _shows(fault: Fault, backend_port: int) -> bool:
    with _proxy(fault, backend_port) as port:
        found = run_bench(Target(fault.name, port, "/mcp", None), fault.era, [*_FEW_CALLS, "-t", fault.tool])
        return bool(found["errors"]) or not found["calls"]


_FEW_CALLS = ["-c", "2", "-w", "0", "-d", "2", "-q", "20"]


@contextlib.contextmanager
def _proxy(fault: Fault, backend_port: int) -> Iterator[int]:
    """Copies bytes both ways and changes them. It relies on what holds on loopback: a small message is one read."""

    class Copier(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(("127.0.0.1", backend_port)) as upstream:
                back = threading.Thread(target=_copy, args=(upstream, self.request, fault.answer))
                back.start()
                _copy(self.request, upstream, fault.request)
                back.join()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Copier) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def _copy(source: socket.socket, target: socket.socket, change: Change) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 20):
            target.sendall(change(data))
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    build_programs()
    with running_backend() as port:
        check_all(port)
