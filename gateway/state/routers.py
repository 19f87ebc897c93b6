"""Which server a key lives on: the one there is, the one that Sentinel names, or the one that has the key's slot."""

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from redis.asyncio.connection import Connection
from redis.crc import key_slot
from redis.exceptions import RedisError

from gateway.policy.streams import Ailment, LogAway, Trouble
from gateway.state.dials import Dialler
from gateway.state.lines import Spawn
from gateway.state.nodes import Node
from gateway.state.targets import Address, Target
from gateway.state.witnesses import Witness

SLOTS: Final = 16384
ASK_SLOTS_SECONDS: Final = 0.5  # one node: the next is asked then
REFRESH_SECONDS: Final = 0.1  # between two refreshings: during a failover every call finds that one is due

AddressedNode = Callable[[Address], Node]


class Router(Protocol):
    """Finds the node of a key."""

    def find(self, key: str) -> Node | None:
        """Where the key lives; None where that isn't known yet: `ready` then."""

    async def ready(self) -> None:
        """Returns when it has been tried to find out where keys live."""

    def follow(self, address: Address, *, has_moved: bool) -> Node:
        """A cluster's redirection: the key is at that address; for good, or while its slot is being moved."""

    def nodes(self) -> Iterable[Node]:
        """Every primary."""

    def ailments(self) -> list[Ailment]:
        """What is known to ail the servers; asks nobody."""

    async def dial(self) -> Connection:
        """A connection of the caller's own to any server: they all pass on what is published. Raises redis's errors."""

    def close(self) -> None: ...


def make_router(target: Target, spawn: Spawn, witness: Witness) -> Router:
    if target.kind == "cluster":
        return ClusterRouter(target, spawn, witness)
    return SingleRouter(target, spawn, witness)


class SingleRouter:
    """One server, or whichever Sentinel calls the primary when it is dialled."""

    def __init__(self, target: Target, spawn: Spawn, witness: Witness) -> None:
        dialler = Dialler(target)

        async def dial_primary() -> Connection:
            address = await dialler.find_primary() if target.kind == "sentinel" else target.addresses[0]
            return await dialler.dial(address)

        name = target.service or f"{target.addresses[0][0]}:{target.addresses[0][1]}"
        self._node = Node(name, dial_primary, spawn, witness, lambda: None)

    def find(self, key: str) -> Node | None:
        return self._node

    async def ready(self) -> None:
        return

    def follow(self, address: Address, *, has_moved: bool) -> Node:
        raise LogAway(Trouble.REFUSED, "this is a node of a cluster: use redis+cluster://")

    def nodes(self) -> Iterable[Node]:
        return (self._node,)

    def ailments(self) -> list[Ailment]:
        return self._node.ailments()

    async def dial(self) -> Connection:
        return await self._node.dial()

    def close(self) -> None:
        self._node.close()


CLUSTER: Final = "cluster"
"""The name by which the whole of a cluster is told of, as long as none of its nodes is known."""

_NO_MAP: Final = "none of the servers that were named tells the cluster's map"


class ClusterRouter:
    """Redis Cluster: the map of slots is asked for at the start, when a node fails, and when one redirects."""

    def __init__(self, target: Target, spawn: Spawn, witness: Witness) -> None:
        self._seeds = target.addresses
        self._dialler = Dialler(target)
        self._spawn = spawn
        self._witness = witness
        self._nodes: dict[Address, Node] = {}
        self._slots: list[Node | None] = [None] * SLOTS
        self._refreshing: asyncio.Task[None] | None = None
        self._is_known = False
        self._unknown_since: float | None = None  # and asked for in vain
        self._asked_at = 0.0
        self._turn = -1

    def find(self, key: str) -> Node | None:
        return self._slots[key_slot(key.encode())]

    async def ready(self) -> None:
        # Not cancelled with whoever waits: it goes on for the next one.
        await asyncio.shield(self._refresh_soon())

    def follow(self, address: Address, *, has_moved: bool) -> Node:
        if has_moved:
            self._refresh_soon()
        return self._node_at(address)

    def nodes(self) -> Iterable[Node]:
        return {id(node): node for node in self._slots if node is not None}.values()

    def ailments(self) -> list[Ailment]:
        found = [ailment for node in self.nodes() for ailment in node.ailments()]
        if self._unknown_since is not None:
            seconds = asyncio.get_running_loop().time() - self._unknown_since
            found.append(Ailment(CLUSTER, Trouble.AWAY, _NO_MAP, seconds))
        return found

    async def dial(self) -> Connection:
        self._turn += 1
        candidates = self._candidates()
        return await self._dialler.dial(candidates[self._turn % len(candidates)])

    def close(self) -> None:
        if self._refreshing is not None:
            self._refreshing.cancel()
        for node in self._nodes.values():
            node.close()

    def _node_at(self, address: Address) -> Node:
        if (node := self._nodes.get(address)) is None:
            name = f"{address[0]}:{address[1]}"
            node = Node(name, lambda: self._dialler.dial(address), self._spawn, self._witness, self._note_failure)
            self._nodes[address] = node
        return node

    def _note_failure(self) -> None:
        self._refresh_soon()

    def _refresh_soon(self) -> "asyncio.Task[None]":
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = self._spawn(self._refresh())
        return self._refreshing

    async def _refresh(self) -> None:
        clock = asyncio.get_running_loop().time
        await asyncio.sleep(max(0.0, self._asked_at + REFRESH_SECONDS - clock()))
        for address in self._candidates():
            if await self._ask_slots(address):
                break
        self._asked_at = clock()
        self._note_map()

    def _note_map(self) -> None:
        """Told once a change, as what ails a node is."""
        now, since = asyncio.get_running_loop().time(), self._unknown_since
        if not self._is_known and since is None:
            self._unknown_since = now
            self._witness.degraded(CLUSTER, Trouble.AWAY, _NO_MAP)
        elif self._is_known and since is not None:
            self._unknown_since = None
            self._witness.restored(CLUSTER, Trouble.AWAY, now - since)

    def _candidates(self) -> list[Address]:
        known = [address for address, node in self._nodes.items() if not node.is_away]
        random.shuffle(known)  # to spread the questions, not to hide anything
        return [*known, *(address for address in self._seeds if address not in known)]

    async def _ask_slots(self, address: Address) -> bool:
        connection = None
        try:
            async with asyncio.timeout(ASK_SLOTS_SECONDS):
                connection = await self._dialler.dial(address)
                await connection.send_command("CLUSTER", "SLOTS")
                ranges = await connection.read_response()
        except (RedisError, OSError):  # TimeoutError is an OSError
            return False
        finally:
            if connection is not None:
                await connection.disconnect(nowait=True)
        self._take_map(ranges, address)
        return self._is_known

    def _take_map(self, ranges: list[Any], asked: Address) -> None:
        slots: list[Node | None] = [None] * SLOTS
        for first, last, (host, port, *_), *_ in ranges:
            # An empty host is that of the one who was asked (redis.io, CLUSTER SLOTS).
            node = self._node_at((host.decode() if host else asked[0], port))
            slots[first : last + 1] = [node] * (last - first + 1)
        if not ranges:
            return
        self._slots, self._is_known = slots, True
        stay = {id(node) for node in slots}
        for address in [address for address, node in self._nodes.items() if id(node) not in stay]:
            self._nodes.pop(address).retire()
