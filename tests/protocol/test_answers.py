"""What a backend's message is, and whose answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol.answers import Finding, answers_request, inspect_message, inspect_messages, negotiated_version
from gateway.protocol.outcomes import Outcome
from tests.requirements import proves


@proves("ANS-1")
@pytest.mark.parametrize(
    ("body", "finding"),
    [
        (b'{"jsonrpc":"2.0","id":1,"result":{}}', Finding(True, 1)),
        (b'{"jsonrpc":"2.0","id":"1","result":{"isError":false}}', Finding(True, "1")),
        (b'{"jsonrpc":"2.0","id":1,"result":{"isError":true}}', Finding(True, 1, Outcome.TOOL_ERROR)),
        (b'{"jsonrpc":"2.0","id":1,"result":{"isError":"yes"}}', Finding(True, 1)),
        (
            b'{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"x"}}',
            Finding(True, 1, Outcome.RPC_ERROR, -32601),
        ),
        (
            b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"x"}}',
            Finding(True, None, Outcome.RPC_ERROR, -32700),
        ),
        (b'{"jsonrpc":"2.0","error":{"code":-32700}}', Finding(True, None, Outcome.RPC_ERROR, -32700)),
        (b'{"jsonrpc":"2.0","method":"notifications/progress"}', Finding(False)),
        (b'{"jsonrpc":"2.0","id":5,"method":"elicitation/create"}', Finding(False)),
        (b"", None),
        (b"<html>", None),
        (b"[]", None),
        (b"5", None),
        (b"{}", None),
        (b'{"jsonrpc":"2.0","id":1}', None),
        (b'{"jsonrpc":"2.0","result":{}}', None),
        (b'{"jsonrpc":"2.0","id":null,"result":{}}', None),
        (b'{"jsonrpc":"2.0","id":1.5,"result":{}}', None),
        (b'{"jsonrpc":"2.0","id":1,"result":5}', None),
        (b'{"jsonrpc":"2.0","id":1,"error":"no"}', None),
        (b'{"jsonrpc":"2.0","id":1,"method":5}', None),
        (b'{"jsonrpc":"\xff","id":1,"result":{}}', None),
        (b'{"jsonrpc":"2.0","id":"\xff","result":{}}', None),
    ],
)
def test_a_message_is_found_to_be_what_it_is(body: bytes, finding: Finding | None) -> None:
    assert inspect_message(body) == finding


@proves("ANS-1")
def test_a_batch_is_as_good_as_each_of_its_members() -> None:
    one, two = b'{"jsonrpc":"2.0","id":1,"result":{}}', b'{"jsonrpc":"2.0","id":"2","result":{}}'
    assert inspect_messages(one) == [Finding(True, 1)]
    assert inspect_messages(b"[" + one + b"," + two + b"]") == [Finding(True, 1), Finding(True, "2")]
    assert inspect_messages(b" [" + one + b"]") == [Finding(True, 1)]
    for bad in (b"[]", b"[" + one + b",5]", b"[" + one, b"5"):
        assert inspect_messages(bad) is None


@proves("ANS-1")
@pytest.mark.parametrize(
    ("finding", "awaited", "is_answer"),
    [
        (Finding(True, 1), {1}, True),
        (Finding(True, 1), {1, "2"}, True),
        (Finding(True, 1), {"1"}, False),
        (Finding(True, "1"), {1}, False),
        (Finding(True, 2), {1}, False),
        (Finding(True, None, Outcome.RPC_ERROR), {1}, True),
        (Finding(True, 1, Outcome.RPC_ERROR), {1}, True),
    ],
)
def test_an_answer_is_told_by_its_id(finding: Finding, awaited: set[int | str], is_answer: bool) -> None:
    assert answers_request(finding, awaited) is is_answer


@pytest.mark.parametrize(
    ("body", "version"),
    [
        (b'{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25"}}', "2025-11-25"),
        (b'{"jsonrpc":"2.0","id":1,"result":{}}', ""),
        (b'{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":""}}', None),
        (b'{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"\xff"}}', None),
        (b'{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":5}}', None),
        (b"", None),
    ],
)
def test_the_version_that_was_settled_on_is_read(body: bytes, version: str | None) -> None:
    assert negotiated_version(body) == version


@proves("ANS-1")
@given(
    st.binary(max_size=60)
    | st.binary(max_size=9).map(lambda b: b'{"jsonrpc":"2.0","id":"%s","result":{"x":"%s"}}' % (b, b))
)
def test_any_bytes_are_judged(body: bytes) -> None:
    findings = inspect_messages(body)
    assert findings is None or all(isinstance(finding, Finding) for finding in findings)
    assert negotiated_version(body) is None or isinstance(negotiated_version(body), str)
