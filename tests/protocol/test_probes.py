"""What a server's answers to the two probes say of its eras."""

import json

import pytest

from gateway.protocol.probes import DISCOVER, INITIALIZE, PROBE_ID, is_answer, judge_discover, judge_initialize


def result(**fields: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": PROBE_ID, "result": fields}).encode()


def error(code: int, **data: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": PROBE_ID, "error": {"code": code, "message": "", "data": data}}).encode()


@pytest.mark.parametrize(
    ("status", "message", "verdict"),
    [
        (200, result(supportedVersions=["2026-07-28"]), True),
        (200, result(supportedVersions=["2025-11-25", "2026-07-28"]), True),
        (200, result(supportedVersions=["2025-11-25"]), False),
        (200, result(), False),
        (400, error(-32022, supported=["2026-07-28"]), True),
        (400, error(-32022, supported=["2031-01-01"]), False),
        (200, error(-32022), False),
        (400, error(-32020), True),
        (400, error(-32021), True),
        (200, error(-32601), False),
        (404, error(-32601), False),
        (400, b"Bad Request: Missing session ID", False),
        (404, b"", False),
        (405, b"", False),
        (200, b"<html>", None),
        (200, result()[:-5], None),
        (202, b"", None),
        (307, b"", None),
        (401, error(-32600), None),
        (403, b"", None),
        (408, b"", None),
        (429, b"", None),
        (500, error(-32603), None),
        (503, b"", None),
    ],
)
def test_the_answer_to_discover_tells_of_the_modern_era(status: int, message: bytes, verdict: bool | None) -> None:
    assert judge_discover(status, message) is verdict


@pytest.mark.parametrize(
    ("status", "message", "verdict"),
    [
        (200, result(protocolVersion="2025-11-25", capabilities={}), True),
        (200, result(protocolVersion="2024-11-05"), True),
        (200, result(), False),
        (400, error(-32022, supported=["2026-07-28"]), False),
        (200, error(-32022), False),
        (200, error(-32601), False),
        (200, error(-32603), None),
        (400, b"", False),
        (404, b"", False),
        (401, b"", None),
        (429, b"", None),
        (502, b"", None),
        (200, b"", None),
    ],
)
def test_the_answer_to_initialize_tells_of_the_legacy_era(status: int, message: bytes, verdict: bool | None) -> None:
    assert judge_initialize(status, message) is verdict


@pytest.mark.parametrize(
    ("message", "is_it"),
    [
        (result(), True),
        (error(-32600), True),
        (b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":""}}', True),
        (b'{"jsonrpc":"2.0","method":"notifications/message","params":{}}', False),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping"}', False),
        (b'{"jsonrpc":"2.0","id":1,"result":{}}', False),
        (b"", False),
        (b"[" * 100_000, False),
    ],
)
def test_a_probes_answer_is_told_from_what_else_a_server_says(message: bytes, is_it: bool) -> None:
    assert is_answer(message) is is_it


def test_the_probes_are_what_the_specification_asks_for() -> None:
    assert json.loads(DISCOVER)["params"]["_meta"] == {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "mcp-stateless-gateway", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    assert json.loads(INITIALIZE)["params"]["protocolVersion"] == "2025-11-25"
