"""What is kept of answers: what the file says of it, and the policy that this becomes."""

from typing import Annotated, Final

from pydantic import BeforeValidator, Field

from gateway.policy.backends import Caching
from gateway.policy.caches import CacheBounds
from gateway.settings import values
from gateway.settings.fields import Duration, Shape, Size, size_field


class CacheShape(Shape):
    """How much is kept of discovery and lists, per worker. Beyond it what was longest not asked for goes first."""

    max_entries: Annotated[int, Field(ge=1, le=1_000_000), BeforeValidator(values.refuse_flags)] = Field(
        default=CacheBounds().max_entries, description="One is a page of one list, for one kind of client."
    )
    max_size: Size = size_field(CacheBounds().max_bytes, "All of them together.")


class BackendCacheShape(Shape):
    """How long this backend's discovery and lists are kept: as long as it says (`ttlMs`), or less."""

    max_ttl: Duration | None = Field(
        default=None, description="At most so long, whatever the backend says.", examples=["30s"]
    )


_OFF: Final = BackendCacheShape.model_construct(max_ttl=0.0)
"""No duration that can be written is 0."""

_SWITCHES: Final = {"off": _OFF, False: _OFF, "on": BackendCacheShape(), True: BackendCacheShape()}


def read_cache(value: object) -> object:
    """`off` is text in YAML 1.2 and false in YAML 1.1: both are meant alike."""
    if isinstance(value, bool | str):
        if value not in _SWITCHES:
            raise ValueError("must be `off`, or a mapping such as {max_ttl: 30s}")
        return _SWITCHES[value]
    return value


BackendCache = Annotated[BackendCacheShape, BeforeValidator(read_cache)]


def compile_caching(shape: BackendCacheShape) -> Caching:
    return Caching(is_on=shape.max_ttl != 0, max_ttl_seconds=shape.max_ttl or None)


def compile_bounds(shape: CacheShape) -> CacheBounds:
    return CacheBounds(max_entries=shape.max_entries, max_bytes=shape.max_size)
