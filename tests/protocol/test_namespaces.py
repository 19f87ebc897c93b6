"""Ids of several backends kept apart, and found back."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol.namespaces import Owned, find_owner, give_back, mark_id, read_id, show_message

prefixes = st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True)
ids = st.integers(-(2**63), 2**64 - 1) | st.text(max_size=30)


@given(prefixes, ids)
def test_what_was_marked_is_read_back_the_number_a_number_and_the_text_a_text(prefix: str, owned: int | str) -> None:
    assert read_id(mark_id(prefix, owned)) == Owned(prefix, owned)


@given(st.text(max_size=40) | st.integers() | st.none() | st.floats(allow_nan=False))
def test_any_id_is_somebody_s_or_nobody_s(shown: object) -> None:
    owned = read_id(shown)
    assert owned is None or mark_id(*owned).partition(":")[0] == str(shown).partition(":")[0]


@pytest.mark.parametrize(
    "shown", [7, "7", "math", "math:", "math:x", "math:1.5", "math:null", "math:[1]", "math:\ud800"]
)
def test_an_id_that_was_never_marked_is_nobody_s(shown: object) -> None:
    assert read_id(shown) is None


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (
            b'{"jsonrpc":"2.0", "id" : 5,"method":"roots/list"}',
            b'{"jsonrpc":"2.0", "id" : "math:5","method":"roots/list"}',
        ),
        (
            b'{"id":"a","method":"sampling/createMessage","params":{"_meta":{"progressToken":"p"},"id":5}}',
            b'{"id":"math:\\"a\\"","method":"sampling/createMessage","params":{"_meta":{"progressToken":"math:\\"p\\""},"id":5}}',
        ),
        (
            b'{"method":"notifications/cancelled","params":{"requestId":5}}',
            b'{"method":"notifications/cancelled","params":{"requestId":"math:5"}}',
        ),
        (
            b'{"id":1,"result":{"task":{"taskId":"t","x":1e400}}}',
            b'{"id":1,"result":{"task":{"taskId":"math:\\"t\\"","x":1e400}}}',
        ),
        (
            b'{"method":"notifications/tasks/status","params":{"taskId":"t"}}',
            b'{"method":"notifications/tasks/status","params":{"taskId":"math:\\"t\\""}}',
        ),
        (
            b'{"id":1,"result":{"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"t"}}}}',
            b'{"id":1,"result":{"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"math:\\"t\\""}}}}',
        ),
    ],
)
def test_what_a_backend_names_to_its_client_is_marked_and_every_other_byte_stays(message: bytes, shown: bytes) -> None:
    assert show_message(message, "math") == shown


@pytest.mark.parametrize(
    "message",
    [
        b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"\\"method\\" \\"taskId\\""}]}}',
        b'{"jsonrpc":"2.0","id":1,"result":{"structuredContent":{"taskId":7,"method":"x"}}}',
        b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":2}}',
        b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}',
        b'{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"method"}}',
        b'{"id":5,"method":"x","id":6}',
        b'[{"method":"x","id":6}]',
        b'{"method":',
        b"\xff",
        b"",
    ],
)
def test_everything_else_passes_as_it_is(message: bytes) -> None:
    assert show_message(message, "math") == message


@given(prefixes, ids)
def test_a_client_s_answer_is_given_back_as_its_backend_knows_it(prefix: str, owned: int | str) -> None:
    asked = json.dumps({"jsonrpc": "2.0", "id": owned, "method": "roots/list"}).encode()
    shown = json.loads(show_message(asked, prefix))["id"]
    answer = json.dumps({"jsonrpc": "2.0", "id": shown, "result": {"id": shown}}).encode()
    found = find_owner(answer, "id")
    assert found == Owned(prefix, owned)
    assert found is not None
    assert json.loads(give_back(answer, found, "id")) == {"jsonrpc": "2.0", "id": owned, "result": {"id": shown}}
