"""Modern MCP: an SSE answer goes to the client event by event, on one pipe that is cut with the client.

There is no session and no event id, so nothing outlives the exchange: when the client leaves, the exchange's task is
cancelled, and closing the answer tells the backend (2026-07-28, basic/transports "Cancellation").
"""

from typing import Final

from gateway.ports import Answer, Client, Record
from gateway.protocol.events import COMMENT
from gateway.protocol.outcomes import Failed, Outcome
from gateway.protocol.streams import StreamReader

SILENCE_SECONDS: Final = 15.0
"""A stream silent for this long gets a comment. The SDK's own server does the same; common load balancers cut at 60 s."""


async def pipe(answer: Answer, reader: StreamReader, client: Client, record: Record) -> None:
    """Relays the stream to its end. Raises `Failed` where it ends without the response that it owes."""
    while (piece := await answer.next_chunk(SILENCE_SECONDS)) != b"":
        if piece is None:
            await client.write(COMMENT)
            continue
        if events := reader.feed(piece):
            data = events[0] if len(events) == 1 else b"".join(events)
            record.bytes_out += len(data)
            await client.write(data)
        check(reader)
    if reader.unfinished:
        raise Failed(Outcome.BROKEN, reader.unfinished)


def check(reader: StreamReader) -> None:
    """Raises `Failed` (NONSENSE) once the reader has met what MCP doesn't allow."""
    if reader.fault:
        raise Failed(Outcome.NONSENSE, reader.fault)
