"""What an exchange tells the audit log: a line for each message of the client, when it has ended.

Arguments are told as a keyed digest. They are first brought into one form (keys sorted, no white space), so that the same
arguments have the same digest, however a client writes them.
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from gateway.exchange.exchanges import Exchange
from gateway.policy.audits import Auditing
from gateway.policy.forwarding import find_address, read_hops
from gateway.ports import AuditEntry, AuditLog
from gateway.protocol.intents import Intent, Send
from gateway.protocol.messages import Message
from gateway.protocol.outcomes import Failed, Outcome
from gateway.protocol.splices import Doubled, find

ANONYMOUS: Final = "anonymous"
LONGEST_CHARACTERS: Final = 512
"""Of a name or a shown argument."""

_WITH_ARGUMENTS: Final = frozenset({"tools/call", "prompts/get"})
_decode_batch: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode


def check_audit(exchange: Exchange) -> None:
    """Raises `Failed` where calls must be audited, and this one couldn't be."""
    auditing, log = exchange.site.audit, exchange.gateway.audit
    if auditing is not None and auditing.is_required and not (log is not None and log.is_accepting):
        exchange.asked = None  # nothing was done, and whoever asks again and again would fill what is to be written
        message = "the audit log can't be written, and without it no call is served: ask whoever runs this gateway"
        raise Failed(Outcome.INTERNAL, message, status=503)


def note_calls(exchange: Exchange) -> None:
    """Tells of what the client asked for at a mount, served or not."""
    auditing, log = exchange.site.audit, exchange.gateway.audit
    if auditing is None or log is None or exchange.asked is None:
        return
    if exchange.inbound.method == "OPTIONS" or exchange.inbound.path not in exchange.site.routes:
        return
    for message, body in list_messages(*exchange.asked):
        entry = describe(exchange)
        if message is not None:
            entry.method, entry.name = shorten(message.method), shorten(message.name or "")
            if message.method in _WITH_ARGUMENTS:
                add_arguments(entry, message, body, auditing, log)
        log.tell(entry)


def describe(exchange: Exchange) -> AuditEntry:
    """What all messages of the exchange have in common."""
    inbound, record, proxies = exchange.inbound, exchange.record, exchange.site.trusted_proxies
    return AuditEntry(
        request_id=record.request_id,
        principal=exchange.principal or ANONYMOUS,
        client=find_address(inbound.peer, read_hops(inbound.headers, proxies), proxies),
        http_method=inbound.method,
        mount=record.mount,
        backend=record.backend,
        session=record.session,
        outcome=record.outcome.value,
        status=record.status,
    )


def list_messages(intent: Intent | None, body: bytes) -> Iterator[tuple[Message | None, bytes]]:
    """Each message with its own bytes; one that is None where there are none, or they weren't understood."""
    if not isinstance(intent, Send):
        yield None, b""
    elif intent.is_batch:
        yield from zip(intent.messages, map(bytes, _decode_batch(body)), strict=True)
    else:
        yield intent.first, body


def add_arguments(entry: AuditEntry, message: Message, body: bytes, auditing: Auditing, log: AuditLog) -> None:
    """The digest of the arguments, and those of them that may be shown."""
    try:
        span = find(body, "params", "arguments")
        arguments: Any = {} if span is None else msgspec.json.decode(span.value)
        told = msgspec.json.encode(arguments, order="deterministic")
    except (Doubled, msgspec.MsgspecError, UnicodeError, RecursionError):
        entry.is_doubled, entry.arguments_hmac = True, log.digest(body)
        return
    entry.arguments_hmac = log.digest(told)
    if message.method == "tools/call" and auditing.rules and isinstance(arguments, dict):
        keys = auditing.shown_keys(entry.backend, message.name or "")
        entry.arguments = {key: show(value) for key, value in arguments.items() if key in keys}


def show(value: object) -> object:
    """The value, or the beginning of it: as text where it is long or has parts."""
    if isinstance(value, str):
        return shorten(value)
    return (
        value
        if value is None or isinstance(value, bool | int | float)
        else shorten(msgspec.json.encode(value).decode())
    )


def shorten(text: str) -> str:
    return text if len(text) <= LONGEST_CHARACTERS else text[: LONGEST_CHARACTERS - 1] + "…"
