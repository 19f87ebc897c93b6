"""The ledger: what the gateway must do, each with the place that says so, and the tests tied to it by `proves`.

`test_requirements.py` checks it both ways: every requirement is proved by a test, every id a test names stands here.
"""

from typing import Final, NamedTuple

import pytest

_2025_11 = "https://modelcontextprotocol.io/specification/2025-11-25/basic/transports"
_2025_03 = "https://modelcontextprotocol.io/specification/2025-03-26/basic"
_2026_07 = "https://modelcontextprotocol.io/specification/2026-07-28/basic"
_RFC = "https://www.rfc-editor.org/rfc"
_AUTH = "https://modelcontextprotocol.io/specification/2025-11-25/basic/authorization"
_RPC = "https://www.jsonrpc.org/specification"
_HTTP = "https://www.rfc-editor.org/rfc/rfc9110"
_SSE = "https://html.spec.whatwg.org/multipage/server-sent-events.html"
_TRACE = "https://www.w3.org/TR/trace-context/"
_FETCH = "https://fetch.spec.whatwg.org/"

GATEWAY: Final = "gateway"
"""The source of what no specification asks, but the gateway's own design."""


class Requirement(NamedTuple):
    source: str  # a link, or `gateway`
    sentence: str


REQUIREMENTS: Final[dict[str, Requirement]] = {
    # What bytes mean
    "MSG-1": Requirement(f"{_RPC}#request_object", "A body is a request, a notification or a response, or refused."),
    "MSG-2": Requirement(GATEWAY, "A body that two parsers could read differently is refused with 400."),
    "MSG-3": Requirement(GATEWAY, "Keys that decide nothing where they stand don't get a body refused."),
    "MSG-4": Requirement(GATEWAY, "Any bytes and headers are an intent or a rejection, nothing else."),
    "MSG-5": Requirement(f"{_2025_03}", "Batches are taken of 2025-03-26, each member checked, never `initialize`."),
    "HDR-1": Requirement(f"{_2026_07}/transports", "A modern request's headers agree with its body, or -32020."),
    "HDR-2": Requirement(f"{_2026_07}/transports", "An unknown version gets -32022 with those that are supported."),
    "HDR-3": Requirement(GATEWAY, "A header that decides something and stands twice is refused."),
    "HDR-4": Requirement(f"{_2026_07}/transports", "A modern notification needs no Mcp-Method, but may not lie."),
    "HDR-5": Requirement(f"{_HTTP}#section-9", "Methods that MCP lacks get 405 with the ones that are allowed."),
    "ERA-1": Requirement(GATEWAY, "The era is that of the version header, else of the body, else legacy."),
    "ERA-2": Requirement(GATEWAY, "A client of an era that the backend doesn't speak gets a clear 400."),
    "ERA-3": Requirement(GATEWAY, "What an answer shows of a backend's eras is noted."),
    "SSE-1": Requirement(f"{_SSE}#event-stream-interpretation", "The same bytes in any pieces are the same events."),
    "SSE-2": Requirement(f"{_SSE}#parsing-an-event-stream", "What is encoded is what is parsed."),
    "SSE-3": Requirement(GATEWAY, "An event beyond the bound ends the stream, not the memory."),
    "ANS-1": Requirement(f"{_RPC}#response_object", "An answer is told by its id, of the same type."),
    # What we decide
    "HOST-1": Requirement(f"{_2025_11}#security-warning", "A host name that isn't ours gets 421."),
    "HOST-2": Requirement(f"{_2025_11}#security-warning", "A page of a strange origin gets 403."),
    "CORS-1": Requirement(f"{_FETCH}#http-cors-protocol", "An allowed page can read every reply, errors included."),
    "CORS-2": Requirement(f"{_FETCH}#cors-preflight-fetch", "A preflight allows MCP's headers, Mcp-Param-* included."),
    "FWD-1": Requirement(GATEWAY, "The client's credentials, Origin and cookies never reach a backend."),
    "FWD-2": Requirement(f"{_HTTP}#section-7.6.1", "Hop-by-hop and connection-nominated headers stay on their hop."),
    "FWD-3": Requirement(GATEWAY, "X-Forwarded-* are a trusted proxy's word or our own, never a stranger's."),
    "FWD-4": Requirement(GATEWAY, "A backend's configured headers replace the client's."),
    "FWD-5": Requirement(_TRACE, "A well-formed trace context goes on; else a new one begins."),
    "FWD-6": Requirement(GATEWAY, "The backend is asked for identity encoding only."),
    "ROUTE-1": Requirement(GATEWAY, "A mount serves MCP at four spellings, without a redirect."),
    "ROUTE-2": Requirement(GATEWAY, "An unknown path gets 404, with the mounts only where they may be known."),
    "LIMIT-1": Requirement(GATEWAY, "All replicas together admit no more of a caller's than its rate and burst."),
    "LIMIT-2": Requirement(
        GATEWAY, "Beyond a limit: 429, Retry-After, and an error that says which, and how to mend it."
    ),
    "LIMIT-3": Requirement(
        GATEWAY, "Who isn't asked who they are is held by the address that calls, proxies believed."
    ),
    "LIMIT-5": Requirement(GATEWAY, "A caller has no more at once than its limit; who died has nothing any more."),
    "LIMIT-4": Requirement(GATEWAY, "While Redis is away each worker holds its share of a limit, and says so."),
    # Sessions
    "SEAL-1": Requirement(GATEWAY, "What is sealed opens with any key of the ring, for its purpose only."),
    "SEAL-2": Requirement(GATEWAY, "A token that was changed anywhere, or respelt, is nothing."),
    "SEAL-3": Requirement(GATEWAY, "Opened tokens are cached within a bound, and no key is ever shown."),
    "SESS-1": Requirement(f"{_2025_11}#session-management", "A session's answer to `initialize` carries a token."),
    "SESS-2": Requirement(f"{_2025_11}#session-management", "A token that isn't this mount's session gets 404."),
    "SESS-3": Requirement(GATEWAY, "Upstream the backend's own session id stands in place of the token."),
    "SESS-4": Requirement(GATEWAY, "A session is served by its own endpoint, and gets 404 when that is gone."),
    "SESS-5": Requirement(f"{_2025_11}#session-management", "DELETE of a sessionless backend's token gets 405."),
    "MARK-9": Requirement(GATEWAY, "What a client has ended is neither pumped on nor taken over, on any replica."),
    "HEAL-1": Requirement(GATEWAY, "A session that its backend forgot is begun anew, unless `heal: false`; else 404."),
    "HEAL-2": Requirement(
        GATEWAY, "A forgotten session is healed by one worker of the fleet, and the others are told."
    ),
    "SESS-6": Requirement(GATEWAY, "A session's token round-trips, and says its format version."),
    # Streams that survive: the log
    "LOG-1": Requirement(
        GATEWAY, "What is appended to a stream is what is read: densely, once, in order, by any worker."
    ),
    "LOG-2": Requirement(GATEWAY, "An append may be repeated: it changes nothing, also when it comes late."),
    "LOG-3": Requirement(
        GATEWAY, "An append that would leave a hole is refused; nobody is led across one, or past a lost log."
    ),
    "LOG-4": Requirement(
        GATEWAY, "A cursor that is no event of the log is told so, also where its number was given twice."
    ),
    "LOG-5": Requirement(GATEWAY, "A stream ends with its last event, or without one, and says how."),
    "LOG-6": Requirement(GATEWAY, "A stream is bounded in events and bytes; what goes first is the oldest."),
    "LOG-7": Requirement(GATEWAY, "Every key expires: a finished stream after its time, another when nobody keeps it."),
    "LOG-8": Requirement(
        GATEWAY, "The fleet's streams are bounded in bytes; a Redis that is full refuses, and loses nothing."
    ),
    "LOG-9": Requirement(GATEWAY, "What is kept in Redis is sealed, and opens at its place in its stream only."),
    "HOLD-1": Requirement(
        GATEWAY, "One hold at a time may append; of two takeovers one succeeds, and older holds are fenced."
    ),
    "HOLD-2": Requirement(GATEWAY, "A released stream is anybody's at once; one that has ended is nobody's."),
    "MARK-1": Requirement(GATEWAY, "A cancelled request and a deleted session are known to all replicas."),
    "MARK-2": Requirement(GATEWAY, "A session has one standalone stream, and the newest GET has it."),
    "BEAT-1": Requirement(GATEWAY, "A worker lives while its heartbeat was refreshed within a TTL."),
    "BEAT-2": Requirement(
        GATEWAY, "An owner is gone after a whole TTL of absence, seen without a break and on one server."
    ),
    "WAKE-1": Requirement(GATEWAY, "Who hangs a bell and reads then misses nothing, also across a cut."),
    "EVID-1": Requirement(GATEWAY, "An event id round-trips in its one spelling, and everything else is none."),
    "REDIS-1": Requirement(
        GATEWAY, "No call waits longer than 250 ms for a Redis that doesn't answer; then none asks."
    ),
    "REDIS-2": Requirement(GATEWAY, "A Redis that is away, read-only, full, slow or empty is an outcome, and passes."),
    "REDIS-3": Requirement(
        GATEWAY, "One server, TLS, Sentinel and Cluster are told by the URL; a wrong one by a sentence."
    ),
    "REDIS-4": Requirement(GATEWAY, "A Redis that may evict keys is found out at the start."),
    # Streams that survive: those who write and read the log
    "DUR-1": Requirement(
        GATEWAY, "A long call's event is in the log before its client has it; a short one's never is."
    ),
    "DUR-2": Requirement(
        GATEWAY, "While the log is away or lost the attached client is served, and what can be is logged."
    ),
    "DUR-3": Requirement(GATEWAY, "A pump whose stream was taken over sends nothing more."),
    "DUR-4": Requirement(f"{_2025_11}#resumability-and-redelivery", "A resume is exactly the rest, on any replica."),
    "DUR-5": Requirement(GATEWAY, "A stream is its own session's, and for everybody else there is none."),
    "DUR-6": Requirement(GATEWAY, "What is gone from a log is told on the call's id, never passed over."),
    "DUR-7": Requirement(GATEWAY, "A stream without a worker is gone on with, or ends with an error on its id."),
    "DUR-8": Requirement(
        GATEWAY, "A worker that drains gives up what another can go on with, and lets its clients go."
    ),
    "STAND-1": Requirement(GATEWAY, "What comes on a GET stream is in the log before its client sees it."),
    "STAND-2": Requirement(
        GATEWAY, "A session's newest GET has its stream, on any replica; the backend is asked once."
    ),
    "STAND-3": Requirement(GATEWAY, "A client that comes back gets what came on its GET stream meanwhile, once."),
    "STAND-4": Requirement(GATEWAY, "A backend's refusal of a GET stream is passed on."),
    "STAND-5": Requirement(GATEWAY, "A GET stream that breaks at the backend is opened again, unseen by the client."),
    "STAND-6": Requirement(GATEWAY, "A GET stream whose worker drains or dies goes on at another."),
    "STAND-7": Requirement(GATEWAY, "The GET stream of a deleted session ends."),
    "STAND-8": Requirement(
        GATEWAY, "Without a log a GET stream lasts as long as its connections; one that lost its log goes on."
    ),
    "DUR-9": Requirement(GATEWAY, "A call has its time from when it began, however often it changes hands."),
    "SDK-1": Requirement(GATEWAY, "While replicas die, an SDK's call that began has its result, and nothing twice."),
    # How a worker ends
    "DRAIN-1": Requirement(
        GATEWAY, "A replica that is told to end is unready at once, and serves whatever comes until the delay is over."
    ),
    "DRAIN-2": Requirement(GATEWAY, "Only what another worker can go on with is released, and its client comes back."),
    "DRAIN-3": Requirement(
        GATEWAY, "What is under way has the grace; what has not ended then is told that it failed, and counted."
    ),
    "DRAIN-4": Requirement(GATEWAY, "A second signal ends a replica at once, whatever is under way."),
    "DRAIN-5": Requirement(GATEWAY, "Replicas that are restarted in turn, behind any load balancer, lose no call."),
    "DUR-10": Requirement(
        GATEWAY, "An event that a client has and the log lacks is waited for briefly; then it is a loss."
    ),
    "ORPHAN-1": Requirement(
        GATEWAY,
        "Of calls that no client follows there are so many at most; the oldest is released, or ends with an error.",
    ),
    # Calls that are run once more
    "AGAIN-1": Requirement(
        GATEWAY, "A call that is lost is run once more for the client that made it: on its id, without a second error."
    ),
    "AGAIN-2": Requirement(GATEWAY, "Of a call that is run again the client gets no progress that it has seen."),
    "AGAIN-3": Requirement(
        GATEWAY, "Run again is only what is read-only, on a backend that is trusted, and asked its client nothing."
    ),
    "AGAIN-4": Requirement(GATEWAY, "A call is run again once, by one worker of the fleet; then its loss is told."),
    # Exchanges
    "RELAY-1": Requirement(GATEWAY, "JSON is relayed byte for byte, with the backend's status."),
    "RELAY-2": Requirement(GATEWAY, "SSE is relayed event by event, as it comes."),
    "RELAY-3": Requirement(GATEWAY, "A silent stream gets comments, between events only."),
    "RELAY-4": Requirement(f"{_2025_11}#sending-messages-to-the-server", "A 202 stays a 202 without a body."),
    "RELAY-5": Requirement(GATEWAY, "A slow client makes the backend wait; memory doesn't grow."),
    # What is kept of answers
    "CACHE-1": Requirement(
        "https://modelcontextprotocol.io/specification/2026-07-28/server/utilities/caching#cache-key",
        "An answer is kept for requests that differ from its own in nothing that it may depend on.",
    ),
    "CACHE-2": Requirement(GATEWAY, "A request that backends may read differently is never answered from the cache."),
    "CACHE-3": Requirement(
        "https://modelcontextprotocol.io/specification/2026-07-28/server/utilities/caching",
        "Discovery and lists are kept for as long as their backend says; clients are told what is left of that.",
    ),
    "CACHE-4": Requirement(
        GATEWAY, "An answer is shared between principals only if public, from a trusted backend, and not filtered."
    ),
    "CACHE-5": Requirement(GATEWAY, "Requests under way are coalesced; nobody gets another's failure or leaving."),
    "CACHE-6": Requirement(GATEWAY, "A change drops what is kept on all workers, also what is on its way."),
    "CACHE-7": Requirement(
        GATEWAY, "What is kept is bounded, in entries and in bytes, and may be capped or forbidden."
    ),
    # What is told to many
    "LISTEN-1": Requirement(
        f"{_2026_07}/patterns/subscriptions",
        "Listeners of one backend share one stream, and each is told what it wants, on its own id.",
    ),
    "LISTEN-2": Requirement(
        GATEWAY, "What can't be shared goes to the backend as it is; a refusal is the listener's own."
    ),
    "LISTEN-3": Requirement(GATEWAY, "A shared stream that breaks is opened again, and who listens is told to look."),
    "LISTEN-4": Requirement(GATEWAY, "What waits for a slow listener is bounded; beyond it is ended in good order."),
    "LISTEN-5": Requirement(GATEWAY, "A shared stream is closed a little after its last listener has left."),
    # Several backends as one
    "AGG-1": Requirement(GATEWAY, "An aggregate's names are made alike on every replica, and read back whole."),
    "AGG-2": Requirement(GATEWAY, "No two things are shown alike: a name that two members have gets both prefixes."),
    "AGG-3": Requirement(GATEWAY, "What is renamed differs from its backend's in its name alone, byte for byte."),
    "AGG-4": Requirement(
        "https://modelcontextprotocol.io/specification/2026-07-28/server/utilities/pagination",
        "A merged list is all of it, once each, in order, in bounded pages that any replica can go on with.",
    ),
    "AGG-5": Requirement(GATEWAY, "A list that is none is refused; an entry without one sure name is left away."),
    "AGG-6": Requirement(GATEWAY, "What any member can do, the whole can; who is missing is named."),
    "AGG-7": Requirement(GATEWAY, "An aggregate only narrows what its clients see; what is denied is denied."),
    "AGG-8": Requirement(GATEWAY, "A value is replaced only where no two readers could find it at two places."),
    "AGG-9": Requirement(GATEWAY, "An aggregate that can't be served is refused at start, with line, key and mend."),
    "AGG-10": Requirement(GATEWAY, "A member that dies holds up nobody; its return is told in both eras, and healed."),
    "AGG-11": Requirement(
        GATEWAY, "An aggregate's calls, streams and questions go on at another replica, as a mount's do."
    ),
    "AGG-12": Requirement(GATEWAY, "However a member lists, the answer is bounded, and the others' part of it whole."),
    "AGG-13": Requirement(GATEWAY, "Clients find at one URL what they find at its members' mounts, in both eras."),
    # Who calls
    "AUTH-1": Requirement(f"{_RFC}/rfc8725", "A forged, expired or misdirected token lets nobody in."),
    "AUTH-2": Requirement(f"{_AUTH}#token-handling", "Only a token that was made for the mount is accepted there."),
    "AUTH-3": Requirement(GATEWAY, "An issuer that is away is a 503; keys that are known go on proving."),
    "AUTH-4": Requirement(f"{_AUTH}#protected-resource-metadata-discovery-requirements", "401 leads to the metadata."),
    "AUTH-5": Requirement(
        f"{_AUTH}#scope-challenge-handling", "A lacking scope is a 403 that names all scopes needed."
    ),
    "AUTH-6": Requirement(GATEWAY, "A proxy's word on who calls counts from trusted peers alone."),
    "AUTH-7": Requirement(GATEWAY, "API keys are recognized by their digests; none stands in the configuration."),
    "AUTH-8": Requirement(GATEWAY, "Nothing of a credential stands in a log, an error or a repr."),
    # Who may do what
    "GRANT-1": Requirement(
        GATEWAY, "Deny wins, in whatever order; what no grant allows is denied; without grants nothing is."
    ),
    "GRANT-2": Requirement(GATEWAY, "Another allow takes nothing away, another deny gives nothing."),
    "GRANT-3": Requirement(GATEWAY, "A list shows what may be used, and nothing else; filtered, it leaves as private."),
    "GRANT-4": Requirement(GATEWAY, "`explain` says what the gateway does, and names the rule with its place."),
    "GRANT-5": Requirement(GATEWAY, "A rule about a URI binds all its spellings."),
    "GRANT-6": Requirement(GATEWAY, "A grant that can't be meant so is refused at start, with line, key and mend."),
    "GRANT-7": Requirement(
        GATEWAY, "An included file grants what is its own, and can neither open nor close the rest."
    ),
    # How clients leave
    "LEAVE-1": Requirement(f"{_2026_07}/transports#cancellation", "A modern client that leaves cancels upstream."),
    "LEAVE-2": Requirement(
        f"{_2025_11}#sending-messages-to-the-server", "A legacy client that leaves cancels nothing."
    ),
    "LEAVE-3": Requirement(GATEWAY, "A GET stream ends with its client, and with the worker."),
    "LEAVE-4": Requirement(
        GATEWAY, "Streams that were dropped, by whomever, leave tasks, sockets, memory and Redis where they were."
    ),
    "FAIL-1": Requirement(GATEWAY, "No endpoint reachable: 503, Retry-After, and the mount's name."),
    "FAIL-2": Requirement(GATEWAY, "A message reaches a backend at most once, unless no byte was sent."),
    "FAIL-3": Requirement(GATEWAY, "A broken or nonsensical backend is 502, a silent one 504; never a 4xx."),
    "FAIL-4": Requirement(GATEWAY, "A stream that fails owes an error event on each unanswered request."),
    "FAIL-5": Requirement(GATEWAY, "A legacy stream cut after an event id is closed, so that it is resumed."),
    "FAIL-6": Requirement(GATEWAY, "Upstream 401, 407, 421 and redirects are the gateway's error."),
    "FAIL-7": Requirement(GATEWAY, "A bug of ours is 500 without a trace, and logged once."),
    "FAIL-8": Requirement(GATEWAY, "How a call ended is told to its endpoint exactly once."),
    "ERR-1": Requirement(GATEWAY, "Each refusal has its status, and a JSON-RPC error on the request's id."),
    "ERR-2": Requirement(GATEWAY, "Every reply carries X-Request-Id."),
    "LIM-1": Requirement(GATEWAY, "A body too large is 413, one too slow 408; the connection ends in order."),
    # Connections
    "NET-1": Requirement("https://www.rfc-editor.org/rfc/rfc6585#section-5", "An endless head gets 431."),
    "NET-2": Requirement(
        "https://www.rfc-editor.org/rfc/rfc9112#section-9.3.2", "Pipelined requests: answered in order."
    ),
    "NET-3": Requirement(GATEWAY, "A client that disconnects is noticed, whatever is under way."),
    "NET-4": Requirement(GATEWAY, "A half-sent body is forwarded to nobody."),
    "NET-5": Requirement(GATEWAY, "A trailer is never read as a header."),
    "APP-1": Requirement(
        "https://asgi.readthedocs.io/en/latest/specs/lifespan.html", "Start-up and shutdown are told."
    ),
    "APP-2": Requirement(GATEWAY, "Reserved paths are the operators', all others the flow's."),
}


def proves(*ids: str) -> pytest.MarkDecorator:
    """Marks a test as a proof of these requirements. Raises KeyError for an id that isn't in the ledger."""
    for requirement in ids:
        REQUIREMENTS[requirement]
    return pytest.mark.proves(*ids)
