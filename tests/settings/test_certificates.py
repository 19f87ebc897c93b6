"""A backend's PEM files are tried out before any call needs them."""

from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from tests.settings.files import mistakes, read, write

HTTPS = "backends:\n  a:\n    endpoints: [https://localhost:1/mcp]\n    tls: "


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def pems(tmp_path: Path, authority: trustme.CA) -> Path:
    """A directory with ca.pem, client.pem, client.key and the key of somebody else, other.key."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    client, other = authority.issue_cert("gateway.test"), authority.issue_cert("other.test")
    client.cert_chain_pems[0].write_to_path(tmp_path / "client.pem")
    client.private_key_pem.write_to_path(tmp_path / "client.key")
    other.private_key_pem.write_to_path(tmp_path / "other.key")
    return tmp_path


def test_paths_are_absolute_and_watched(pems: Path) -> None:
    told = read(pems, f"{HTTPS}{{ca_file: ca.pem, client_cert: client.pem, client_key: client.key}}\n")
    tls = told.site.backends["a"].tls
    assert (tls.ca_file, tls.client_cert, tls.client_key) == tuple(
        f"{pems}/{name}" for name in ("ca.pem", "client.pem", "client.key")
    )
    assert {tls.ca_file, tls.client_cert, tls.client_key} < set(told.files)


def test_a_renewed_certificate_is_another_configuration(pems: Path) -> None:
    text = f"{HTTPS}{{ca_file: ca.pem}}\n"
    before, again = read(pems, text), read(pems, text)
    trustme.CA().cert_pem.write_to_path(pems / "ca.pem")
    after = read(pems, text)
    assert before.site.backends["a"].tls == again.site.backends["a"].tls != after.site.backends["a"].tls
    assert before.site.digest == again.site.digest != after.site.digest


@pytest.mark.parametrize(
    ("tls", "key", "message"),
    [
        ("{ca_file: nowhere}", "ca_file", "can't read {}/nowhere: no such file or directory"),
        ("{ca_file: gateway.yaml}", "ca_file", "{}/gateway.yaml holds no PEM certificates"),
        ("{client_cert: client.pem}", "client_cert", "needs `client_key:` beside it"),
        ("{client_key: client.key}", "client_key", "needs `client_cert:` beside it"),
        ("{client_cert: client.pem, client_key: other.key}", "client_cert", "key values mismatch"),
        ("{client_cert: client.key, client_key: client.key}", "client_cert", "can't be used together with client_key"),
        ("{client_cert: client.pem, client_key: locked.key}", "client_cert", "the key is encrypted: store it without"),
    ],
)
def test_files_that_cannot_be_used_are_told(pems: Path, tls: str, key: str, message: str) -> None:
    private = serialization.load_pem_private_key((pems / "client.key").read_bytes(), None)
    locked = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"x"),
    )
    (pems / "locked.key").write_bytes(locked)
    (found,) = mistakes(pems, f"{HTTPS}{tls}\n")
    assert (found.line, found.key) == (4, f"backends.a.tls.{key}")
    assert message.format(pems) in found.message


def test_an_included_files_certificates_stand_beside_it(pems: Path) -> None:
    write(pems, f"{HTTPS}{{ca_file: ../ca.pem}}\n", "conf.d/a.yaml")
    told = read(pems, "include: conf.d/*.yaml")
    assert told.site.backends["a"].tls.ca_file == f"{pems}/conf.d/../ca.pem"
