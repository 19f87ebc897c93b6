"""The schema of what is in Redis: where it is called out that something is new."""

from gateway.protocol.cursors import NAME_CHARS, encode_name
from gateway.state.keys import WAKE_CHANNELS, wake_channel


def test_the_events_of_streams_are_called_out_where_nobody_listens_who_only_waits_for_the_end_of_a_call() -> None:
    names = [encode_name(bytes([n] * 16)) for n in range(256)]
    streams = {wake_channel(name) for name in names}
    sessions = {wake_channel(f"{n:032x}") for n in range(256)}
    assert {len(name) for name in names} == {NAME_CHARS}
    assert not streams & sessions
    assert max(len(streams), len(sessions)) <= WAKE_CHANNELS
