"""The metadata of protected mounts (RFC 9728), as clients ask for them: made of the configuration alone.

A client derives the well-known path from the URL that it was given, and compares `resource` with that URL (§3.3): so each
spelling of a mount has a document of its own. One that knows no path asks at the root, which is the aggregate's at `/`.
"""

from gateway.policy.sites import Site
from gateway.protocol.resources import WELL_KNOWN, encode_metadata


def describe_resource(site: Site, path: str) -> bytes | None:
    """The document at a path of the gateway's, None where there is none: an issuer and a public URL are needed for one."""
    admission, spelling = site.admission, path.removeprefix(WELL_KNOWN)
    if spelling == path or admission is None or not admission.issuers or site.public_url is None:
        return None
    if spelling in ("", "/"):
        spelling = "/mcp"
    place = site.routes.get(spelling)
    if place is None:
        return None
    issuers = [issuer.issuer for issuer in admission.issuers]
    return encode_metadata(site.public_url + spelling, issuers, admission.scopes, place.name)
