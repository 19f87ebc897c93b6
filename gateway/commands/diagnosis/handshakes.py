"""Both handshakes: `server/discover` (2026-07-28) and `initialize` (2025-11-25), and how a legacy session fares after it."""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gateway.commands.diagnosis.findings import Chart
from gateway.commands.diagnosis.questions import Asker, Reply, Unanswered
from gateway.commands.diagnosis.replies import describe, explain
from gateway.protocol import headers as h
from gateway.protocol.probes import (
    DISCOVER,
    DISCOVER_HEADERS,
    INITIALIZE,
    INITIALIZE_HEADERS,
    judge_discover,
    judge_initialize,
)
from gateway.protocol.versions import HANDSHAKE_VERSIONS, LATEST_HANDSHAKE, LATEST_MODERN, Era

PINGS: Final = 6
"""Enough to meet a second replica of two behind a round-robin balancer for certain, a random one with 98 %."""

_INITIALIZED: Final = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
_PING: Final = b'{"jsonrpc":"2.0","id":"doctor-ping","method":"ping"}'
_VISIBLE: Final = re.compile(r"[\x21-\x7e]+")  # 2025-11-25, basic/transports "Session Management" 1


class Knock(msgspec.Struct, frozen=True):
    """One era's handshake: its answer, or why there was none, and whether it shows that the era is spoken."""

    era: Era
    reply: Reply | None
    silence: str = ""
    is_spoken: bool | None = None


class Session(msgspec.Struct, frozen=True):
    """What a legacy client sends with every request after the handshake."""

    headers: Mapping[str, str]
    is_kept: bool  # whether the server gave an id


_QUESTIONS: Final = {
    Era.MODERN: ("server/discover", DISCOVER_HEADERS, DISCOVER, judge_discover),
    Era.LEGACY: ("initialize", INITIALIZE_HEADERS, INITIALIZE, judge_initialize),
}


def as_text(headers: h.Headers) -> dict[str, str]:
    return {name.decode("ascii"): value.decode("ascii") for name, value in headers}


async def knock(asker: Asker, era: Era, url: str = "") -> Knock:
    """The era's first question, and what the answer shows."""
    _, headers, body, judge = _QUESTIONS[era]
    try:
        reply = await asker.ask("POST", as_text(headers), body, url)
    except Unanswered as silence:
        return Knock(era, None, str(silence))
    return Knock(era, reply, is_spoken=judge(reply.status, reply.message))


async def check_handshakes(asker: Asker, chart: Chart) -> tuple[Knock, Knock]:
    """The modern and the legacy handshake."""
    modern, legacy = await knock(asker, Era.MODERN), await knock(asker, Era.LEGACY)
    if modern.is_spoken or legacy.is_spoken:
        _tell(modern, legacy, asker, chart)
        _tell(legacy, modern, asker, chart)
    else:
        await _tell_stranger(modern, legacy, asker, chart)
    return modern, legacy


def _tell(knocked: Knock, other: Knock, asker: Asker, chart: Chart) -> None:
    check, question = str(knocked.era), _QUESTIONS[knocked.era][0]
    reply = knocked.reply
    if reply is None:
        chart.fault(check, f"{question}: {knocked.silence}", _EXPLAINED_SILENCE)
    elif knocked.is_spoken:
        chart.fine(check, f"{question}: {introduce(reply, knocked.era)} in {reply.milliseconds}")
    elif knocked.is_spoken is None:
        seen, mend = explain(reply, asker.target)
        chart.fault(check, f"{question}: {seen}", mend)
    elif knocked.era is Era.LEGACY:
        chart.doubt(
            check,
            f"{question} is refused ({describe(reply)}): only {LATEST_MODERN} is spoken",
            "clients that are older than that protocol version can't connect: update them",
        )
    elif reply.status in (200, 400, 404):
        chart.fine(
            check, f"{question} is not known (HTTP {reply.status}): clients of both eras fall back to initialize"
        )
    else:
        chart.doubt(
            check,
            f"{question} is refused with HTTP {reply.status}",
            "some clients fall back to initialize on 400 and 404 only: let the server answer with one of these",
        )


_EXPLAINED_SILENCE: Final = (
    "the server accepts connections and answers nothing: look for a hanging server, or a proxy that holds answers back"
)


async def _tell_stranger(modern: Knock, legacy: Knock, asker: Asker, chart: Chart) -> None:
    """Neither era: one finding, since the cause is one, with the right path where that can be found."""
    told = next((knocked.reply for knocked in (legacy, modern) if knocked.reply is not None), None)
    if told is None:
        chart.fault("mcp", legacy.silence, _EXPLAINED_SILENCE)
        return
    seen, mend = explain(told, asker.target)
    if told.status in (404, 405) or told.media_type == "text/html":
        other = await _find_path(asker)
        mend = f"give the client {other}: there MCP is spoken" if other else mend
    chart.fault("mcp", seen, mend)


