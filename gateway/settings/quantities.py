"""Durations and sizes as people write them: `250ms`, `5m`, `1h30m`, `4MiB`. Seconds and bytes inside."""

import re
from decimal import Decimal
from typing import Final

MAX_SECONDS: Final = 366 * 86400
"""Nothing in a gateway takes longer than a year; what does is a slip of the pen. Beyond: refused."""
MAX_BYTES: Final = 1 << 50

_SECONDS: Final = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600), "d": Decimal(86400)}
_BYTES: Final = {
    "": 1,
    "b": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "kib": 1024,
    "mib": 1024**2,
    "gib": 1024**3,
}
_NUMBER: Final = r"[0-9]{1,16}(?:\.[0-9]{1,20})?"
_PART: Final = re.compile(f"({_NUMBER})(ms|s|m|h|d)")
DURATION_PATTERN: Final = f"({_NUMBER}(ms|s|m|h|d))+|{_NUMBER}"
SIZE_PATTERN: Final = f"{_NUMBER} ?([kKmMgG][iI]?)?[bB]|{_NUMBER}"
_DURATION: Final = re.compile(DURATION_PATTERN)
_SIZE: Final = re.compile(f"({_NUMBER}) ?([a-z]*)")


def parse_duration(value: object) -> float:
    """Seconds. Raises ValueError, with a sentence that doesn't quote the value, for anything but a duration."""
    if not 0 < (seconds := _read_seconds(value)) <= MAX_SECONDS:
        raise ValueError("must be a duration above 0 and of at most 366 days")
    return float(seconds)


def parse_wait(value: object) -> float:
    """Seconds, which may be 0: that there is no wait. Raises ValueError as `parse_duration` does."""
    if (seconds := _read_seconds(value)) > MAX_SECONDS:
        raise ValueError("must be a duration of at most 366 days")
    return float(seconds)


def _read_seconds(value: object) -> Decimal:
    seconds = _sum_seconds(str(value)) if _is_written(value) else None
    if seconds is None:
        raise ValueError("must be a duration such as 250ms, 3s, 5m or 1h, or a number of seconds")
    return seconds


def _is_written(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _sum_seconds(text: str) -> Decimal | None:
    if not _DURATION.fullmatch(text := text.strip()):
        return None
    if parts := _PART.findall(text):
        return sum((Decimal(number) * _SECONDS[unit] for number, unit in parts), Decimal(0))
    return Decimal(text)


def encode_duration(seconds: float) -> str:
    """The shortest spelling that `parse_duration` reads back as the same number."""
    exact = Decimal(repr(seconds))
    for unit in ("d", "h", "m"):
        if exact >= _SECONDS[unit] and exact % _SECONDS[unit] == 0:
            return f"{int(exact / _SECONDS[unit])}{unit}"
    spelt = f"{exact * 1000:f}" if exact < 1 else f"{exact:f}"
    return (spelt.rstrip("0").rstrip(".") if "." in spelt else spelt) + ("ms" if exact < 1 else "s")


def parse_size(value: object) -> int:
    """Bytes. Raises ValueError, with a sentence that doesn't quote the value, for anything but a size."""
    match = _SIZE.fullmatch(str(value).strip().lower()) if _is_written(value) else None
    if match is None or match[2] not in _BYTES:
        raise ValueError("must be a size such as 512KiB, 4MiB or 10MB, or a number of bytes")
    size = Decimal(match[1]) * _BYTES[match[2]]
    if size != int(size) or not 0 < size <= MAX_BYTES:
        raise ValueError("must be a whole number of bytes above 0 and of at most 1 PiB")
    return int(size)


def encode_size(size_bytes: int) -> str:
    """The shortest spelling in powers of two that `parse_size` reads back as the same number."""
    for unit in ("GiB", "MiB", "KiB"):
        if size_bytes % _BYTES[unit.lower()] == 0:
            return f"{size_bytes // _BYTES[unit.lower()]}{unit}"
    return f"{size_bytes}B"
