"""Spellings of one URI are judged alike, and what is normal already is left as it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.uris import MAX_URI_CHARACTERS, has_dots, normalize, normalize_glob
from tests.requirements import proves


@proves("GRANT-5")
@pytest.mark.parametrize(
    ("uri", "normal"),
    [
        ("file:///public/%2e%2e/secret", "file:///secret"),
        ("file:///public/%252e%252E/secret", "file:///secret"),
        ("file:///public/..%2fsecret", "file:///secret"),
        ("file:///public/..;a=b/secret", "file:///secret"),
        ("file:///public\\..\\secret", "file:///secret"),
        ("file:///public/．．/secret", "file:///secret"),
        ("file:///public/.\t./secret", "file:///secret"),
        ("file:///public/%\x002e./secret", "file:///secret"),
        ("file:///%73ecret", "file:///secret"),
        ("file:////secret", "file:///secret"),
        ("file:///./secret", "file:///secret"),
        ("file:///secret/.", "file:///secret/"),
        ("FILE:///secret", "file:///secret"),
        (" file:///secret", "file:///secret"),
        ("file://localhost/secret", "file:///secret"),
        ("HTTP://user:pw@Docs.Example.:80/A", "http://docs.example/A"),
        ("https://docs.example:443/a", "https://docs.example/a"),
        ("https://docs.example:8443/a", "https://docs.example:8443/a"),
        ("https://docs.example", "https://docs.example"),
        ("NOTE:a//b/../c", "note:a/c"),
        ("file:///e\u0301te\u0301", "file:///été"),
        ("docs", "docs"),
        ("", ""),
    ],
)
def test_the_spellings_of_a_uri_are_made_alike(uri: str, normal: str) -> None:
    assert normalize(uri) == normal


@pytest.mark.parametrize(
    "uri", ["file:///a/b.md", "docs://a/.hidden/b...c", "urn:isbn:1", "note://x", "https://a.b/c?d=e&f=g#h", "a:b:C/D/"]
)
def test_what_is_normal_stays_as_it_is(uri: str) -> None:
    assert normalize(uri) == uri


@pytest.mark.parametrize(
    "uri",
    ["file:///%25252525252e", "a:" + "b" * MAX_URI_CHARACTERS, "docs://public/../secret", "file:///a/../../b", "a:.."],
)
def test_what_is_escaped_too_deep_or_too_long_or_leads_out_of_the_root_is_judged_by_nobody(uri: str) -> None:
    assert normalize(uri) is None


@pytest.mark.parametrize(
    ("glob", "normal"),
    [
        ("*", "*"),
        ("file:*", "file:*"),
        ("*/secret/*", "*/secret/*"),
        ("*://x/*", "*://x/*"),
        ("FILE:///My%20docs/[a-z]*", "file:///My docs/[a-z]*"),
        ("file:///100%25/%2a%2A%3F%5b", "file:///100%/[*][*][?][[]"),
    ],
)
def test_a_pattern_is_made_alike_with_its_uris(glob: str, normal: str) -> None:
    assert normalize_glob(glob) == normal


@pytest.mark.parametrize("uri", ["..", "a:..", "a:/./b", "a:\\..\\b", "a:b/..;c"])
def test_ways_up_are_seen(uri: str) -> None:
    assert has_dots(uri)
    assert not has_dots("a:.b/c../...")


_NEAR = st.text(alphabet="ab/:.%;\\A?*[2eE@0 é\x00", max_size=16)
_URIS = st.one_of(_NEAR, *(_NEAR.map(start.__add__) for start in ("x:", "x:/", "file://", "file:///", "X://a:80")))


@proves("GRANT-5")
@given(_URIS)
def test_a_normal_form_is_its_own(uri: str) -> None:
    normal = normalize(uri)
    assert normal is None or normalize(normal) == normal


@given(_URIS)
def test_a_normal_form_has_no_way_up_and_nothing_that_is_left_out(uri: str) -> None:
    normal = normalize(uri)
    if normal is not None and normal != uri:
        assert not has_dots(normal.partition("://")[2])
        assert "\\" not in normal
        assert "\x00" not in normal
