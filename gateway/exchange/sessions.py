"""What stands for a session where all replicas look: in keys, and in what is kept of its streams."""

from hashlib import blake2b

from gateway.policy.streams import SessionDigest


def digest_session(token: str) -> SessionDigest:
    """A digest, so that a look into Redis gives nobody a session. A client keeps its token as long as its session."""
    return SessionDigest(blake2b(token.encode("ascii"), digest_size=16).hexdigest())
