"""Event ids: what is encoded is what is parsed, and everything else is nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol.cursors import Cursor, EventId, encode_event_id, encode_name, is_standing_name, parse_event_id
from tests.requirements import proves

pytestmark = proves("EVID-1")

NAME = encode_name(bytes(range(16)))

cursors = st.builds(Cursor, st.integers(1, 10**12 - 1), st.integers(1, 10**12 - 1))


def test_a_name_is_22_characters_of_base64url() -> None:
    assert NAME == "AAECAwQFBgcICQoLDA0ODg"
    assert encode_name(b"\xff" * 16) == "_____________________g"


@given(random=st.binary(min_size=16, max_size=16), is_standing=st.booleans())
def test_a_name_tells_a_standing_stream(random: bytes, is_standing: bool) -> None:
    assert is_standing_name(encode_name(random, is_standing=is_standing)) == is_standing


def test_a_name_is_made_of_16_bytes() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        encode_name(b"short")


def test_an_id_tells_its_epoch_only_where_the_stream_has_changed_hands() -> None:
    assert encode_event_id(NAME, Cursor(7, 1)) == "AAECAwQFBgcICQoLDA0ODg.7"
    assert encode_event_id(NAME, Cursor(7, 90210)) == "AAECAwQFBgcICQoLDA0ODg.7.90210"


@given(st.binary(min_size=16, max_size=16), cursors)
def test_what_is_encoded_is_what_is_parsed(random: bytes, cursor: Cursor) -> None:
    name = encode_name(random)
    assert parse_event_id(encode_event_id(name, cursor)) == EventId(name, cursor)


@given(st.one_of(st.text(), st.text("AQgw_-.019", min_size=20, max_size=40)))
def test_any_text_is_an_id_in_its_one_spelling_or_nothing(text: str) -> None:
    parsed = parse_event_id(text)
    assert parsed is None or encode_event_id(*parsed) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "AAECAwQFBgcICQoLDA0ODw",
        "AAECAwQFBgcICQoLDA0ODg.",
        "AAECAwQFBgcICQoLDA0ODg.0",
        "AAECAwQFBgcICQoLDA0ODg.07",
        "AAECAwQFBgcICQoLDA0ODg.7.1",
        "AAECAwQFBgcICQoLDA0ODg.7.0",
        "AAECAwQFBgcICQoLDA0ODg.7.2.3",
        "AAECAwQFBgcICQoLDA0ODg.1000000000000",
        "AAECAwQFBgcICQoLDA0ODx.7",
        "AAECAwQFBgcICQoLDA0OD.7",
        "AAECAwQFBgcICQoLDA0ODg.7\n",
        "AAECAwQFBgcICQoLDA0ODg.７",
        " AAECAwQFBgcICQoLDA0ODg.7",
    ],
)
def test_what_only_looks_like_an_id_is_nothing(text: str) -> None:
    assert parse_event_id(text) is None
