"""Whatever is asked, answered, changed and left in any order: nobody gets what isn't theirs, or isn't true any more."""

import asyncio
from typing import Any, NamedTuple

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.exchange.caches import Caches, Told
from gateway.policy.caches import Asker, CacheBounds, CacheOutcome
from gateway.protocol.changes import Change
from gateway.protocol.outcomes import Failed, Outcome
from gateway.state.invalidations import MemoryInvalidations
from gateway.state.wakes import Bells
from tests.fakes import ECHO, FakeTelemetry
from tests.flow.scenes import let_others_run
from tests.requirements import proves

TTL_MS = 1000
TRUSTED = msgspec.structs.replace(ECHO, trust_public=True)
ASKERS = [Asker("alice"), Asker("bob"), Asker("bob", credential="token"), Asker("carol", is_filtered=True)]
METHODS = {"tools/list": Change.TOOLS, "prompts/list": Change.PROMPTS}


class Question:
    """One ask under way: what the backend will say is decided when it is let go."""

    def __init__(self, stage: "Stage", asker: Asker, method: str, trusts: bool, worker: int) -> None:
        self.asker, self.method, self.trusts = asker, method, trusts
        self.asked_at = stage.version[method]
        self.go_on = asyncio.Event()
        self.says: bytes | Failed = b""
        self.was_sent = False
        self.sees = 0

        async def fetch() -> bytes:
            self.was_sent = True
            self.sees = stage.version[method]  # an answer may have been made before a change, and come behind it
            await self.go_on.wait()
            if isinstance(self.says, Failed):
                raise self.says
            return self.says

        backend = TRUSTED if trusts else ECHO
        self.task = asyncio.ensure_future(stage.workers[worker].ask(backend, asker, method, b"{}", fetch))


class Stage:
    """Two workers, and a backend whose lists have a version; it says for whom and for which version it speaks."""

    def __init__(self, trusts: bool) -> None:
        invalidations = MemoryInvalidations(Bells())
        self.now = 100.0
        self.workers = [Caches(FakeTelemetry(), lambda: self.now, invalidations) for _ in range(2)]
        for worker in self.workers:
            worker.bounds = CacheBounds(max_entries=3)
        self.trusts = trusts
        self.version = dict.fromkeys(METHODS, 1)
        self.open: list[Question] = []
        self.born: dict[bytes, float] = {}

    def answer(self, question: Question, scope: str, *, is_kept: bool) -> bytes:
        serial = len(self.born)
        told = {
            "who": question.asker.principal,
            "with": question.asker.credential,
            "serial": serial,
            "version": question.sees,
            "method": question.method,
            "ttlMs": TTL_MS if is_kept else 0,
            "cacheScope": scope,
        }
        self.born[str(serial).encode()] = self.now
        return msgspec.json.encode(told)

    def end_one(self, step: "Step") -> None:
        """One of those that the backend has before it is answered, or fails, or its client leaves."""
        sent = [question for question in self.open if question.was_sent]
        if not sent:
            return
        question = sent[step.number % len(sent)]
        if step.kind == "leave":
            question.task.cancel()
            return
        question.says = Failed(Outcome.BROKEN, "reset")
        if step.kind == "answer":
            question.says = self.answer(question, step.scope, is_kept=step.is_kept)
        question.go_on.set()

    async def settle(self) -> None:
        await let_others_run()
        for question in [q for q in self.open if q.task.done()]:
            self.open.remove(question)
            self.check(question)

    def check(self, question: Question) -> None:
        if question.task.cancelled():
            return
        if (error := question.task.exception()) is not None:
            assert error is question.says, "another's failure"
            return
        told: Told = question.task.result()
        said: dict[str, Any] = msgspec.json.decode(told.result)
        assert said["method"] == question.method
        assert said["version"] >= question.asked_at, "what had changed before it was asked"
        if (said["who"], said["with"]) != (question.asker.principal, question.asker.credential):
            assert self.trusts, "another's answer"
            assert said["cacheScope"] == "public", "another's private answer"
            assert not question.asker.credential
            assert not question.asker.is_filtered
            assert (said["who"], said["with"]) in (("alice", ""), ("bob", "")), (
                "what was got by a credential, or filtered"
            )
        age_ms = (self.now - self.born[str(said["serial"]).encode()]) * 1000
        assert told.ttl_ms == said["ttlMs"]
        if told.outcome in (CacheOutcome.HIT, CacheOutcome.COALESCED):
            assert 1 <= told.ttl_ms <= TTL_MS - age_ms + 1, "told to be kept for too long"


class Step(NamedTuple):
    """One of what may happen, and the choices for each kind of it."""

    kind: str
    asker: Asker
    method: str
    worker: int
    number: int  # of the request that is under way
    scope: str
    is_kept: bool
    seconds: float


_STEPS = st.builds(
    Step,
    st.sampled_from(["ask", "ask", "ask", "answer", "answer", "answer", "fail", "leave", "change", "wait"]),
    st.sampled_from(ASKERS),
    st.sampled_from(["tools/list", "tools/list", "tools/list", "prompts/list"]),
    st.sampled_from([0, 0, 1]),
    st.integers(0, 3),
    st.sampled_from(["public", "private"]),
    st.sampled_from([True, True, True, False]),
    st.sampled_from([0.25, 0.9, 1.1]),
)


async def play(steps: list[Step], trusts: bool) -> None:
    stage = Stage(trusts)
    for step in steps:
        if step.kind == "ask":
            stage.open.append(Question(stage, step.asker, step.method, trusts, step.worker))
        elif step.kind == "change":
            stage.version[step.method] += 1
            await stage.workers[step.worker].invalidate("echo", METHODS[step.method])
        elif step.kind == "wait":
            stage.now += step.seconds
        else:
            stage.end_one(step)
        await stage.settle()
        assert all(len(worker) <= 3 for worker in stage.workers)
    for _ in range(len(stage.open) + 1):  # whoever waited for another asks for itself
        for question in stage.open:
            if not question.go_on.is_set():
                question.says = stage.answer(question, "private", is_kept=True)
                question.go_on.set()
        await stage.settle()
    assert stage.open == [], "somebody waits for ever"
    for worker in stage.workers:
        assert (worker._flights, worker._leaders) == (set(), {})
        await worker.tidings.close()


@proves("CACHE-3", "CACHE-4", "CACHE-5", "CACHE-6", "CACHE-7")
@settings(max_examples=200, deadline=None)
@given(st.lists(_STEPS, min_size=10, max_size=30), st.booleans())
def test_whatever_happens_an_answer_is_true_and_its_askers_own(steps: list[Step], trusts: bool) -> None:
    asyncio.run(play(steps, trusts))
