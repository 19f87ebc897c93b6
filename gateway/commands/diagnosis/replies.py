"""What an HTTP answer that isn't MCP means, and how to mend it. Pure."""

import re
from typing import Final
from urllib.parse import urljoin, urlsplit

from gateway.commands.diagnosis.questions import Reply
from gateway.commands.diagnosis.targets import Target

_TITLE: Final = re.compile(rb"<title[^>]*>([^<]{1,80})", re.IGNORECASE)
_SHOWN_CHARACTERS: Final = 160

_MENDS: Final = {
    400: "the answer says what is wrong: compare it with what the server expects",
    403: "if the server checks Host or Origin, let it accept this one (here: `allowed_hosts`, `cors.origins`; Python SDK: "
    "TransportSecuritySettings); else the credentials lack a right, or a firewall refuses",
    404: "check the path: MCP endpoints mostly end in /mcp, and a gateway's in /NAME/mcp",
    405: "check the path: MCP endpoints take POST; one that ends in /sse is of the old HTTP+SSE transport",
    406: "something on the way changes the Accept header: let `application/json, text/event-stream` pass",
    407: "a proxy on the way wants credentials: give them to the client's proxy settings",
    408: "something on the way holds the request's body back: look at the proxies' buffering and time-outs",
    413: "a proxy on the way takes only smaller bodies: raise its limit (nginx: client_max_body_size)",
    415: "something on the way changes the Content-Type header: let `application/json` pass",
    421: "let the server accept this host name (here: `public_url` or `allowed_hosts`; Python SDK: "
    "TransportSecuritySettings), or have the proxy before it send the name that it expects",
    429: "too many requests: wait, or raise the limit",
}


def explain(reply: Reply, target: Target) -> tuple[str, str]:
    """What was seen, and the mend."""
    seen = describe(reply)
    if 300 <= reply.status < 400:
        return _explain_redirect(reply, target)
    if reply.status == 401:
        return (
            seen,
            "send credentials: --header 'Authorization: Bearer ...' here; a client that can OAuth asks its user",
        )
    if reply.status >= 500:
        return seen, _explain_outage(reply.status)
    if reply.media_type == "text/html" and reply.status in (200, 400, 404):
        mend = "this is a web page, not an MCP server: check host and path; or a login page stands before the server"
        return seen, mend
    if reply.status < 300:
        return seen, _explain_strange_success(reply)
    return seen, _MENDS.get(reply.status, "look into the log of the server, and of the proxies before it")


def describe(reply: Reply) -> str:
    """Status, content type, and the beginning of the body, in one line."""
    kind = reply.media_type or "no content type"
    said = f"HTTP {reply.status}, {kind}"
    if challenge := reply.headers.get("www-authenticate"):
        return f"{said}, WWW-Authenticate: {challenge[:_SHOWN_CHARACTERS]}"
    if reply.media_type == "text/html":
        title = _TITLE.search(reply.body)
        return f"{said}, a web page" + (f" titled {title[1].decode('utf-8', 'replace').strip()!r}" if title else "")
    text = " ".join(reply.body[: 4 * _SHOWN_CHARACTERS].decode("utf-8", "replace").split())
    return f"{said}: {text[:_SHOWN_CHARACTERS]}" if text else said


def _explain_redirect(reply: Reply, target: Target) -> tuple[str, str]:
    location = reply.headers.get("location", "")
    leads_to = urljoin(target.url, location)
    seen = f"HTTP {reply.status}, a redirect to {leads_to if location else 'nowhere'}"
    if not location:
        return seen, "look into the log of the server, and of the proxies before it"
    if target.is_tls and urlsplit(leads_to).scheme == "http":
        mend = (
            "the server doesn't know that TLS ends before it: have the proxy send X-Forwarded-Proto, and the server trust "
            "it; until then give the client the URL that needs no redirect (mostly with, or without, its last slash)"
        )
        return seen, mend
    return seen, f"give the client {leads_to} itself: over a redirect, clients lose the body, the credentials, or both"


def _explain_outage(status: int) -> str:
    if status in (502, 503, 504):
        return (
            "the proxy or gateway that answers can't reach the server behind it: see whether that runs, then their logs"
        )
    return "the server failed: look into its log"


def _explain_strange_success(reply: Reply) -> str:
    if reply.media_type not in ("application/json", "text/event-stream"):
        return (
            "let the server answer with `application/json` or `text/event-stream`; something on the way may change it"
        )
    if not reply.body.strip():
        return "the answer is empty: look for a proxy that drops it, or a server that ended before it answered"
    return "this is no JSON-RPC response to the request: check the path, and what changes answers on the way"
