"""What several servers say of themselves, as one server would say it: the answers to `server/discover` and `initialize`.

Spec: 2026-07-28 server/discover; 2025-11-25 basic/lifecycle.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from mcp_types.version import KNOWN_PROTOCOL_VERSIONS

from gateway.protocol.results import (
    STALE,
    Freshness,
    Malformed,
    ServerInfo,
    encode_result,
    merge_freshness,
    read_freshness,
)
from gateway.protocol.versions import Era

MAX_DEPTH: Final = 32
"""Of capabilities. Known ones are three deep; deeper than this they are malformed, so that merging them can't exhaust a stack."""


class Introduction(NamedTuple):
    """What one server said of itself. `versions`: those it supports (modern), or the one it settled on (legacy)."""

    capabilities: Mapping[str, Any]
    instructions: str
    versions: tuple[str, ...]
    freshness: Freshness = STALE


_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


def parse_discover(result: bytes) -> Introduction:
    """What the `result` of `server/discover` says. Raises `Malformed`."""
    told = _read(result)
    versions = told.get("supportedVersions")
    if not isinstance(versions, list) or not all(isinstance(version, str) for version in versions):
        raise Malformed("`supportedVersions` is no list of strings")
    freshness = read_freshness(told.get("ttlMs"), told.get("cacheScope"))
    return Introduction(told["capabilities"], _instructions_of(told), tuple(versions), freshness)


def parse_initialize(result: bytes) -> Introduction:
    """What the `result` of `initialize` says. Raises `Malformed`."""
    told = _read(result)
    version = told.get("protocolVersion")
    if not isinstance(version, str):
        raise Malformed("`protocolVersion` is no string")
    return Introduction(told["capabilities"], _instructions_of(told), (version,))


def _read(result: bytes) -> dict[str, Any]:
    try:
        told = _decode(result)
    except (ValueError, RecursionError) as error:
        raise Malformed("the result is no object") from error
    if not isinstance(told.get("capabilities"), dict):
        raise Malformed("`capabilities` is no object")
    if _is_deeper(told["capabilities"], MAX_DEPTH):
        raise Malformed("`capabilities` is nested too deep")
    return told


def _is_deeper(value: Any, limit: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return limit < 0 or any(_is_deeper(one, limit - 1) for one in inner)


def _instructions_of(told: Mapping[str, Any]) -> str:
    instructions = told.get("instructions")
    return instructions.strip() if isinstance(instructions, str) else ""


def merge_discover(
    told: Mapping[str, Introduction], server: ServerInfo, left_out: Mapping[str, str] | None = None
) -> bytes:
    """The `result` of `server/discover` for all of them, by backend, in the order of the configuration."""
    content = _introduce(told) | {"supportedVersions": merge_versions([one.versions for one in told.values()])}
    freshness = merge_freshness(one.freshness for one in told.values())
    return encode_result(content, Era.MODERN, freshness=freshness, server=server, left_out=left_out)


def merge_initialize(
    told: Mapping[str, Introduction], version: str, server: ServerInfo, left_out: Mapping[str, str] | None = None
) -> bytes:
    """The `result` of `initialize` for all of them, at the version that the client is to speak."""
    content = {"protocolVersion": version, **_introduce(told), "serverInfo": server}
    capabilities = content["capabilities"]
    if isinstance(tasks := capabilities.get("tasks"), dict):
        # `tasks/list` isn't merged: a task is found by its id, which says whose it is
        capabilities["tasks"] = {key: value for key, value in tasks.items() if key != "list"}
    return encode_result(content, Era.LEGACY, left_out=left_out)


def _introduce(told: Mapping[str, Introduction]) -> dict[str, Any]:
    introduced: dict[str, Any] = {"capabilities": merge_capabilities(one.capabilities for one in told.values())}
    if instructions := join_instructions({name: one.instructions for name, one in told.items()}):
        introduced["instructions"] = instructions
    return introduced


def merge_capabilities(each: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The union: what any of them can, the whole can. Of settings that contradict, the first server's stand."""
    whole: dict[str, Any] = {}
    for capabilities in each:
        whole = _unite(whole, capabilities)
    return whole


def _unite(mine: Any, other: Any) -> Any:
    if isinstance(mine, dict) and isinstance(other, Mapping):
        united = {key: _unite(value, other[key]) if key in other else value for key, value in mine.items()}
        return united | {key: value for key, value in other.items() if key not in mine}
    if isinstance(mine, list) and isinstance(other, list):
        return mine + [item for item in other if item not in mine]
    # `false` and null say no more than absence does
    return other if mine is None or mine is False else mine


def join_instructions(each: Mapping[str, str]) -> str:
    """Every backend's instructions under its name."""
    return "\n\n".join(f"# {name}\n\n{text}" for name, text in each.items() if text)


def merge_versions(each: Sequence[Sequence[str]]) -> list[str]:
    """The versions that all support, the oldest first as servers list them; where there is none, those that any supports.

    A request names its version, and is refused by the backends that don't speak it: better some than none.
    """
    everything = {version: None for versions in each for version in versions}
    shared = [version for version in everything if all(version in versions for versions in each)]
    return sorted(shared or everything, key=_age)


def _age(version: str) -> tuple[int, str]:
    """Where a version stands among those that are known; behind them the others, by their dates."""
    known = KNOWN_PROTOCOL_VERSIONS
    return (known.index(version) if version in known else len(known), version)
