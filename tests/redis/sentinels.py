"""A primary, its replica, and three Sentinels that watch them."""

from pathlib import Path
from typing import Final

from tests.redis.servers import HOST, WITHOUT_DATA, RedisServer, Sentinel
from tests.redis.waiting import until

SERVICE: Final = "main"
PROMPT: Final = ("--repl-diskless-sync-delay", "0")


class Watched:
    """`servers` are to be started in their order; then `wait_ready`."""

    def __init__(self, folder: Path) -> None:
        self.primary = RedisServer(folder, *WITHOUT_DATA, *PROMPT)
        self.replica = RedisServer(folder, *WITHOUT_DATA, *PROMPT, "--replicaof", HOST, str(self.primary.port))
        self.sentinels = [Sentinel(folder, self.primary, SERVICE) for _ in range(3)]
        self.servers = [self.primary, self.replica, *self.sentinels]
        self.url = "redis+sentinel://" + ",".join(f"{HOST}:{s.port}" for s in self.sentinels) + f"/{SERVICE}"

    def wait_ready(self) -> None:
        until(lambda: self.replica.tell("INFO", "replication")["master_link_status"] == "up")
        for sentinel in self.sentinels:
            until(lambda sentinel=sentinel: self._knows_all(sentinel))  # type: ignore[misc]

    def cut_off(self) -> None:
        """What the primary is told from now on never reaches its replica. The Sentinels see both, and find nothing wrong."""
        self.primary.tell("ACL", "SETUSER", "default", "-psync", "-sync")
        self.primary.tell("CLIENT", "KILL", "TYPE", "replica")

    def wait_promoted(self) -> None:
        """Returns when every Sentinel names as the primary what was the replica."""
        for sentinel in self.sentinels:
            until(lambda sentinel=sentinel: self._names(sentinel) == self.replica.port)  # type: ignore[misc]

    def _names(self, sentinel: RedisServer) -> int:
        return int(sentinel.tell("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1])

    def _knows_all(self, sentinel: RedisServer) -> bool:
        told = sentinel.tell("SENTINEL", "MASTER", SERVICE)
        facts = dict(zip(told[::2], told[1::2], strict=True)) if isinstance(told, list) else told
        facts = {_text(key): _text(value) for key, value in facts.items()}
        return facts["num-slaves"] == "1" and facts["num-other-sentinels"] == "2"


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
