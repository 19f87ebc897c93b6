"""Streams: whether events arrive when they are sent, or are held back on the way."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Final

import httpx2
import msgspec
from mcp_types import CLIENT_CAPABILITIES_META_KEY, CLIENT_INFO_META_KEY, PROTOCOL_VERSION_META_KEY

from gateway.commands.diagnosis.findings import Chart
from gateway.commands.diagnosis.handshakes import Session, as_text
from gateway.commands.diagnosis.questions import Asker, Reply, TooSlow, Unanswered
from gateway.commands.diagnosis.replies import describe, explain
from gateway.protocol.probes import DISCOVER_HEADERS
from gateway.protocol.versions import LATEST_MODERN

FIRST_EVENT_SECONDS: Final = 3.0
"""For the first event once the head is there. What isn't held back takes milliseconds."""

HELD_BACK: Final = (
    "a proxy on the way collects the stream: nginx needs `proxy_buffering off` (and `proxy_http_version 1.1`), HAProxy "
    "`option http-no-delay`, Apache `flushpackets=on`; compression of text/event-stream must be off"
)

_LISTEN: Final = msgspec.json.encode(
    {
        "jsonrpc": "2.0",
        "id": "doctor-listen",
        "method": "subscriptions/listen",
        "params": {
            "notifications": {"toolsListChanged": True},
            "_meta": {
                PROTOCOL_VERSION_META_KEY: LATEST_MODERN,
                CLIENT_INFO_META_KEY: {"name": "mcp-gateway doctor", "version": "1"},
                CLIENT_CAPABILITIES_META_KEY: {},
            },
        },
    }
)


async def check_listen(asker: Asker, chart: Chart) -> None:
    """`subscriptions/listen`: its first event comes at once and its stream stays open, which shows what is held back."""
    headers = as_text(DISCOVER_HEADERS) | {"mcp-method": "subscriptions/listen"}
    limit_seconds = min(FIRST_EVENT_SECONDS, asker.timeout_seconds / 2)
    try:
        async with asker.opened("POST", headers, _LISTEN) as response:
            if not _is_stream(response):
                chart.fine("listen", f"the server offers no subscriptions ({describe(await _whole(response))})")
                return
            waited = await _first_piece(response, limit_seconds)
    except TooSlow as silence:
        chart.fault("listen", f"subscriptions/listen: {silence}", HELD_BACK)
    except Unanswered as silence:
        chart.fault("listen", f"subscriptions/listen: {silence}", "look into the log of the server and of the proxies")
    else:
        if waited is None:
            seen = f"subscriptions/listen was answered, but no event came within {limit_seconds:g} s"
            chart.fault("listen", seen, HELD_BACK)
        else:
            _tell_open(chart, "listen", response, f"the first event came {waited * 1000:.0f} ms after the head")


async def check_stream(asker: Asker, chart: Chart, session: Session) -> None:
    """The legacy GET stream. It may be silent for long, but its head comes at once."""
    headers = dict(session.headers) | {"accept": "text/event-stream"}
    del headers["content-type"]
    started = time.perf_counter()
    try:
        async with asker.opened("GET", headers) as response:
            head_seconds = time.perf_counter() - started
            if response.status_code == 405:
                chart.fine("stream", "the server offers no GET stream (HTTP 405): it never speaks first")
            elif _is_stream(response):
                _tell_open(chart, "stream", response, f"the GET stream opened in {head_seconds * 1000:.0f} ms")
            else:
                _tell_refused(asker, chart, await _whole(response))
    except TooSlow as silence:
        chart.fault("stream", f"GET stream: {silence}", HELD_BACK)
    except Unanswered as silence:
        chart.fault("stream", f"GET stream: {silence}", "look into the log of the server and of the proxies")


def _tell_open(chart: Chart, check: str, response: httpx2.Response, seen: str) -> None:
    encoding = response.headers.get("content-encoding", "identity")
    if encoding != "identity":
        mend = "something on the way compresses the stream, and will collect events for it: exclude text/event-stream"
        chart.doubt(check, f"{seen}, compressed ({encoding}) though that was not asked for", mend)
    else:
        chart.fine(check, seen)


def _tell_refused(asker: Asker, chart: Chart, reply: Reply) -> None:
    if reply.status == 409:
        mend = "wait until the server has noticed that an earlier stream of the session is gone, and try again"
        chart.doubt("stream", f"GET stream: {describe(reply)}", mend)
    elif reply.status == 200:
        mend = "let the server answer GET with text/event-stream, or with 405 where it has no stream"
        chart.fault("stream", f"GET stream: {describe(reply)}", mend)
    else:
        seen, mend = explain(reply, asker.target)
        chart.fault("stream", f"GET stream: {seen}", mend)


def _is_stream(response: httpx2.Response) -> bool:
    return response.status_code == 200 and response.headers.get("content-type", "").startswith("text/event-stream")


async def _first_piece(response: httpx2.Response, limit_seconds: float) -> float | None:
    """After how many seconds the first bytes came; None where none did in time."""
    started = time.perf_counter()
    pieces: AsyncIterator[bytes] = response.aiter_bytes()
    try:
        async with asyncio.timeout(limit_seconds):
            await anext(pieces, b"")
    except TimeoutError:
        return None
    return time.perf_counter() - started


async def _whole(response: httpx2.Response) -> Reply:
    content = await response.aread()
    return Reply(response.status_code, dict(response.headers), content, b"", 0.0)
