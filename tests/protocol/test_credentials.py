"""What of a request's headers says who calls."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol.credentials import (
    MAX_TOKEN_BYTES,
    CredentialHeaders,
    Credentials,
    is_bearer,
    parse_bearer,
    parse_client_certificate,
    read_credentials,
    split_groups,
)
from gateway.protocol.headers import Headers, index_headers
from gateway.protocol.outcomes import Rejected
from tests.requirements import proves

ALL = CredentialHeaders(b"x-api-key", b"x-user", b"x-groups")


def read(headers: Headers, names: CredentialHeaders = ALL, *, trusted: bool = True) -> Credentials:
    return read_credentials(headers, index_headers(headers)[0], names, trusted=trusted, resource="https://a.test/b/mcp")


@pytest.mark.parametrize(
    ("authorization", "token"),
    [
        (b"Bearer abc", "abc"),
        (b"bearer abc", "abc"),
        (b"BEARER   abc", "abc"),
        (b" Bearer abc \t", "abc"),
        (b"Bearer a.b-c_d~e+f/g==", "a.b-c_d~e+f/g=="),
        (b"Bearer " + b"a" * MAX_TOKEN_BYTES, "a" * MAX_TOKEN_BYTES),
        (b"Bearer " + b"a" * (MAX_TOKEN_BYTES + 1), None),
        (b"Bearer", None),
        (b"Bearer ", None),
        (b"Bearer a b", None),
        (b"Bearer a,b", None),
        (b'Bearer "a"', None),
        (b"Bearer =a", None),
        (b"Bearer a=b", None),
        (b"Bearer\tabc", None),
        (b"Bearer a\xe9", None),
        (b"Bearerabc", None),
        (b"Basic abc", None),
        (b"", None),
    ],
)
def test_a_bearer_token_is_what_its_grammar_says(authorization: bytes, token: str | None) -> None:
    assert parse_bearer(authorization) == token


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [(b"Bearer", True), (b"bEaReR x y", True), (b"Bearerx", False), (b"Basic Bearer", False), (b"", False)],
)
def test_a_scheme_is_known_in_any_case(authorization: bytes, expected: bool) -> None:
    assert is_bearer(authorization) is expected


@given(st.binary())
def test_any_bytes_are_a_token_or_none(raw: bytes) -> None:
    token = parse_bearer(b"Bearer " + raw)
    assert token is None or token.encode("ascii") == raw.strip(b" \t")


@proves("AUTH-6")
def test_a_proxys_word_is_read_from_a_trusted_peer_alone() -> None:
    headers = [(b"x-user", b" alice "), (b"x-groups", b"admins"), (b"x-api-key", b"k")]
    assert read(headers) == Credentials("https://a.test/b/mcp", b"", b"k", b"alice", b"admins")
    assert read(headers, trusted=False) == Credentials("https://a.test/b/mcp", b"", b"k")


def test_a_header_that_is_not_configured_is_not_read() -> None:
    headers = [(b"x-user", b"alice"), (b"x-api-key", b"k"), (b"authorization", b"Bearer t")]
    assert read(headers, CredentialHeaders()) == Credentials("https://a.test/b/mcp", b"Bearer t")


@pytest.mark.parametrize("name", [b"x-user", b"x-groups", b"x-api-key"])
def test_a_header_that_stands_twice_is_refused(name: bytes) -> None:
    with pytest.raises(Rejected, match="twice"):
        read([(b"x-user", b"alice"), (name, b"mallory"), (name, b"alice")])


def test_a_strangers_doubled_header_is_nobodys_business() -> None:
    assert read([(b"x-user", b"a"), (b"x-user", b"b")], trusted=False).user == b""


def test_groups_are_apart_by_what_proxies_write() -> None:
    assert split_groups(b"a, b|c;d,,") == {"a", "b", "c", "d"}
    assert split_groups(b"") == frozenset()


@given(st.binary())
def test_any_bytes_are_a_certificates_subject_or_none(raw: bytes) -> None:
    assert parse_client_certificate(raw, "Subject") != ""


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters='"\\', exclude_categories=("Cc",)), min_size=1))
def test_a_quoted_subject_is_read_whole(name: str) -> None:
    header = f'By=x;Subject="{name}";URI=y'.encode()
    assert parse_client_certificate(header, "Subject") == name
