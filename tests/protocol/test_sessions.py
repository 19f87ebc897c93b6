"""The content of a session token."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol.sessions import Part, Session, encode_session, parse_session
from tests.requirements import proves

texts = st.text(max_size=20)


@proves("SESS-6")
@given(
    st.builds(
        Session,
        *(texts, texts, texts, texts, texts, st.binary(max_size=50), texts),
        st.lists(st.builds(Part, texts, texts, texts, texts), max_size=3).map(tuple),
        texts,
    )
)
def test_what_is_encoded_is_what_is_parsed(session: Session) -> None:
    assert parse_session(encode_session(session)) == session


@proves("SESS-6")
def test_the_bytes_begin_with_the_format_version_and_another_is_not_read() -> None:
    plain = encode_session(Session("/echo", "http://10.0.0.7:9000/mcp", "u", "", "2025-11-25"))
    assert plain[:1] == b"\x01"
    assert parse_session(b"\x02" + plain[1:]) is None


@proves("SESS-6")
def test_a_session_of_a_later_or_earlier_release_is_read() -> None:
    assert parse_session(b"\x01\x95\xa2/a\xa1b\xa1c\xa1d\xa1e") == Session("/a", "b", "c", "d", "e")
    assert parse_session(b"\x01\x97\xa2/a\xa1b\xa1c\xa1d\xa1e\xc4\x01f\xa1g") == Session(
        "/a", "b", "c", "d", "e", b"f", "g"
    )
    assert parse_session(
        b"\x01\x9a\xa2/a\xa1b\xa1c\xa1d\xa1e\xc4\x01f\xa1g\x91\x94\xa1h\xa1i\xa1j\xa1k\xa1l\x07"
    ) == Session("/a", "b", "c", "d", "e", b"f", "g", (Part("h", "i", "j", "k"),), "l")


@proves("SESS-6")
@given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda b: b"\x01\x96" + b))
def test_any_bytes_are_a_session_or_none(plain: bytes) -> None:
    assert parse_session(plain) is None or isinstance(parse_session(plain), Session)
    assert parse_session(b"\x01\x96\xa1\xff\xa0\xa0\xa0\xa0\xc4\x00") is None
