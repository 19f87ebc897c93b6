"""`mcp-gateway doctor`: every ailment that it knows, provoked by a small server; and servers with which nothing is wrong."""

import asyncio
import json
import socket
import ssl
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from gateway.commands.diagnosis.examinations import examine
from gateway.commands.diagnosis.findings import Chart, Verdict
from gateway.commands.diagnosis.networks import Attempt, judge
from gateway.commands.diagnosis.targets import parse_target
from tests.commands.servers import Answer, Request, Respond, but, page, respond_mcp, say, serving
from tests.fleet import processes

INSPECTOR = "http://localhost:6274"
NOT_KNOWN = {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "Bad Request"}}
SECONDS = 5.0

Findings = dict[str, tuple[str, str, str]]
"""check → (verdict, seen, mend)"""


async def examine_url(
    url: str, *headers: str, seconds: float = SECONDS, trust: ssl.SSLContext | None = None
) -> Findings:
    target = parse_target(url, headers)
    chart = Chart(target.secrets, lambda _finding: None)
    await examine(target, chart, trust or ssl.create_default_context(), seconds, INSPECTOR)
    return {f.check: (str(f.verdict), f.seen, f.mend) for f in chart.findings}


async def examine_server(respond: Respond, *headers: str, path: str = "/mcp", seconds: float = SECONDS) -> Findings:
    async with serving(respond) as port:
        return await examine_url(f"http://127.0.0.1:{port}{path}", *headers, seconds=seconds)


def verdicts(findings: Findings) -> dict[str, str]:
    return {check: verdict for check, (verdict, _, _) in findings.items()}


async def test_a_server_with_which_nothing_is_wrong_is_fine_throughout() -> None:
    findings = await examine_server(respond_mcp)
    assert verdicts(findings) == dict.fromkeys(
        ["tcp", "modern", "legacy", "listen", "session", "stream", "end", "slash", "cors", "oauth"], "fine"
    )
    assert findings["modern"][1].startswith("server/discover: speaks 2026-07-28, fake 1 in ")
    assert findings["legacy"][1].startswith("initialize: speaks 2025-11-25, fake 1 in ")


def test_a_sample_backend_of_both_eras_has_nothing_broken() -> None:
    with processes.serving("backends.echo") as url:
        findings = asyncio.run(examine_url(url))
    assert "faulty" not in verdicts(findings).values()
    assert findings["modern"][1].startswith("server/discover: speaks 2026-07-28, echo 1.0.0 in ")
    assert findings["legacy"][1].startswith("initialize: speaks 2025-11-25, echo 1.0.0 in ")
    assert findings["session"][1] == (
        "a session (Mcp-Session-Id); 7 requests, each on a connection of its own, were served"
    )
    assert findings["slash"][0] == "fine"
    assert "is redirected (HTTP 307)" in findings["slash"][1]


def test_the_gateway_in_front_of_it_is_fine_throughout(tmp_path: Path) -> None:
    config = tmp_path / "gateway.yaml"
    with processes.serving("backends.echo") as url:
        config.write_text(f"drain: {{delay: 0s}}\nbackends:\n  echo:\n    endpoints: [{url}]\n")
        command = [sys.executable, "-m", "gateway", "serve", "--config", str(config), "--port", "0"]
        with processes.running(command, name="gateway") as gateway:
            origin = gateway.wait_for_line(r"(http://127\.0\.0\.1:\d+)")[1]
            findings = asyncio.run(examine_url(f"{origin}/echo/mcp"))
    assert set(verdicts(findings).values()) == {"fine"}
    assert findings["slash"][1] == "/echo/mcp/ serves the same"


# name and addresses


async def test_a_name_that_does_not_resolve_ends_the_examination() -> None:
    findings = await examine_url(f"http://{'a' * 64}.example/mcp")
    assert verdicts(findings) == {"dns": "faulty"}
    assert "check the spelling" in findings["dns"][2]


async def test_a_port_on_which_nothing_listens_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    findings = await examine_url(f"http://localhost:{port}/mcp")
    assert verdicts(findings) == {"dns": "fine", "tcp": "faulty"}
    assert f"127.0.0.1 port {port}: Connection refused" in findings["tcp"][1]
    assert findings["tcp"][2].startswith("start the server, or check host and port")


