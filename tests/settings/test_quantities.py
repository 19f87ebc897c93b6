"""Durations and sizes mean what people mean by them, and read back as they were written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings.quantities import encode_duration, encode_size, parse_duration, parse_size, parse_wait


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3s", 3.0),
        ("250ms", 0.25),
        ("5m", 300.0),
        ("1h", 3600.0),
        ("1h30m", 5400.0),
        ("2d", 172800.0),
        ("1.5s", 1.5),
        (7, 7.0),
        (0.5, 0.5),
        ("7", 7.0),
        (" 7s ", 7.0),
    ],
)
def test_a_duration_is_seconds(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "s", "5 m", "-1s", "1s2", "1M", "1e3s", "inf", "nan", True, None, [], "0s", "9999d"]
)
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="must be a duration"):
        parse_duration(text)


@pytest.mark.parametrize(("text", "seconds"), [("5s", 5.0), ("0s", 0.0), ("0", 0.0), (0, 0.0), ("250ms", 0.25)])
def test_a_wait_may_be_none_at_all(text: object, seconds: float) -> None:
    assert parse_wait(text) == seconds


@pytest.mark.parametrize("text", ["", "-1s", -1, True, None, [], "9999d"])
def test_what_is_no_wait_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="must be a duration"):
        parse_wait(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4MiB", 4194304),
        ("512KiB", 524288),
        ("10MB", 10000000),
        ("1GiB", 1073741824),
        ("1.5kB", 1500),
        ("3 MiB", 3145728),
        ("2mib", 2097152),
        ("7B", 7),
        ("7", 7),
        (65536, 65536),
    ],
)
def test_a_size_is_bytes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "-1", "4M", "4MBit", "0", "1.5B", "1e3", True, None, {}, "99999999GiB"])
def test_what_is_no_size_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"must be a (size|whole number)"):
        parse_size(text)


@given(st.floats(min_value=0.001, max_value=366 * 86400))
def test_a_duration_reads_back_as_it_was_written(seconds: float) -> None:
    assert parse_duration(encode_duration(seconds)) == seconds


@given(st.integers(min_value=1, max_value=1 << 50))
def test_a_size_reads_back_as_it_was_written(size: int) -> None:
    assert parse_size(encode_size(size)) == size


@pytest.mark.parametrize(
    ("seconds", "text"), [(300.0, "5m"), (3600.0, "1h"), (0.25, "250ms"), (90.0, "90s"), (1.5, "1.5s"), (86400.0, "1d")]
)
def test_a_duration_is_written_short(seconds: float, text: str) -> None:
    assert encode_duration(seconds) == text
