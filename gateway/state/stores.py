"""Redis, asked: every call bounded, every error translated here, and nobody else sees one of the library's.

A call ends in an answer or in `LogAway`. All that is asked through here may be done twice without harm, so that a call whose
connection broke is asked once more, within the same bound.
"""

import asyncio
import math
from collections.abc import Coroutine, Sequence
from typing import Any, Final

import msgspec
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)

from gateway.policy.streams import CREATE_SHARE, Ailment, LogAway, Trouble, share_of_room
from gateway.state.lines import Command, LineBroken
from gateway.state.nodes import Node
from gateway.state.routers import Router
from gateway.state.scripts import Script
from gateway.state.witnesses import Witness

ANSWER_SECONDS: Final = 0.25
"""For one call, connecting and redirections included. Whoever waits longer is told that Redis is away."""

LOAD_BYTES_PER_SECOND: Final = 16 * 1024 * 1024
"""A large payload has the time besides that it takes on a slow network: else it would be sent again and again."""

_STALL_SECONDS: Final = 0.05
"""A time-out that comes so much too late says that we were held up, not Redis: its answer may lie there unread."""

_HOPS: Final = 5  # redirections and repetitions of one call

Argument = str | bytes | int


class NodeReport(msgspec.Struct, frozen=True):
    """One Redis server, for `/health` and the log. `policy`: its `maxmemory-policy`, empty where it doesn't tell."""

    name: str
    troubles: tuple[Trouble, ...]
    share: float
    policy: str = ""


