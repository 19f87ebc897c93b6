"""Proxies that make one mistake each, on purpose, for `selfcheck`."""

import contextlib
import re
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.bench.rows import Era

Change = Callable[[bytes], bytes]


class Fault(NamedTuple):
    """A mistake: what it does to requests and to answers, and the kind of call that shows it."""

    name: str
    era: Era
    tool: str
    request: Change = bytes
    answer: Change = bytes


def drop(name: bytes) -> Change:
    pattern = re.compile(rb"\r\n" + name + rb":[^\r]*", re.IGNORECASE)
    return lambda data: pattern.sub(b"", data)


def swap(old: bytes, new: bytes) -> Change:
    """Changes every occurrence; old and new are of one length, so that lengths in heads and chunks still hold."""
    assert len(old) == len(new)
    return lambda data: data.replace(old, new)


@contextlib.contextmanager
def faulty_proxy(fault: Fault, backend_port: int) -> Iterator[int]:
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
