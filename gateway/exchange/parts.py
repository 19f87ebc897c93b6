"""One member's part of an aggregate's session."""

import msgspec

from gateway.policy.aggregates import Member
from gateway.policy.streams import SessionDigest
from gateway.protocol.sessions import Session


def find_part(whole: Session, digest: SessionDigest, member: Member) -> Session:
    """The session at the member's backend. `digest`: of the whole one.

    A member that was away when the session began has none yet, nor a version: its part is begun when it is first needed, as
    one that its backend forgot, and found by all replicas under the whole session's digest.
    """
    return find_begun(whole, member) or _turn(whole, "", f"absent {digest} {member.backend}", "")


def find_begun(whole: Session, member: Member) -> Session | None:
    """The same of a member that was there when the session began; None of any other."""
    for part in whole.parts:
        if part.backend == member.backend:
            return _turn(whole, part.address, part.upstream_id, part.version)
    return None


def _turn(whole: Session, address: str, upstream_id: str, version: str) -> Session:
    return msgspec.structs.replace(
        whole, address=address, upstream_id=upstream_id, version=version, parts=(), shown_version=whole.version
    )
