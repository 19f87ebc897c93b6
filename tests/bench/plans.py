"""What is measured in one run, and with whom: made of what was asked for on the command line, and of what is there."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.bench import programs, stores
from tests.bench.contenders import CONTENDERS, Contender
from tests.bench.rows import CASES, FLOWS, MERGES, Case, Era, Flow, Merge

IDLE = "idle"
FEW_STREAMS, MANY_STREAMS = 1_000, 10_000
QUICK_STREAMS = 200
MERGE_ROUNDS = 3
LEAST_MERGE_SECONDS = 0.25
LATENCY_ROUNDS = 3
"""At most: a window at a fixed pace is seconds long and mostly waits."""


@dataclass(frozen=True)
class Plan:
    """`idle`: how many streams, and of which era; empty where none are wanted."""

    contenders: Sequence[Contender]
    are_named: bool
    cases: Sequence[Case]
    flows: Sequence[Flow]
    merges: Sequence[Merge]
    idle: Sequence[tuple[int, Era]]
    is_whole: bool
    rounds: int
    seconds: float
    watch_seconds: float

    def of_calls(self, contender: Contender) -> bool:
        return bool(self.cases) and (contender.calls or self.are_named)

    def of_flows(self, contender: Contender) -> bool:
        return bool(self.flows) and (contender.flows or self.are_named)

    def of_idle(self, contender: Contender, streams: int, era: Era) -> bool:
        """Many streams are for those whose streams are compared; a Redis sees legacy ones only."""
        if not contender.idle or (era == "modern" and contender.needs_redis):
            return False
        return streams < MANY_STREAMS or contender.flows or self.are_named

    @property
    def merge_rounds(self) -> int:
        return min(self.rounds, MERGE_ROUNDS)

    @property
    def merge_seconds(self) -> float:
        """Of thousands of requests; the ratio between two of them is what is asked."""
        return max(self.seconds / 4, LEAST_MERGE_SECONDS)

    def rounds_of(self, flow: Flow) -> int:
        return min(self.rounds, LATENCY_ROUNDS) if flow.interval_ms else self.rounds

    def seconds_of(self, flow: Flow) -> float:
        """A window at full speed has thousands of events soon."""
        return self.seconds if flow.interval_ms else self.seconds / 2


def contender_names() -> list[str]:
    """What `--only` may name of contenders."""
    return [contender.name for contender in CONTENDERS]


def case_names() -> list[str]:
    """What `--only` may name of cases."""
    return [
        *(case.name for case in CASES),
        *dict.fromkeys([flow.case for flow in FLOWS] + [merge.case for merge in MERGES]),
        IDLE,
    ]


def make_plan(
    only: str | None,
    *,
    quick: bool,
    rounds: int | None,
    seconds: float | None,
    streams: int | None,
    watch_seconds: float | None,
) -> Plan:
    """Of contenders and of cases all, unless one of that kind is named. Raises `Missing` for a name that is neither."""
    words = [word for word in (only or "").split(",") if word]
    if unknown := [word for word in words if word not in [*contender_names(), *case_names()]]:
        known = ", ".join([*contender_names(), *case_names()])
        raise programs.Missing(f"--only: {', '.join(unknown)} is neither contender nor case; known are {known}")
    named, asked = ([word for word in words if word in names] for names in (contender_names(), case_names()))
    cases = [case for case in CASES if (case.name in asked if asked else case.quick or not quick)]
    flows = [flow for flow in FLOWS if not asked or flow.case in asked]
    merges = [merge for merge in MERGES if (merge.case in asked if asked else merge.quick or not quick)]
    wanted = [one for one in CONTENDERS if (one.name in named if named else one.quick or not quick)]
    return Plan(
        contenders=[one for one in wanted if (named or cases or merges or one.flows or one.idle) and _is_there(one)],
        are_named=bool(named),
        cases=cases,
        flows=flows,
        merges=merges,
        idle=_choose_idle(streams, quick=quick) if IDLE in asked or not asked else (),
        is_whole=not quick and not asked,
        rounds=rounds or (2 if quick else 5),
        seconds=seconds or (0.5 if quick else 2.0),
        watch_seconds=watch_seconds or (3.0 if quick else 10.0),
    )


def _choose_idle(streams: int | None, *, quick: bool) -> Sequence[tuple[int, Era]]:
    few = streams or (QUICK_STREAMS if quick else FEW_STREAMS)
    both: list[tuple[int, Era]] = [(few, "legacy"), (few, "modern")]
    return both if quick or streams else [*both, (MANY_STREAMS, "legacy")]


def _is_there(contender: Contender) -> bool:
    needs: dict[str, Callable[[], str]] = {
        "nginx": programs.find_nginx,
        "fastmcp": programs.find_fastmcp,
        "redis": stores.find_redis if contender.needs_redis else str,
    }
    try:
        for word in contender.name.split("-"):
            needs.get(word, str)()
    except programs.Missing as missing:
        print(f"{contender.name}: {missing}", file=sys.stderr)
        return False
    return True
