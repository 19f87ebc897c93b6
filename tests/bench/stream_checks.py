"""Whether what is said of streams is what was measured: part of `selfcheck`.

Proxies that lose, double or reorder events, or take their time; a Redis that is asked things whose number is known; and a
gateway whose log is counted in two ways.
"""

import contextlib
import re
import time
from collections import Counter
from collections.abc import Iterator

from tests.bench import stores
from tests.bench.contenders import CONTENDERS, Target, running
from tests.bench.measurements import measure_events, overhear_events, run_bench
from tests.bench.programs import Missing
from tests.bench.proxies import Change, Fault, faulty_proxy, swap
from tests.bench.rows import FLOWS

LATE_SECONDS = 0.02
BURST = 10


def _lose(number: int) -> Change:
    chunk = re.compile(rb'[0-9a-f]+\r\nevent: message\ndata: [^\n]*"progress":%d,[^\n]*\n\n\r\n' % number)
    return lambda data: chunk.sub(b"", data)


def _reorder(data: bytes) -> bytes:
    return (
        data.replace(b'"progress":3,', b'"progress":?,')
        .replace(b'"progress":4,', b'"progress":3,')
        .replace(b":?,", b":4,")
    )


def _delay(data: bytes) -> bytes:
    time.sleep(LATE_SECONDS)
    return data


FAULTS = (
    Fault("events: no fault", "legacy", "progress"),
    Fault("loses an event", "legacy", "progress", answer=_lose(7)),
    Fault("doubles an event", "legacy", "progress", answer=swap(b'"progress":4,', b'"progress":3,')),
    Fault("reorders events", "legacy", "progress", answer=_reorder),
    Fault("changes the time of sending", "legacy", "progress", answer=swap(b'"message":"@', b'"message":"#')),
    Fault("loses the response", "legacy", "progress", answer=swap(b'"result":', b'"reslut":')),
)


def find_misjudged(backend_port: int) -> list[str]:
    """What was judged wrongly, by name."""
    wrong = [fault.name for fault in FAULTS if _shows(fault, backend_port) == fault.name.endswith("no fault")]
    if not _shows_lateness(backend_port):
        wrong.append("the age of events")
    if not _shows_missing_log(backend_port):
        wrong.append("a stream without a log")
    try:
        stores.find_redis()
    except Missing as missing:
        print(f"self-check: {missing}")
        return wrong
    return [*wrong, *_misjudged_counts(), *_misjudged_log(backend_port)]


def _shows(fault: Fault, backend_port: int) -> bool:
    with faulty_proxy(fault, backend_port) as port:
        options = ["-E", "-t", "progress", "-c", "2", "-n", "20", "-b", str(BURST), "-D", "1", "-w", "0", "-q", "100"]
        found = run_bench(Target(fault.name, port, "/mcp", None), fault.era, options)
        return bool(found["errors"] or not found["calls"] or found["events"] != 20 * found["finished"])


def _shows_lateness(backend_port: int) -> bool:
    """Whether a proxy that takes its time makes events as old as that, and one that doesn't leaves them younger."""
    ages: list[float] = []
    for change in (bytes, _delay):
        with faulty_proxy(Fault("late", "legacy", "progress", answer=change), backend_port) as port:
            options = ["-E", "-t", "progress", "-c", "1", "-n", "10", "-A", str(backend_port), "-w", "0", "-q", "40"]
            ages.append(run_bench(Target("late", port, "/mcp", None), "legacy", options)["p50_ms"])
    return 0 < ages[0] < LATE_SECONDS * 1000 <= ages[1]


def _shows_missing_log(backend_port: int) -> bool:
    """Whether one that only claims to keep a log is found out."""
    claims = Target("claims", backend_port, "/mcp", None, has_log=True)
    row = measure_events(claims, FLOWS[0], 0, 0.1, backend_port)
    return row.error.startswith("0 events are in the log")


def _misjudged_counts() -> Iterator[str]:
    """Ten questions one after the other, ten at once, and a script: what is sent, read and moved is known."""
    with stores.running_redis() as store, contextlib.closing(stores.Line(store.port)) as line:
        with store.overhearing() as one_by_one:
            for _ in range(10):
                line.send("PING")
                line.read_line()
        with store.overhearing() as at_once:
            line.send("\r\n".join(["PING"] * 10))
            for _ in range(10):
                line.read_line()
        with store.overhearing() as scripted:
            line.send('EVAL \'redis.call("SET",KEYS[1],1) redis.call("XADD",KEYS[2],"*",1,1) return 1\' 2 a b')
            line.read_line()
        entries = store.count_entries()
    pings, bytes_each = Counter(PING=10), len("PING\r\n") + len("+PONG\r\n")
    if one_by_one != stores.Heard(pings, Counter(), 10, 10 * bytes_each):
        yield f"ten PINGs of Redis: {one_by_one}"
    if at_once != stores.Heard(pings, Counter(), 1, 10 * bytes_each):
        yield f"ten PINGs of Redis at once: {at_once}"
    if (scripted.sent, scripted.inside, entries) != (Counter(EVAL=1), Counter(SET=1, XADD=1), 1):
        yield f"a script of Redis: {scripted}, {entries} entries"


def _misjudged_log(backend_port: int) -> Iterator[str]:
    """What is overheard must tell the same of the log as what is counted: one entry for each event, response and primer."""
    contender = next(one for one in CONTENDERS if one.needs_redis)
    with running(contender, backend_port) as target:
        row = overhear_events(target, FLOWS[0], backend_port)
    calls = row.logged // (FLOWS[0].events + 1)
    if row.errors or row.inside.get("XADD") != row.logged + calls:
        yield f"the log in Redis: {row}"
