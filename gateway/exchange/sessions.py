"""What stands for a session where all replicas look: in keys, and in what is kept of its streams."""

from hashlib import blake2b

from gateway.policy.streams import Facts, SessionDigest
from gateway.protocol.sessions import Session


def digest_session(token: str) -> SessionDigest:
    """A digest, so that a look into Redis gives nobody a session. A client keeps its token as long as its session."""
    return SessionDigest(blake2b(token.encode("ascii"), digest_size=16).hexdigest())


def describe_stream(token: str, session: Session, backend: str) -> Facts:
    """What never changes of a stream of that session at that backend."""
    return Facts(
        session=digest_session(token),
        principal=session.principal,
        mount=session.mount,
        backend=backend,
        endpoint=session.address,
        upstream_session=session.upstream_id,
        version=session.version,
        shown_version=session.shown_version,
    )