def test_one_of_two_addresses_that_refuses_is_a_doubt() -> None:
    chart = Chart([], lambda _finding: None)
    attempts = [Attempt("::1", fault="Connection refused"), Attempt("127.0.0.1", 0.2)]
    assert judge(parse_target("http://localhost:8080/mcp"), chart, attempts) == "127.0.0.1"
    assert chart.findings[0].verdict is Verdict.DOUBTFUL
    assert chart.findings[0].seen == "::1 port 8080: Connection refused; 127.0.0.1 answers"


def test_addresses_that_swallow_the_connection_point_to_a_firewall() -> None:
    chart = Chart([], lambda _finding: None)
    attempts = [Attempt("192.0.2.1", fault="no answer within 10 s")]
    assert judge(parse_target("http://192.0.2.1/mcp"), chart, attempts) is None
    assert chart.findings[0].mend == "a firewall or a security group swallows the connection: let it through"


async def test_a_proxy_variable_is_told_because_clients_may_heed_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    findings = await examine_server(respond_mcp)
    assert findings["proxy"][:2] == (
        "doubtful",
        "HTTP_PROXY is set: clients that heed it call through that proxy, this examination does not",
    )


# certificates


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def serve_with(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


async def examine_tls(certificate: trustme.LeafCert, authority: trustme.CA | None) -> Findings:
    trust = ssl.create_default_context()
    if authority is not None:
        authority.configure_trust(trust)
    async with serving(respond_mcp, serve_with(certificate)) as port:
        return await examine_url(f"https://localhost:{port}/mcp", trust=trust)


async def test_a_trusted_certificate_is_fine_and_the_examination_goes_on(authority: trustme.CA) -> None:
    findings = await examine_tls(authority.issue_cert("localhost"), authority)
    assert findings["tls"][0] == "fine"
    assert findings["tls"][1].startswith("TLSv1.3, localhost, valid until ")
    assert findings["modern"][0] == "fine"


async def test_a_certificate_that_expired_is_told_with_its_day(authority: trustme.CA) -> None:
    expired = authority.issue_cert("localhost", not_after=datetime(2020, 2, 29, tzinfo=UTC))
    findings = await examine_tls(expired, authority)
    assert findings["tls"] == ("faulty", "the certificate expired on 2020-02-29", "renew the certificate")
    assert "modern" not in findings


async def test_a_certificate_that_expires_soon_is_a_doubt(authority: trustme.CA) -> None:
    soon = authority.issue_cert("localhost", not_after=datetime.now(UTC) + timedelta(days=3, hours=1))
    findings = await examine_tls(soon, authority)
    assert findings["tls"][0] == "doubtful"
    assert findings["tls"][1].endswith(": 3 days more")


async def test_a_certificate_for_another_name_is_told_with_its_names(authority: trustme.CA) -> None:
    findings = await examine_tls(authority.issue_cert("mcp.example.com"), authority)
    assert findings["tls"][:2] == ("faulty", "the certificate is for mcp.example.com, not for localhost")


async def test_a_certificate_of_an_unknown_authority_is_told_with_how_to_trust_it(authority: trustme.CA) -> None:
    findings = await examine_tls(authority.issue_cert("localhost"), None)
    assert findings["tls"][0] == "faulty"
    assert "NODE_EXTRA_CA_CERTS for Node" in findings["tls"][2]


async def test_a_port_without_tls_is_told_by_its_http_url() -> None:
    async with serving(respond_mcp) as port:
        findings = await examine_url(f"https://localhost:{port}/mcp", seconds=0.5)
    assert findings["tls"] == (
        "faulty",
        f"port {port} speaks plain HTTP, not TLS",
        f"use http://localhost:{port}, or the port on which TLS ends",
    )


async def test_a_port_with_tls_is_told_by_its_https_url(authority: trustme.CA) -> None:
    async with serving(respond_mcp, serve_with(authority.issue_cert("localhost"))) as port:
        findings = await examine_url(f"http://localhost:{port}/mcp")
    assert findings["mcp"][0] == "faulty"
    assert findings["tls"] == (
        "faulty",
        f"port {port} speaks TLS, not plain HTTP",
        f"use https://localhost:{port}",
    )


# what answers, but not with MCP


async def test_a_redirect_is_told_with_the_url_to_configure() -> None:
    findings = await examine_server(lambda _request: Answer(307, b"", {"location": "/v2/mcp"}))
    verdict, seen, mend = findings["mcp"]
    assert verdict == "faulty"
    assert seen.startswith("HTTP 307, a redirect to http://127.0.0.1:")
    assert seen.endswith("/v2/mcp")
    assert mend.startswith("give the client http://127.0.0.1:")


async def test_a_redirect_from_https_to_http_points_to_the_proxy_before_the_server(authority: trustme.CA) -> None:
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    redirect = Answer(307, b"", {"location": "http://localhost/mcp/"})
    async with serving(lambda _request: redirect, serve_with(authority.issue_cert("localhost"))) as port:
        findings = await examine_url(f"https://localhost:{port}/mcp", trust=trust)
    assert "X-Forwarded-Proto" in findings["mcp"][2]


async def test_a_web_page_is_told_by_its_title() -> None:
    findings = await examine_server(lambda _request: page("Sign in"))
    assert findings["mcp"][:2] == ("faulty", "HTTP 200, text/html, a web page titled 'Sign in'")
    assert findings["mcp"][2].startswith("this is a web page, not an MCP server")


@pytest.mark.parametrize("path", ["/", "/mpc", "/echo"])
async def test_a_wrong_path_is_told_with_the_right_one(path: str) -> None:
    def respond(request: Request) -> Answer:
        return respond_mcp(request) if request.path == "/mcp" else page("404 Not Found", 404)

    async with serving(respond) as port:
        findings = await examine_url(f"http://127.0.0.1:{port}{path}")
    assert findings["mcp"][2] == f"give the client http://127.0.0.1:{port}/mcp: there MCP is spoken"


@pytest.mark.parametrize(
    ("status", "mend"),
    [
        (403, "if the server checks Host or Origin, let it accept this one"),
        (404, "check the path: MCP endpoints mostly end in /mcp"),
        (405, "check the path: MCP endpoints take POST"),
        (421, "let the server accept this host name"),
        (429, "too many requests: wait, or raise the limit"),
        (502, "the proxy or gateway that answers can't reach the server behind it"),
        (500, "the server failed: look into its log"),
        (418, "look into the log of the server, and of the proxies before it"),
    ],
)
async def test_a_refusal_is_told_with_its_mend(status: int, mend: str) -> None:
    findings = await examine_server(lambda _request: say(b"no", status, "text/plain"))
    assert findings["mcp"][:2] == ("faulty", f"HTTP {status}, text/plain: no")
    assert findings["mcp"][2].startswith(mend)


async def test_json_that_is_called_something_else_is_no_answer() -> None:
    def respond(request: Request) -> Answer:
        answer = respond_mcp(request)
        return Answer(answer.status, answer.body, {"content-type": "text/plain"})

    findings = await examine_server(respond)
    assert findings["mcp"][0] == "faulty"
    assert findings["mcp"][1].startswith("HTTP 200, text/plain: {")
    assert "let the server answer with `application/json` or `text/event-stream`" in findings["mcp"][2]


async def test_a_server_that_accepts_and_never_answers_is_told() -> None:
    findings = await examine_server(lambda _request: Answer(is_silent=True), seconds=0.2)
    assert findings["mcp"][:2] == ("faulty", "no answer within 0.2 s")
    assert "a hanging server, or a proxy that holds answers back" in findings["mcp"][2]


# eras


async def test_a_legacy_only_server_is_fine_where_clients_can_fall_back() -> None:
    findings = await examine_server(but("server/discover", answer=say(NOT_KNOWN, 400)))
    assert findings["modern"][:2] == (
        "fine",
        "server/discover is not known (HTTP 400): clients of both eras fall back to initialize",
    )
    assert findings["legacy"][0] == "fine"
    assert "listen" not in findings


async def test_a_legacy_only_server_that_hinders_falling_back_is_a_doubt() -> None:
    findings = await examine_server(but("server/discover", answer=say(NOT_KNOWN, 406)))
    assert findings["modern"][0] == "doubtful"
    assert "400 and 404 only" in findings["modern"][2]


async def test_a_modern_only_server_is_a_doubt_for_older_clients() -> None:
    findings = await examine_server(but("initialize", answer=say(NOT_KNOWN, 400)))
    assert findings["legacy"][0] == "doubtful"
    assert findings["legacy"][2].startswith("clients that are older than that protocol version can't connect")
    assert "session" not in findings
    assert findings["listen"][0] == "fine"


async def test_an_outage_of_one_era_alone_is_a_fault() -> None:
    findings = await examine_server(but("server/discover", answer=say(b"", 503, "text/plain")))
    assert findings["modern"][:2] == ("faulty", "server/discover: HTTP 503, text/plain")
    assert findings["legacy"][0] == "fine"


# sessions


async def test_replicas_that_do_not_share_sessions_are_found_out() -> None:
    lost = say({"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "Session not found"}}, 404)

    def respond(request: Request) -> Answer:
        return lost if "mcp-session-id" in request.headers and request.number % 2 else respond_mcp(request)

    findings = await examine_server(respond)
    assert findings["session"][0] == "faulty"
    assert findings["session"][1].startswith(
        "3 of 7 requests with the session, each on a connection of its own, were refused"
    )
    assert "replicas that don't share sessions" in findings["session"][2]


async def test_a_session_id_with_blanks_is_a_fault() -> None:
    def respond(request: Request) -> Answer:
        answer = respond_mcp(request)
        if request.rpc == "initialize":
            return Answer(200, answer.body, {**answer.headers, "mcp-session-id": "two words"})
        return answer

    findings = await examine_server(respond)
    assert findings["session id"][0] == "faulty"


async def test_notifications_answered_with_200_are_a_doubt() -> None:
    findings = await examine_server(but("notifications/initialized", answer=say({})))
    assert findings["session"][0] == "doubtful"
    assert "answer notifications with 202" in findings["session"][2]


async def test_a_delete_that_fails_is_a_doubt_and_one_that_is_not_allowed_is_none() -> None:
    failed = await examine_server(but("DELETE", answer=say(b"", 500, "text/plain")))
    assert failed["end"][0] == "doubtful"
    forbidden = await examine_server(but("DELETE", answer=say(b"", 405, "text/plain")))
    assert forbidden["end"][0] == "fine"


# streams


async def test_events_that_are_held_back_are_a_fault_with_the_proxies_settings() -> None:
    held = Answer(200, b"", {"content-type": "text/event-stream"}, is_open=True)
    findings = await examine_server(but("subscriptions/listen", answer=held), seconds=1.0)
    assert findings["listen"][:2] == ("faulty", "subscriptions/listen was answered, but no event came within 0.5 s")
    assert "nginx needs `proxy_buffering off`" in findings["listen"][2]


async def test_a_get_stream_whose_head_is_held_back_is_a_fault() -> None:
    findings = await examine_server(but("GET", answer=Answer(is_silent=True)), seconds=1.0)
    assert findings["stream"][:2] == ("faulty", "GET stream: no answer within 1 s")
    assert "nginx needs `proxy_buffering off`" in findings["stream"][2]


async def test_a_server_without_a_get_stream_is_fine() -> None:
    findings = await examine_server(but("GET", answer=say(b"", 405, "text/plain")))
    assert findings["stream"][0] == "fine"


async def test_a_get_stream_that_is_no_stream_is_a_fault() -> None:
    findings = await examine_server(but("GET", answer=say({})))
    assert findings["stream"][0] == "faulty"
    assert "let the server answer GET with text/event-stream, or with 405" in findings["stream"][2]


async def test_a_compressed_stream_is_a_doubt() -> None:
    headers = {"content-type": "text/event-stream", "content-encoding": "gzip"}
    findings = await examine_server(but("GET", answer=Answer(200, b"", headers, is_open=True)))
    assert findings["stream"][0] == "doubtful"
    assert "exclude text/event-stream" in findings["stream"][2]


# what stands around


async def test_another_spelling_that_is_redirected_elsewhere_is_a_doubt() -> None:
    def respond(request: Request) -> Answer:
        if request.path == "/mcp/":
            return Answer(307, b"", {"location": "http://backend:9000/mcp"})
        return respond_mcp(request)

    findings = await examine_server(respond)
    assert findings["slash"][:2] == ("doubtful", "/mcp/ is redirected (HTTP 307) to http://backend:9000/mcp")


async def test_web_pages_that_may_not_send_a_header_are_a_doubt() -> None:
    answer = Answer(
        204,
        b"",
        {
            "access-control-allow-origin": INSPECTOR,
            "access-control-allow-headers": "Content-Type, Mcp-Protocol-Version, Mcp-Method, Mcp-Name",
        },
    )
    findings = await examine_server(but("OPTIONS", answer=answer))
    assert findings["cors"] == (
        "doubtful",
        "a page at http://localhost:6274 may call, but not with mcp-session-id",
        "add to Access-Control-Allow-Headers: mcp-session-id",
    )


async def test_a_401_without_metadata_is_told_and_the_credentials_are_not() -> None:
    def respond(request: Request) -> Answer:
        if request.method != "POST":
            return say({}, 404)
        return say({"refused": request.headers["authorization"]}, 401, www_authenticate="Bearer")

    findings = await examine_server(respond, "Authorization: Bearer s3cret-token")
    assert findings["mcp"][:2] == ("faulty", "HTTP 401, application/json, WWW-Authenticate: Bearer")
    assert findings["oauth"][0] == "doubtful"
    assert "a client can't find out where to log in" in findings["oauth"][1]
    assert "s3cret" not in str(findings)


async def test_what_a_server_repeats_of_the_credentials_is_hidden() -> None:
    def respond(request: Request) -> Answer:
        return say({"refused": request.headers["authorization"]}, 403)

    findings = await examine_server(respond, "Authorization: Bearer s3cret-token", path="/mcp?key=0123456789")
    assert findings["mcp"][1] == 'HTTP 403, application/json: {"refused": "[hidden]"}'
    assert "0123456789" not in str(findings)


async def examine_metadata(metadata: Answer) -> tuple[str, str, str]:
    def respond(request: Request) -> Answer:
        return metadata if request.path == "/.well-known/oauth-protected-resource/mcp" else respond_mcp(request)

    return (await examine_server(respond))["oauth"]


async def test_metadata_for_another_resource_are_a_fault() -> None:
    metadata = say({"resource": "https://other.example/mcp", "authorization_servers": ["https://login.example"]})
    verdict, seen, _ = await examine_metadata(metadata)
    assert (verdict, seen) == ("faulty", "the metadata are for 'https://other.example/mcp'")


async def test_a_web_page_in_place_of_metadata_is_a_doubt() -> None:
    verdict, _, mend = await examine_metadata(page("Welcome"))
    assert verdict == "doubtful"
    assert mend.startswith("answer what isn't there with 404")


# the command line


@pytest.fixture(scope="module")
def closed_port() -> Iterator[int]:
    """A port that is bound and not listened to: nobody else gets it, and connections are refused."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def doctor(*arguments: str) -> tuple[int, str]:
    with processes.running([sys.executable, "-m", "gateway", "doctor", *arguments], name="doctor") as child:
        code = child.process.wait(60)
        child.end()
    return code, child.output


def test_the_command_prints_a_finding_a_line_and_its_mend_and_exits_1_for_a_fault(closed_port: int) -> None:
    code, output = doctor(f"http://127.0.0.1:{closed_port}/mcp")
    assert code == 1
    assert output.splitlines() == [
        f"✗ tcp         127.0.0.1 port {closed_port}: Connection refused",
        "              → start the server, or check host and port; in a container it must listen on 0.0.0.0, not on 127.0.0.1",
        "1 of 1 checks failed",
    ]


def test_the_command_prints_json_for_programs(closed_port: int) -> None:
    code, output = doctor(f"http://127.0.0.1:{closed_port}/mcp?key=0123456789", "--json")
    assert code == 1
    told = json.loads(output)
    assert told["url"] == f"http://127.0.0.1:{closed_port}/mcp?…"
    assert told["fine"] is False
    assert [(f["check"], f["verdict"]) for f in told["findings"]] == [("tcp", "faulty")]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["mcp.example.com/mcp"], "did you mean https://mcp.example.com/mcp?"),
        (["http://me:pw@h/mcp"], "the URL carries credentials"),
        (["http://h/mcp#x"], "the URL has a fragment (#x)"),
        (["http://h:port/mcp"], "Port could not be cast to integer value"),
        (["http://h/mcp", "--header", "Authorization=Bearer x"], "a --header is not of the form 'Name: value'"),
        (["http://h/mcp", "--timeout", "never"], "'never' is no number of seconds between 0 and 600"),
        (["http://h/mcp", "--ca-file", "nowhere.pem"], "--ca-file nowhere.pem: No such file or directory"),
    ],
)
def test_a_wrong_command_line_exits_2_with_a_sentence(arguments: list[str], sentence: str) -> None:
    code, output = doctor(*arguments)
    assert code == 2
    assert sentence in output
    assert "Traceback" not in output
