"""What stands around the endpoint: its other spelling, what a browser may do, and who says how to log in."""

from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import msgspec

from gateway.commands.diagnosis.findings import Chart
from gateway.commands.diagnosis.handshakes import Knock, end, knock, other_slash, session_of
from gateway.commands.diagnosis.questions import Asker, Reply, Unanswered
from gateway.commands.diagnosis.replies import describe
from gateway.commands.diagnosis.targets import Target

WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"

_ASKED_HEADERS: Final = ("content-type", "mcp-protocol-version", "mcp-session-id", "mcp-method", "mcp-name")
"""What MCP clients send that a browser asks leave for (authorization besides, where there are credentials)."""


async def check_slash(asker: Asker, chart: Chart, spoken: Knock) -> None:
    """The URL with, or without, its last slash: many a configuration has the other one."""
    path = asker.target.parts.path
    if path in ("", "/"):
        return
    other = asker.target.at(other_slash(path), with_query=True)
    knocked = await knock(asker, spoken.era, other)
    if (session := session_of(knocked)) is not None:
        await end(asker, session, other)
    shown = other_slash(path)
    if knocked.is_spoken:
        chart.fine("slash", f"{shown} serves the same")
    elif knocked.reply is not None and 300 <= knocked.reply.status < 400:
        _tell_redirect(asker.target, chart, other, knocked.reply)
    else:
        chart.fine("slash", f"{shown} serves nothing: the URL must be given exactly as it was here")


def _tell_redirect(target: Target, chart: Chart, other: str, reply: Reply) -> None:
    leads_to = urljoin(other, reply.headers.get("location", ""))
    seen = f"{other_slash(target.parts.path)} is redirected (HTTP {reply.status}) to {leads_to}"
    if leads_to == target.url:
        chart.fine("slash", f"{seen}: give clients the URL as it was here")
    else:
        mend = (
            "only who gives the other spelling meets it: have the proxy pass its scheme, host and prefix on "
            "(X-Forwarded-*), or let the server serve both spellings"
        )
        chart.doubt("slash", seen, mend)


async def check_browser(asker: Asker, chart: Chart, origin: str) -> None:
    """CORS: whether a page of that origin may call. Clients that aren't web pages don't care."""
    asked = ", ".join([*_ASKED_HEADERS, *(name.lower() for name, _ in asker.target.headers)])
    headers = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": asked,
    }
    mend = f"only if web pages are to call: allow this origin (here: `cors.origins: [{origin}]`)"
    try:
        reply = await asker.ask("OPTIONS", headers)
    except Unanswered as silence:
        chart.doubt("cors", f"OPTIONS: {silence}", "let OPTIONS pass to the server")
        return
    allowed = reply.headers.get("access-control-allow-origin", "")
    if reply.status >= 300 or allowed not in ("*", origin):
        chart.doubt("cors", f"a page at {origin} may not call (preflight: HTTP {reply.status})", mend)
        return
    granted = _listed(reply, "access-control-allow-headers")
    missing = [
        name for name in asked.split(", ") if name not in granted and not ("*" in granted and name != "authorization")
    ]
    if missing:
        mend = f"add to Access-Control-Allow-Headers: {', '.join(missing)}"
        chart.doubt("cors", f"a page at {origin} may call, but not with {', '.join(missing)}", mend)
        return
    chart.fine("cors", f"a page at {origin} may call")


def _listed(reply: Reply, header: str) -> set[str]:
    return {name.strip().lower() for name in reply.headers.get(header, "").split(",")}


async def check_login(asker: Asker, chart: Chart, answers: list[Reply]) -> None:
    """OAuth protected-resource metadata (RFC 9728): needed where the server answers 401, else nothing is fine."""
    refused = next((reply for reply in answers if reply.status == 401), None)
    found: Reply | None = None
    for path in dict.fromkeys((WELL_KNOWN + asker.target.parts.path.rstrip("/"), WELL_KNOWN)):
        try:
            reply = await asker.ask("GET", {"accept": "application/json"}, url=asker.target.at(path))
        except Unanswered as silence:
            chart.doubt(
                "oauth",
                f"{path}: {silence}",
                "clients ask for it when they connect: let it be answered, with 404 if need be",
            )
            return
        if reply.status == 200:
            found = reply
            break
    if found is None:
        _tell_absent(chart, refused)
    else:
        _judge_metadata(asker.target, chart, found)


def _tell_absent(chart: Chart, refused: Reply | None) -> None:
    if refused is None:
        chart.fine("oauth", "no protected-resource metadata, and none is needed: nothing was answered with 401")
        return
    challenge = refused.headers.get("www-authenticate", "")
    if "resource_metadata" in challenge:
        chart.fine("oauth", "the 401 names its metadata (resource_metadata)")
        return
    mend = (
        "for clients that log their users in, serve RFC 9728 metadata there, and name it in WWW-Authenticate as "
        "`Bearer resource_metadata=...`; a fixed token needs none of it"
    )
    chart.doubt("oauth", f"HTTP 401, but nothing at {WELL_KNOWN}: a client can't find out where to log in", mend)


def _judge_metadata(target: Target, chart: Chart, reply: Reply) -> None:
    try:
        metadata: Any = msgspec.json.decode(reply.body)
    except msgspec.MsgspecError:
        metadata = None
    if not isinstance(metadata, dict):
        mend = "answer what isn't there with 404: clients take this for metadata, and fail"
        chart.doubt("oauth", f"{WELL_KNOWN} is answered with something that is no metadata ({describe(reply)})", mend)
        return
    resource, servers = metadata.get("resource"), metadata.get("authorization_servers")
    if not isinstance(resource, str) or not _covers(resource, target):
        mend = f"let `resource` be {target.shown}, or a prefix of it: clients refuse a foreign one (RFC 9728 §3.3)"
        chart.fault("oauth", f"the metadata are for {resource!r}", mend)
    elif not isinstance(servers, list) or not servers:
        mend = "name an authorization server in `authorization_servers`"
        chart.fault("oauth", "the metadata name no authorization server", mend)
    else:
        chart.fine("oauth", f"metadata for {resource}; log in at {', '.join(map(str, servers))}")


def _covers(resource: str, target: Target) -> bool:
    ours, theirs = target.parts, urlsplit(resource)
    if (theirs.scheme, theirs.netloc.lower()) != (ours.scheme, ours.netloc.lower()):
        return False
    prefix = theirs.path.rstrip("/")
    return ours.path.rstrip("/") == prefix or ours.path.startswith(f"{prefix}/")
