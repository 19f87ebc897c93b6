"""The response to a request of the gateway's own, read whole: as JSON, or from a stream."""

from gateway.exchange.calls import Call
from gateway.exchange.pipes import SILENCE_SECONDS, check
from gateway.protocol import headers as h
from gateway.protocol.messages import RequestId
from gateway.protocol.outcomes import Failed, Outcome
from gateway.protocol.streams import StreamReader


async def read_response(call: Call, request_id: RequestId, limit_bytes: int) -> bytes:
    """The JSON-RPC message that answers; other messages of its stream are for nobody. Raises `Failed`.

    A body that is no stream is given back as it is, whatever it is.
    """
    answer = call.answer
    if h.media_type(answer.headers) != h.SSE:
        body = answer.body
        return await answer.read(limit_bytes) if body is None else body
    reader = StreamReader(limit_bytes, [request_id])
    while reader.awaited:
        piece = await answer.next_chunk(SILENCE_SECONDS)
        if piece == b"":
            raise Failed(Outcome.BROKEN, reader.unfinished)
        reader.feed(piece or b"")
        check(reader)
    return reader.last_response
