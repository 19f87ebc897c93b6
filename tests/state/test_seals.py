"""Sealed tokens: what opens, what doesn't, and what is remembered of it."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.state.seals import OPENED_TOKENS, STREAM_CIPHERS, Keyring
from tests.requirements import proves

OLD = b"old-old-old-old-old-old-old-old-"
NEW = b"new-new-new-new-new-new-new-new-"
PURPOSE = b"session"


@proves("SEAL-1")
@given(st.binary(max_size=300), st.binary(max_size=20))
def test_what_was_sealed_is_what_is_opened(plain: bytes, purpose: bytes) -> None:
    token = Keyring([OLD]).seal(plain, purpose)
    assert Keyring([OLD]).open(token, purpose) == plain
    assert token.isascii()
    assert token.isprintable()
    assert "=" not in token
    assert len(token) <= 38 + (4 * len(plain) + 2) // 3


@proves("SEAL-1")
def test_no_two_tokens_are_alike_and_the_plain_text_is_in_none() -> None:
    ring = Keyring([OLD])
    tokens = {ring.seal(b"the same", PURPOSE) for _ in range(100)}
    assert len(tokens) == 100
    assert all(b"the same" not in base64.urlsafe_b64decode(token + "==") for token in tokens)


@proves("SEAL-1")
def test_a_token_is_for_one_purpose_alone() -> None:
    ring = Keyring([OLD])
    token = ring.seal(b"x", PURPOSE)
    assert ring.open(token, b"cursor") is None
    assert ring.open(token, PURPOSE) == b"x"
    assert ring.open(token, b"cursor") is None  # though it is in the cache by now


@proves("SEAL-1")
def test_keys_are_rotated_by_adding_last_moving_first_and_dropping() -> None:
    sealed_by_old = Keyring([OLD]).seal(b"a", PURPOSE)
    added = Keyring([OLD, NEW])
    assert added.open(sealed_by_old, PURPOSE) == b"a"
    assert Keyring([OLD]).open(added.seal(b"b", PURPOSE), PURPOSE) == b"b"  # those not yet rolled read it
    moved = Keyring([NEW, OLD])
    sealed_by_new = moved.seal(b"c", PURPOSE)
    assert moved.open(sealed_by_old, PURPOSE) == b"a"
    assert added.open(sealed_by_new, PURPOSE) == b"c"
    dropped = Keyring([NEW])
    assert dropped.open(sealed_by_new, PURPOSE) == b"c"
    assert dropped.open(sealed_by_old, PURPOSE) is None


@proves("SEAL-2")
def test_a_token_with_any_character_changed_is_nothing() -> None:
    ring = Keyring([OLD])
    token = ring.seal(b'\x01\x95\xa5/echo"', PURPOSE)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/= \n\xe4"
    for position, character in enumerate(token):
        for other in alphabet.replace(character, ""):
            assert ring.open(token[:position] + other + token[position + 1 :], PURPOSE) is None
    for forged in (
        token[:-1],
        token + "A",
        token[1:],
        token + "=",
        token + "==",
        token + "\n",
        " " + token,
        token.swapcase(),
    ):
        assert ring.open(forged, PURPOSE) is None
    assert ring.open(token, PURPOSE) is not None


@proves("SEAL-2")
@pytest.mark.parametrize("length", range(5))
def test_one_token_has_one_spelling(length: int) -> None:
    ring = Keyring([OLD])
    token = ring.seal(b"x" * length, PURPOSE)
    twins = [token[:-1] + last for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"]
    assert [twin for twin in twins if ring.open(twin, PURPOSE) is not None] == [token]


@proves("SEAL-2")
@given(st.text(max_size=80))
def test_any_text_is_opened_or_nothing(text: str) -> None:
    assert Keyring([OLD]).open(text, PURPOSE) is None


@proves("SEAL-2")
@pytest.mark.parametrize("text", ["", "A", "A" * 37, "A" * 38, "A" * 10_000, "\ud800", "ſ" * 60])
def test_what_cannot_be_a_token_is_nothing(text: str) -> None:
    assert Keyring([OLD]).open(text, PURPOSE) is None


@proves("SEAL-3")
def test_opened_tokens_are_kept_within_a_bound_the_least_used_dropped_first() -> None:
    ring = Keyring([OLD])
    first, second = ring.seal(b"1", PURPOSE), ring.seal(b"2", PURPOSE)
    ring.open(first, PURPOSE)
    ring.open(second, PURPOSE)
    ring.open(first, PURPOSE)
    for number in range(OPENED_TOKENS - 1):
        ring.open(ring.seal(b"%d" % number, PURPOSE), PURPOSE)
    assert len(ring._opened) == OPENED_TOKENS
    assert (PURPOSE, first) in ring._opened
    assert (PURPOSE, second) not in ring._opened
    assert ring.open(second, PURPOSE) == b"2"


@proves("SEAL-3")
def test_strangers_texts_do_not_fill_the_cache() -> None:
    ring = Keyring([OLD])
    for number in range(100):
        ring.open(f"{number:060}", PURPOSE)
    assert len(ring._opened) == 0


@proves("SEAL-3")
def test_no_key_is_ever_shown() -> None:
    ring = Keyring([OLD, NEW])
    assert (repr(ring), str(ring)) == ("Keyring(2 keys)", "Keyring(2 keys)")


@proves("SEAL-1")
def test_a_ring_without_a_key_or_with_a_short_one_is_refused_without_showing_it() -> None:
    with pytest.raises(ValueError, match=r"^a key ring needs at least one key$"):
        Keyring([])
    with pytest.raises(ValueError, match=r"^a session key has at least 32 bytes$"):
        Keyring([OLD, b"short"])


STREAM = b"AAECAwQFBgcICQoLDA0ODw"


@proves("LOG-9")
@given(st.binary(max_size=300), st.binary(max_size=20))
def test_what_is_encrypted_for_a_place_is_what_is_decrypted_there(plain: bytes, place: bytes) -> None:
    sealed = Keyring([OLD]).encrypt(plain, STREAM, place)
    assert Keyring([NEW, OLD]).decrypt(sealed, STREAM, place) == plain
    assert len(sealed) == len(plain) + 28


@proves("LOG-9")
def test_an_event_opens_at_its_place_in_its_stream_only() -> None:
    ring = Keyring([OLD])
    sealed = ring.encrypt(b"result", STREAM, b"7-1")
    assert ring.decrypt(sealed, STREAM, b"7-1") == b"result"
    assert ring.decrypt(sealed, STREAM, b"8-1") is None
    assert ring.decrypt(sealed, STREAM[::-1], b"7-1") is None
    assert Keyring([NEW]).decrypt(sealed, STREAM, b"7-1") is None


@proves("LOG-9")
@given(st.data())
def test_an_event_that_was_changed_or_cut_is_nothing(data: st.DataObject) -> None:
    ring = Keyring([OLD])
    sealed = bytearray(ring.encrypt(b"result", STREAM, b"7-1"))
    index = data.draw(st.integers(0, len(sealed) - 1))
    sealed[index] ^= data.draw(st.integers(1, 255))
    assert ring.decrypt(bytes(sealed), STREAM, b"7-1") is None
    assert ring.decrypt(bytes(sealed[:index]), STREAM, b"7-1") is None


@proves("LOG-9")
def test_the_ciphers_of_streams_are_kept_within_a_bound() -> None:
    ring = Keyring([OLD])
    sealed = ring.encrypt(b"first", b"stream-0", b"1-1")
    for n in range(STREAM_CIPHERS + 10):
        ring.encrypt(b"x", b"stream-%d" % n, b"1-1")
    assert len(ring._of_streams) == STREAM_CIPHERS
    assert ring.decrypt(sealed, b"stream-0", b"1-1") == b"first"


@proves("SEAL-1")
def test_a_ring_whose_keys_change_opens_what_the_new_ones_open() -> None:
    ring, successor = Keyring([OLD]), Keyring([NEW])
    old, new = ring.seal(b"old", PURPOSE), successor.seal(b"new", PURPOSE)
    assert ring.open(old, PURPOSE) == b"old"
    ring.change([NEW])
    assert ring.open(new, PURPOSE) == b"new"
    assert ring.open(old, PURPOSE) is None
    with pytest.raises(ValueError, match="at least one key"):
        ring.change([])
    assert ring.open(new, PURPOSE) == b"new"
