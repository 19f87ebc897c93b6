"""A cancellation, or a session's end, is remembered: it can land on another replica than the one that pumps the call.

The backend is told either way, as ever. The mark is for what the backend's answer doesn't reach: a pump whose backend goes
on all the same is stopped, and a stream whose replica died is not taken over.
"""

import contextlib

import msgspec

from gateway.exchange.exchanges import Exchange
from gateway.exchange.sessions import digest_session
from gateway.policy.streams import LogAway
from gateway.protocol.intents import End, Intent, Send
from gateway.protocol.messages import RequestId


class _Params(msgspec.Struct, gc=False):
    request_id: RequestId = msgspec.field(default="", name="requestId")


class _Cancelled(msgspec.Struct, gc=False):
    params: _Params


async def note_ending(exchange: Exchange, intent: Intent, status: int, body: bytes) -> None:
    """Marks what the client has ended, where the backend took it."""
    marks = exchange.gateway.marks
    if marks is None or exchange.session is None or status >= 300:
        return
    session = digest_session(exchange.token)
    with contextlib.suppress(LogAway):
        if isinstance(intent, End):
            await marks.mark_ended(session, None)
        elif isinstance(intent, Send) and intent.first.method == "notifications/cancelled":
            with contextlib.suppress(msgspec.MsgspecError):
                request_id = msgspec.json.decode(body, type=_Cancelled).params.request_id
                await marks.mark_ended(session, msgspec.json.encode(request_id))