class Store:
    """Runs scripts and commands where their keys live."""

    def __init__(
        self,
        router: Router,
        witness: Witness,
        budget_bytes: int | None = None,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._router = router
        self._witness = witness
        self._budget_bytes = budget_bytes
        self._answer_seconds = answer_seconds
        self._clock = asyncio.get_running_loop().time

    async def run(
        self,
        script: Script,
        keys: Sequence[str],
        args: Sequence[Argument],
        *,
        size_bytes: int = 0,
        is_bulk: bool = False,
        max_share: float = math.inf,
    ) -> list[Any]:
        """What the script answers. Its keys have one hash tag. Raises `LogAway`, FULL where `max_share` of the room is used."""
        command = ("EVALSHA", script.sha, len(keys), *keys, *args)
        ask = self._ask(command, keys[0], script, size_bytes, is_bulk, max_share)
        answer: list[Any] = await self._tell(script.name, ask)
        return answer

    async def command(self, command: Command, key: str) -> Any:
        """What a command of Redis's own answers, one that only reads, publishes or puts off an expiry. Raises `LogAway`."""
        return await self._tell(str(command[0]).lower(), self._ask(command, key, None, 0, False, math.inf))

    async def _tell(self, name: str, ask: Coroutine[Any, Any, Any]) -> Any:
        started = self._clock()
        try:
            answer = await ask
        except LogAway as away:
            self._witness.failed(name, away.trouble)
            raise
        self._witness.asked(name, self._clock() - started)
        return answer

    async def _ask(
        self, command: Command, key: str, script: Script | None, size_bytes: int, is_bulk: bool, max_share: float
    ) -> Any:
        deadline = self._clock() + self._answer_seconds + size_bytes / LOAD_BYTES_PER_SECOND
        node = self._router.find(key) or await self._find(key, deadline)
        if node.share >= max_share:
            raise LogAway(Trouble.FULL, "too much of the room for streams is used")
        before: Command | None = None
        breaks = 0
        for _ in range(_HOPS):
            try:
                answer = await self._wait(node.ask(command, is_bulk=is_bulk, before=before), deadline)
            except NoScriptError:
                assert script is not None
                command = ("EVAL", script.text, *command[2:])
            except AskError as moved:  # and `MovedError`, which is one
                has_moved = isinstance(moved, MovedError)
                node = self._router.follow((moved.host, moved.port), has_moved=has_moved)
                before = None if has_moved else ("ASKING",)
            except ResponseError as refusal:
                raise _translate(refusal, node) from refusal
            except LineBroken as broken:
                breaks += 1
                if breaks > 1:
                    node.fail(str(broken))
                    raise LogAway(Trouble.AWAY, str(broken)) from broken
                node = self._router.find(key) or await self._find(key, deadline)
            except TimeoutError as late:
                node.fail("no answer in time")
                raise LogAway(Trouble.AWAY, f"{node.name} gave no answer in time") from late
            else:
                node.succeed(is_write=script is not None and script.writes)
                return answer
        raise LogAway(Trouble.AWAY, "the cluster redirects in circles")

    async def _find(self, key: str, deadline: float) -> Node:
        try:
            async with asyncio.timeout_at(deadline):
                await self._router.ready()
        except TimeoutError:
            raise LogAway(Trouble.AWAY, "the cluster's map is not known") from None
        if (node := self._router.find(key)) is None:
            raise LogAway(Trouble.AWAY, "no node of the cluster has the key's slot")
        return node

    async def _wait(self, answer: "asyncio.Future[Any]", deadline: float) -> Any:
        """As `asyncio.timeout`, for less, and it believes no clock that ran while this process was held up."""
        timer = asyncio.get_running_loop().call_at(deadline, _give_up, answer, deadline)
        try:
            return await answer
        finally:
            timer.cancel()

    # ---- what the room does now and then

    async def measure(self) -> None:
        """Asks each server how full it is. One that doesn't tell keeps what it told before."""
        nodes = list(self._router.nodes())
        await asyncio.gather(*(self._measure(node) for node in nodes))
        fleet_bytes = sum(node.used_bytes for node in nodes)
        for node in nodes:
            node.share = share_of_room(node.used_bytes, node.max_bytes, fleet_bytes, self._budget_bytes)
            if node.share >= CREATE_SHARE:
                node.note_trouble(Trouble.FULL, "little room is left: no new stream is made resumable")
            else:
                node.end_trouble(Trouble.FULL)

    async def _measure(self, node: Node) -> None:
        text = await self._ask_node(node, ("INFO", "memory"))
        found = dict(line.split(b":", 1) for line in text.splitlines() if b":" in line)
        if b"used_memory" in found:
            node.used_bytes, node.max_bytes = int(found[b"used_memory"]), int(found.get(b"maxmemory", 0))

    def ailments(self) -> list[Ailment]:
        """What ails the servers, as far as it was noticed; asks nobody."""
        return self._router.ailments()

    async def inspect(self) -> list[NodeReport]:
        """How each server is, and whether it may throw keys away. A managed Redis may not tell its policy."""
        return [await self._inspect(node) for node in self._router.nodes()]

    async def _inspect(self, node: Node) -> NodeReport:
        answer = await self._ask_node(node, ("CONFIG", "GET", "maxmemory-policy"))
        policy = answer[1].decode() if len(answer) == 2 else ""
        return NodeReport(node.name, tuple(sorted(node.troubles)), node.share, policy)

    async def _ask_node(self, node: Node, command: Command) -> Any:
        """The answer, or an empty one where there is none: nothing depends on it."""
        try:
            return await self._wait(node.ask(command), self._clock() + self._answer_seconds)
        except (LogAway, LineBroken, ResponseError):
            return b""
        except TimeoutError:
            node.fail("no answer in time")
            return b""


def _give_up(answer: "asyncio.Future[Any]", due: float) -> None:
    if answer.done():
        return
    loop = asyncio.get_running_loop()
    if loop.time() - due > _STALL_SECONDS:
        loop.call_later(_STALL_SECONDS, _give_up, answer, loop.time() + _STALL_SECONDS)
    else:
        answer.set_exception(TimeoutError())


def _translate(refusal: ResponseError, node: Node) -> LogAway:
    """What a refusal means. Redis 6 hides the code of an error in a script behind `ERR Error running script`."""
    text = str(refusal)
    if isinstance(refusal, ReadOnlyError) or "READONLY " in text:
        node.redial()  # it was demoted: whoever dials anew finds the primary
        trouble = Trouble.READ_ONLY
    elif isinstance(refusal, OutOfMemoryError) or "OOM " in text:
        trouble = Trouble.FULL
    elif isinstance(refusal, ClusterDownError | TryAgainError):
        return LogAway(Trouble.AWAY, text)
    else:
        trouble = Trouble.REFUSED
    node.note_trouble(trouble, text)
    return LogAway(trouble, text)
