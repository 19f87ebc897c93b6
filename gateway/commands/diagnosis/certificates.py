"""TLS: whether the server's certificate is one that a client accepts, and for how long."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509

from gateway.commands.diagnosis.findings import Chart
from gateway.commands.diagnosis.targets import Target

SOON: Final = timedelta(days=14)
"""Certificates that are renewed by themselves are so a month before; one that is this old was forgotten."""

_EXPIRED: Final = 10  # OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED
_NOT_YET_VALID: Final = 9
_SELF_SIGNED: Final = frozenset({18, 19})
_NO_ISSUER: Final = frozenset({2, 20, 21})
_WRONG_NAME: Final = frozenset({62, 64})


async def check_tls(target: Target, chart: Chart, address: str, trust: ssl.SSLContext, timeout_seconds: float) -> bool:
    """Whether a client can go on."""
    if not target.is_tls:
        return True
    try:
        certificate, version = await _shake_hands(target, address, trust, timeout_seconds)
    except ssl.SSLCertVerificationError as error:
        seen, mend = await _explain(target, address, error, timeout_seconds)
        chart.fault("tls", seen, mend)
        return False
    except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError
        if await _speaks_plainly(target, address, timeout_seconds):
            mend = f"use http://{target.parts.netloc}, or the port on which TLS ends"
            chart.fault("tls", f"port {target.port} speaks plain HTTP, not TLS", mend)
        else:
            chart.fault("tls", *_explain_failure(error, timeout_seconds))
        return False
    left = certificate.not_valid_after_utc - datetime.now(UTC)
    facts = f"{version}, {_names(certificate)}, valid until {certificate.not_valid_after_utc:%Y-%m-%d}"
    if left < SOON:
        chart.doubt(
            "tls", f"{facts}: {left.days} days more", "renew the certificate, and see why that wasn't automatic"
        )
    else:
        chart.fine("tls", facts)
    return True


async def _shake_hands(
    target: Target, address: str, context: ssl.SSLContext, timeout_seconds: float
) -> tuple[x509.Certificate, str]:
    async with asyncio.timeout(timeout_seconds):
        _, writer = await asyncio.open_connection(address, target.port, ssl=context, server_hostname=target.host)
    try:
        connection = writer.get_extra_info("ssl_object")
        return x509.load_der_x509_certificate(connection.getpeercert(binary_form=True)), connection.version()
    finally:
        writer.close()


async def _explain(
    target: Target, address: str, error: ssl.SSLCertVerificationError, timeout_seconds: float
) -> tuple[str, str]:
    """What is wrong with a certificate, and its mend. It is read by a second handshake that trusts it; nothing is sent."""
    certificate, _ = await _shake_hands(target, address, _indifferent(), timeout_seconds)
    code = error.verify_code
    if code == _EXPIRED:
        return f"the certificate expired on {certificate.not_valid_after_utc:%Y-%m-%d}", "renew the certificate"
    if code == _NOT_YET_VALID:
        seen = f"the certificate is valid only from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        return seen, "set this machine's clock, or have the certificate issued again"
    if code in _WRONG_NAME:
        seen = f"the certificate is for {_names(certificate)}, not for {target.host}"
        return seen, "use a URL with a name that is in the certificate, or have it issued for this one too"
    trust = "or have the client trust it: --ca-file here, SSL_CERT_FILE for Python, NODE_EXTRA_CA_CERTS for Node"
    if code in _SELF_SIGNED:
        return (
            "the certificate, or its root, is signed by itself",
            f"use one of an authority that clients know, {trust}",
        )
    issuer = certificate.issuer.rfc4514_string()
    if code in _NO_ISSUER:
        mend = f"have the server send its intermediate certificates too (the full chain), {trust}"
        return f"the certificate's issuer is not known here: {issuer}", mend
    return f"the certificate is not accepted: {error.verify_message}", f"issue it anew, {trust}"


def _explain_failure(error: Exception, timeout_seconds: float) -> tuple[str, str]:
    if isinstance(error, TimeoutError):
        seen = f"the TLS handshake was not answered within {timeout_seconds:g} s"
        return seen, "check that this port speaks TLS, and that no firewall inspects it"
    return f"the TLS handshake failed: {error}", "check the server's TLS settings: TLS 1.2 or 1.3 with a current cipher"


async def _speaks_plainly(target: Target, address: str, timeout_seconds: float) -> bool:
    """Whether plain HTTP is answered with HTTP."""
    try:
        async with asyncio.timeout(timeout_seconds):
            reader, writer = await asyncio.open_connection(address, target.port)
            try:
                writer.write(f"OPTIONS * HTTP/1.1\r\nHost: {target.parts.netloc}\r\nConnection: close\r\n\r\n".encode())
                return await reader.readexactly(5) == b"HTTP/"
            finally:
                writer.close()
    except (OSError, TimeoutError, EOFError):
        return False


async def check_scheme(target: Target, chart: Chart, address: str, timeout_seconds: float) -> None:
    """Whether a port that doesn't answer plain HTTP speaks TLS."""
    try:
        await _shake_hands(target, address, _indifferent(), timeout_seconds)
    except (OSError, TimeoutError):
        return
    chart.fault("tls", f"port {target.port} speaks TLS, not plain HTTP", f"use https://{target.parts.netloc}")


def _indifferent() -> ssl.SSLContext:
    """Takes any certificate: for looking at it, never for sending anything."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _names(certificate: x509.Certificate) -> str:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return certificate.subject.rfc4514_string()
    return ", ".join(str(name.value) for name in names)
