"""The command line of the sample backends, their Host check, and how they end."""

import http.client
import json
import os
import signal
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from tests.fleet.processes import ROOT, running

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}
MODERN_META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
LISTEN = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "subscriptions/listen",
    "params": {"notifications": {"resourceSubscriptions": ["echo://last"]}, "_meta": MODERN_META},
}
COUNT = {
    "jsonrpc": "2.0",
    "id": 2,
    "method": "tools/call",
    "params": {"name": "count", "arguments": {"n": 1000, "delay_ms": 60000}, "_meta": {"progressToken": 1}},
}


def connect(url: str) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)


def post(connection: http.client.HTTPConnection, message: object, **headers: str) -> http.client.HTTPResponse:
    fixed = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("POST", "/mcp", json.dumps(message), fixed | named)
    return connection.getresponse()


def open_session(url: str) -> str:
    connection = connect(url)
    response = post(connection, INITIALIZE)
    session = response.headers["mcp-session-id"]
    connection.close()
    return session


def start(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "backends.echo", "--port", "0", *arguments]


@pytest.mark.parametrize("backend", ["echo", "math", "weather"])
def test_help_shows_an_example(backend: str) -> None:
    command = [sys.executable, "-m", f"backends.{backend}", "--help"]
    shown = subprocess.run(command, cwd=ROOT, env={**os.environ, "COLUMNS": "200"}, capture_output=True, text=True)
    assert shown.returncode == 0
    assert f"example: python -m backends.{backend} --port 9001" in shown.stdout


def test_a_taken_port_gets_a_sentence(echo_url: str) -> None:
    port = str(urlsplit(echo_url).port)
    command = [sys.executable, "-m", "backends.echo", "--port", port]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert shown.returncode == 1
    assert shown.stderr == (
        f"cannot listen on 127.0.0.1 port {port}: Address already in use. Stop what uses it, or choose another --port.\n"
    )


@pytest.mark.parametrize(("how", "status"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130)])
def test_a_signal_ends_it_quietly_though_streams_of_both_eras_are_open(how: signal.Signals, status: int) -> None:
    with running(start()) as child:
        url = child.wait_for_line(r"listens at (http://\S+)").group(1)
        legacy, get, modern = connect(url), connect(url), connect(url)
        session = open_session(url)
        call = post(legacy, COUNT, mcp_session_id=session, mcp_protocol_version="2025-11-25")
        get.request("GET", "/mcp", headers={"accept": "text/event-stream", "mcp-session-id": session})
        notifications = get.getresponse()
        listening = post(modern, LISTEN, mcp_protocol_version="2026-07-28", mcp_method="subscriptions/listen")
        assert [reply.status for reply in (call, notifications, listening)] == [200, 200, 200]
        assert b"notifications/progress" in call.readline() + call.readline()
        assert b"subscriptions/acknowledged" in listening.readline() + listening.readline()

        assert child.end(how) == status
        assert child.output == f"echo listens at {url}"
        for reply in (call, notifications, listening):
            reply.read()  # raises IncompleteRead where a chunked body was cut
        for connection in (legacy, get, modern):
            connection.close()


def test_on_loopback_a_foreign_host_is_refused(echo_url: str) -> None:
    connection = connect(echo_url)
    assert post(connection, INITIALIZE, host="evil.example").status == 421
    connection.close()


def test_an_allowed_host_is_served_with_any_port_and_no_other() -> None:
    with running(start("--allowed-host", "echo")) as child:
        url = child.wait_for_line(r"listens at (http://\S+)").group(1)
        statuses = {}
        for host in ("echo", "echo:9000", "echoes", "localhost"):
            connection = connect(url)
            statuses[host] = post(connection, INITIALIZE, host=host).status
            connection.close()
    assert statuses == {"echo": 200, "echo:9000": 200, "echoes": 421, "localhost": 421}


def test_copies_with_the_same_keys_take_each_others_questions_and_copies_without_do_not() -> None:
    secret = {"BACKEND_STATE_KEYS": "one-secret-of-more-than-32-characters"}
    asked = {"name": "ask", "arguments": {"question": "Which?"}, "_meta": MODERN_META | {CAPABILITIES: ELICITS}}
    with running(start(), env=secret) as first, running(start(), env=secret) as second, running(start()) as stranger:
        urls = [child.wait_for_line(r"listens at (http://\S+)").group(1) for child in (first, second, stranger)]
        question = call_tool(urls[0], asked)["result"]
        key = next(iter(question["inputRequests"]))
        answer = {"inputResponses": {key: {"action": "accept", "content": {"answer": "this"}}}}
        retry = asked | answer | {"requestState": question["requestState"]}
        assert call_tool(urls[1], retry)["result"]["structuredContent"] == {"result": "The answer is: this"}
        assert call_tool(urls[2], retry)["error"]["code"] == -32602


CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
ELICITS = {"elicitation": {"form": {}}}


def call_tool(url: str, params: dict[str, object]) -> dict[str, dict[str, object]]:
    connection = connect(url)
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    headers = {"mcp_protocol_version": "2026-07-28", "mcp_method": "tools/call", "mcp_name": "ask"}
    answer = json.loads(post(connection, message, **headers).read())
    connection.close()
    return answer
