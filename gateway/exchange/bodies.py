"""Relay of an answer that is one body: as it is, or refused where it is no answer to what was asked."""

from gateway.exchange.calls import Call
from gateway.exchange.exchanges import Exchange, reply, session_header
from gateway.exchange.recalls import note_whole
from gateway.policy.backends import Backend
from gateway.ports import Answer
from gateway.protocol import headers as h
from gateway.protocol.answers import answers_request, inspect_messages
from gateway.protocol.messages import RequestId
from gateway.protocol.outcomes import Failed, Outcome


def check_head(answer: Answer, backend: str) -> None:
    """Raises `Failed` for an answer that is the operator's affair, never the client's."""
    status = answer.status
    if 200 <= status < 300:
        return
    if not 200 <= status < 600:
        raise Failed(Outcome.NONSENSE, f"backend {backend!r} answers with a status that HTTP doesn't have ({status})")
    if status < 400:
        # Nothing is followed: a redirect leads to an address that the configuration doesn't name.
        raise Failed(
            Outcome.NONSENSE,
            f"backend {backend!r} answers with a redirect (HTTP {status}): configure the URL that it leads to",
        )
    if status in (401, 407):
        raise Failed(Outcome.BACKEND_UNAUTHORIZED, f"backend {backend!r} does not accept the gateway's credentials")
    if status == 421:
        raise Failed(Outcome.NONSENSE, f"backend {backend!r} does not accept the host name it is called by (HTTP 421)")


async def read_whole(exchange: Exchange, backend: Backend, call: Call, awaited: set[RequestId]) -> bytes:
    """The body, judged: the record has its outcome. Raises `Failed`."""
    answer, record = call.answer, exchange.record
    body = answer.body
    if body is None:
        body = await answer.read(exchange.site.limits.answer_bytes)
    record.upstream_ended = exchange.gateway.clock()
    record.outcome, record.rpc_code = judge_body(body, answer, backend.name, awaited)
    return body


async def relay_whole(exchange: Exchange, backend: Backend, call: Call, awaited: set[RequestId]) -> None:
    """The backend's status, end-to-end headers and body, byte for byte."""
    body = await read_whole(exchange, backend, call, awaited)
    answered = call.answer.headers
    note_whole(exchange, call.answer, body)
    headers = h.relayable(answered) + exchange.reply_headers + session_header(exchange, answered)
    await reply(exchange, call.answer.status, headers, body)


def judge_body(body: bytes, answer: Answer, backend: str, awaited: set[RequestId]) -> tuple[Outcome, int]:
    """How a whole answer ended the exchange, and the JSON-RPC error code where it has one.

    Raises `Failed` where it is no answer at all: NONSENSE, or BACKEND_FAILED for a 5xx that explains nothing.
    """
    status = answer.status
    findings = inspect_messages(body) if body and h.media_type(answer.headers) == h.JSON else None
    if findings is None:
        return _judge_unexplained(status, backend, awaited)
    if awaited and status < 400 and not all(f.is_response and answers_request(f, awaited) for f in findings):
        raise Failed(Outcome.NONSENSE, f"backend {backend!r} answered with another id than the request's")
    last = findings[-1]
    outcome = Outcome.RPC_ERROR if status >= 400 and last.outcome is Outcome.OK else last.outcome
    return outcome, last.code


def _judge_unexplained(status: int, backend: str, awaited: set[RequestId]) -> tuple[Outcome, int]:
    if status >= 500:
        raise Failed(Outcome.BACKEND_FAILED, f"backend {backend!r} failed (HTTP {status})")
    if status >= 400:
        return Outcome.BACKEND_REFUSED, 0
    if awaited:
        raise Failed(Outcome.NONSENSE, f"backend {backend!r} answered with something that is not a JSON-RPC message")
    return Outcome.OK, 0