async def _find_path(asker: Asker) -> str | None:
    """Another URL on the same server at which MCP is spoken, of the usual ones."""
    path = asker.target.parts.path
    for other in dict.fromkeys((f"{path.rstrip('/')}/mcp", other_slash(path), "/mcp")):
        url = asker.target.at(other, with_query=True)
        if other == path or url == asker.target.url:
            continue
        for era in Era:
            knocked = await knock(asker, era, url)
            if knocked.is_spoken:
                if (session := session_of(knocked)) is not None:
                    await end(asker, session, url)
                return url
    return None


def other_slash(path: str) -> str:
    """The path with a last slash where it has none, without where it has one."""
    return path.rstrip("/") if path.endswith("/") else f"{path}/"


def introduce(reply: Reply, era: Era) -> str:
    """Protocol version, and the server's name and version as it says them."""
    result: dict[str, Any] = msgspec.json.decode(reply.message)["result"]
    version = LATEST_MODERN if era is Era.MODERN else result.get("protocolVersion")
    told = result.get("serverInfo") or result.get("_meta", {}).get("io.modelcontextprotocol/serverInfo") or {}
    name = f", {told.get('name')} {told.get('version', '')}".rstrip() if isinstance(told, dict) and told else ""
    return f"speaks {version}{name}"


def session_of(legacy: Knock) -> Session | None:
    """What the handshake settled; None where there was none."""
    if legacy.reply is None or not legacy.is_spoken or legacy.era is not Era.LEGACY:
        return None
    version = msgspec.json.decode(legacy.reply.message)["result"]["protocolVersion"]
    headers = as_text(INITIALIZE_HEADERS) | {h.VERSION.decode(): version}
    token = legacy.reply.headers.get(h.SESSION.decode())
    return Session(headers | ({h.SESSION.decode(): token} if token else {}), token is not None)


async def check_session(asker: Asker, chart: Chart, legacy: Knock) -> Session | None:
    """Whether a session can be used after the handshake, on whichever connection. None where there is none to use."""
    session = session_of(legacy)
    if session is None:
        return None
    _check_terms(session, chart)
    try:
        reply = await asker.ask("POST", session.headers, _INITIALIZED)
        pings = [await asker.ask("POST", session.headers, _PING) for _ in range(PINGS)]
    except Unanswered as silence:
        chart.fault("session", f"after initialize: {silence}", _EXPLAINED_SILENCE)
        return session
    lost = sum(reply.status in (400, 404) for reply in [*pings, reply])
    if lost:
        chart.fault(
            "session",
            f"{lost} of {PINGS + 1} requests with the session, each on a connection of its own, were refused: "
            f"{describe(next(reply for reply in [*pings, reply] if reply.status in (400, 404)))}",
            "replicas that don't share sessions stand behind the load balancer: pin clients to one, or put a stateless "
            "gateway before them",
        )
    elif reply.status >= 300:
        seen, mend = explain(reply, asker.target)
        chart.fault("session", f"notifications/initialized: {seen}", mend)
    else:
        _tell_session(session, reply, chart)
    return session


def _check_terms(session: Session, chart: Chart) -> None:
    version, token = session.headers[h.VERSION.decode()], session.headers.get(h.SESSION.decode(), "x")
    if version not in HANDSHAKE_VERSIONS:
        mend = f"clients refuse a version that they don't know: let the server offer {LATEST_HANDSHAKE}"
        chart.fault("version", f"initialize settled on {version!r}, which is no version with a handshake", mend)
    if not _VISIBLE.fullmatch(token):
        mend = "let the server use visible ASCII characters only, without blanks"
        chart.fault("session id", "Mcp-Session-Id holds characters that clients refuse", mend)


def _tell_session(session: Session, initialized: Reply, chart: Chart) -> None:
    kind = "a session (Mcp-Session-Id)" if session.is_kept else "no session, so none can be lost"
    if initialized.status != 202:
        mend = "let the server answer notifications with 202 and no body, as the specification demands"
        chart.doubt("session", f"{kind}; notifications are answered with HTTP {initialized.status}", mend)
    else:
        chart.fine("session", f"{kind}; {PINGS + 1} requests, each on a connection of its own, were served")


async def end(asker: Asker, session: Session, url: str = "") -> Reply | None:
    """The answer to DELETE; None where there is no session to end, or no answer."""
    if not session.is_kept:
        return None
    try:
        return await asker.ask("DELETE", session.headers, url=url)
    except Unanswered:
        return None


async def check_end(asker: Asker, chart: Chart, session: Session) -> None:
    """Whether the session can be ended."""
    if not session.is_kept:
        return
    reply = await end(asker, session)
    if reply is not None and reply.status < 300:
        chart.fine("end", f"DELETE ends the session (HTTP {reply.status})")
    elif reply is not None and reply.status == 405:
        chart.fine("end", "the server lets no client end a session (HTTP 405): it must expire there")
    else:
        seen = "no answer" if reply is None else describe(reply)
        mend = "let DELETE pass to the server, or let that answer 405: sessions pile up else"
        chart.doubt("end", f"DELETE does not end the session: {seen}", mend)
