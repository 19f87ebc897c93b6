"""JSON objects read with every key they have: doubled ones, and ones in a variant that some parser takes for the key.

The slow and exact side of `messages`. Knows which keys decide; not what they mean.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from mcp_types import PROTOCOL_VERSION_META_KEY

from gateway.protocol.outcomes import Outcome, Rejected

# By the case-folded key, as Go's parser compares them: the exact one.
ENVELOPE_KEYS: Final = {key: key for key in ("jsonrpc", "id", "method", "params", "result", "error")}
PARAMS_KEYS: Final = {key: key for key in ("name", "uri", "_meta")}
META_KEYS: Final = {PROTOCOL_VERSION_META_KEY.casefold(): PROTOCOL_VERSION_META_KEY}


class Pairs(list[tuple[str, Any]]):
    """A JSON object with every key it has, doubled ones too."""


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def load_pairs(body: bytes) -> Any:
    """The value of a UTF-8 body, its objects as `Pairs`. Raises `Rejected` (PARSE_ERROR)."""
    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=Pairs, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Rejected(Outcome.PARSE_ERROR, "the body is not valid JSON") from error


def take_unique(pairs: Pairs, deciding: Mapping[str, str], where: str) -> dict[str, Any]:
    """The object as a dict. Raises `Rejected` (AMBIGUOUS) where a deciding key is doubled or misspelt."""
    known: dict[str, Any] = {}
    seen: set[str] = set()
    for key, value in pairs:
        if (exact := deciding.get(key.casefold())) is not None:
            if exact in seen:
                raise Rejected(Outcome.AMBIGUOUS, f"`{where}{exact}` stands twice in the body: send each key once")
            if key != exact:
                # The key isn't repeated: an error message must be sayable, whatever was sent.
                text = f"`{where}{exact}` must be spelt exactly so: some servers read the body's variant as that"
                raise Rejected(Outcome.AMBIGUOUS, text)
            seen.add(exact)
        known[key] = value
    return known


def plain(value: Any) -> Any:
    """The value with dicts for pairs. Its depth is bounded: a stack that JSON can exhaust would be an attack."""
    try:
        return _unpair(value)
    except RecursionError as error:
        raise Rejected(Outcome.PARSE_ERROR, "`params._meta` is nested too deep") from error


def _unpair(value: Any) -> Any:
    if isinstance(value, Pairs | dict):
        items = value.items() if isinstance(value, dict) else value
        return {key: _unpair(item) for key, item in items}
    if isinstance(value, list):
        return [_unpair(item) for item in value]
    return value
