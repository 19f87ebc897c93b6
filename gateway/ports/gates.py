"""Who calls: the port behind which tokens, keys and proxies' words are proven.

How the flow asks, where `site.admission` is not None (where it is, everyone is `ANONYMOUS` and nothing is read):

    credentials = read_credentials(inbound.headers, exchange.index, site.admission.headers,
        trusted=is_trusted(inbound.peer, site.trusted_proxies), resource=resource_of(site.public_url, place.mount),
        path=inbound.path)
    identity = gateway.gate.recall(credentials) or await gateway.gate.identify(credentials)

`site.admission.headers.names` are the headers that must not go on to a backend. A grant that wants further scopes raises
`insufficient_scope(called_as(resource, path), all_that_are_needed)` of `protocol/resources`. A swapped configuration is told
to the gate by `change(site.admission)`, in the same turn of the loop in which `gateway.site` is replaced.
"""

from typing import Protocol

from gateway.policy.identities import Identity
from gateway.protocol.credentials import Credentials


class Gate(Protocol):
    """Tells who calls."""

    def recall(self, credentials: Credentials) -> Identity | None:
        """Who was found to have sent the same credentials to the same resource a short while ago; None: ask `identify`."""

    async def identify(self, credentials: Credentials) -> Identity:
        """Who sent them, within a few seconds.

        Raises `Denied`: UNAUTHENTICATED (401), INSUFFICIENT_SCOPE (403), each with its challenge in `headers`; `Failed`:
        ISSUER_AWAY (503), where nobody can say now whether they are good.
        """
