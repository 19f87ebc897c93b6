"""Whether an aggregate that gives a wrong list, or another backend's answer, is found out: part of `selfcheck`."""

import re
from typing import NamedTuple

from tests.bench.aggregates import Asked, merge_options
from tests.bench.contenders import Target
from tests.bench.measurements import run_bench
from tests.bench.proxies import Change, Fault, faulty_proxy, swap
from tests.bench.rows import ERAS, Merge

CALL = Merge("call", "aggregate-call", "", 3, 2)
LIST = Merge("list", "aggregate-list", "", 3, 2)
CALLED = Asked("/box/@/mcp", "echo_@")
LISTED = Asked("/boxes/03/mcp", "b@__echo_@")


class Wrong(NamedTuple):
    """A mistake at an aggregate's work, and what shows it."""

    fault: Fault
    merge: Merge
    asked: Asked


def _call(name: str, request: Change = bytes) -> list[Wrong]:
    return [Wrong(Fault(f"{name}, {era}", era, "", request), CALL, CALLED) for era in ERAS]


def _list(name: str, answer: Change = bytes) -> list[Wrong]:
    return [Wrong(Fault(f"{name}, {era}", era, "", answer=answer), LIST, LISTED) for era in ERAS]


def _reorder(data: bytes) -> bytes:
    return re.sub(rb'"b0([12])__echo_0[12]"', lambda found: b'"b0%d__echo_0%d"' % ((3 - int(found[1]),) * 2), data)


def _leave_out(data: bytes) -> bytes:
    """One of the last backend's; the space goes where white space may stand."""
    return re.sub(
        rb'\{"name":"b03__work_03_07".*?\}\},"required":\["text"\]\}\},', lambda found: b" " * len(found[0]), data
    )


FAULTS = (
    *_call("calls of an aggregate: no fault"),
    *_call("asks another backend", swap(b" /box/02/", b" /box/03/")),
    *_list("lists of an aggregate: no fault"),
    *_list("leaves out a tool", _leave_out),
    *_list("names a tool without its prefix", swap(b'"b02__echo_02"', b'"b02_-echo_02"')),
    *_list("lists a backend twice", swap(b'"b03__echo_03"', b'"b02__echo_02"')),
    *_list("lists backends in another order", _reorder),
    *_list("makes an error of a list", swap(b'"result":', b'"error" :')),
    *_list("changes the id of a list", swap(b'"id":', b'"ID":')),
)


def find_misjudged(backend_port: int) -> list[str]:
    """What was judged wrongly, by name."""
    return [one.fault.name for one in FAULTS if _shows(one, backend_port) == ("no fault" in one.fault.name)]


def _shows(one: Wrong, backend_port: int) -> bool:
    with faulty_proxy(one.fault, backend_port) as port:
        target = Target(one.fault.name, port, one.asked.path, None)
        options = [*merge_options(one.merge, one.asked), "-c", "3", "-w", "0", "-d", "2", "-q", "20"]
        found = run_bench(target, one.fault.era, options)
        return bool(found["errors"]) or not found["calls"]
