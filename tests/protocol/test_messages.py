"""What a body says, and every way in which two readers could disagree on it."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.protocol import messages, objects
from gateway.protocol.messages import Kind, Message, parse_message, parse_messages
from gateway.protocol.outcomes import Outcome, Rejected
from tests.requirements import proves

VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
CLIENT_KEY = "io.modelcontextprotocol/clientInfo"


def rejection_of(body: bytes) -> Rejected:
    with pytest.raises(Rejected) as caught:
        parse_messages(body)
    return caught.value


@proves("MSG-1")
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"jsonrpc":"2.0","id":1,"method":"ping"}', Message(Kind.REQUEST, 1, "ping")),
        (b'{"jsonrpc":"2.0","id":"a","method":"ping","params":{}}', Message(Kind.REQUEST, "a", "ping")),
        (
            b'{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"add","arguments":{"a":1}}}',
            Message(Kind.REQUEST, 2, "tools/call", "add"),
        ),
        (
            b'{"jsonrpc":"2.0","id":2,"method":"prompts/get","params":{"name":"greet"}}',
            Message(Kind.REQUEST, 2, "prompts/get", "greet"),
        ),
        (
            b'{"jsonrpc":"2.0","id":3,"method":"resources/read","params":{"uri":"x://y"}}',
            Message(Kind.REQUEST, 3, "resources/read", "x://y"),
        ),
        (
            b'{"jsonrpc":"2.0","id":3,"method":"completion/complete","params":{"name":"add"}}',
            Message(Kind.REQUEST, 3, "completion/complete"),
        ),
        (
            b'{"jsonrpc":"2.0","method":"notifications/initialized"}',
            Message(Kind.NOTIFICATION, None, "notifications/initialized"),
        ),
        (b'{"jsonrpc":"2.0","id":7,"result":{}}', Message(Kind.RESPONSE, 7)),
        (
            b'{"jsonrpc":"2.0","id":7,"error":{"code":-1,"message":"no"}}',
            Message(Kind.RESPONSE, 7, is_error=True),
        ),
        (
            b'{"jsonrpc":"2.0","id":null,"error":{"code":-1,"message":"no"}}',
            Message(Kind.RESPONSE, None, is_error=True),
        ),
        (
            b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"progressToken":5}}}',
            Message(Kind.REQUEST, 1, "tools/list", meta={"progressToken": 5}),
        ),
        (
            b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":[1]}}',
            Message(Kind.REQUEST, 1, "tools/list"),
        ),
        (
            b' \r\n\t{ "id" : -9007199254740993 , "method" : "ping" , "jsonrpc" : "2.0" } \n',
            Message(Kind.REQUEST, -9007199254740993, "ping"),
        ),
        (
            b'{"jsonrpc":"2.0","id":123456789012345678901234567890,"method":"ping"}',
            Message(Kind.REQUEST, 123456789012345678901234567890, "ping"),
        ),
        (
            b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":5}}',
            Message(Kind.REQUEST, 1, "tools/call"),
        ),
        (
            '{"jsonrpc":"2.0","id":"ä","method":"tools/call","params":{"name":"größe"}}'.encode(),
            Message(Kind.REQUEST, "ä", "tools/call", "größe"),
        ),
        (
            b'{"jsonrpc":"2.0","id":"\\u00e4","method":"tools/call","params":{"name":"\\u0061dd"}}',
            Message(Kind.REQUEST, "ä", "tools/call", "add"),
        ),
    ],
)
def test_a_well_formed_body_is_the_message_it_says(body: bytes, message: Message) -> None:
    assert parse_messages(body) == ((message,), False)


@proves("MSG-1")
def test_a_client_is_known_by_its_modern_metadata() -> None:
    meta = {VERSION_KEY: "2026-07-28", CLIENT_KEY: {"name": "inspector", "version": "1"}}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"_meta": meta}}).encode()
    assert parse_message(body).client_name == "inspector"
    assert parse_message(body.replace(b'"inspector"', b"5")).client_name == ""
    assert Message(Kind.REQUEST, 1, "ping").client_name == ""


@proves("MSG-1")
@pytest.mark.parametrize(
    ("body", "outcome", "text"),
    [
        (b"", Outcome.PARSE_ERROR, "the body is not valid JSON"),
        (b"{", Outcome.PARSE_ERROR, "the body is not valid JSON"),
        (b"{}{}", Outcome.PARSE_ERROR, "the body is not valid JSON"),
        (b'{"jsonrpc":"2.0","id":NaN,"method":"ping"}', Outcome.PARSE_ERROR, "the body is not valid JSON"),
        (b"\xef\xbb\xbf{}", Outcome.PARSE_ERROR, "the body is not valid JSON"),
        (b'{"jsonrpc":"2.0","id":1,"method":"\xff"}', Outcome.PARSE_ERROR, "the body is not UTF-8"),
        (
            '{"jsonrpc":"2.0","id":1,"method":"ping"}'.encode("utf-16"),
            Outcome.PARSE_ERROR,
            "the body is not UTF-8",
        ),
        (
            b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"arguments":{"a":"\xc3"}}}',
            Outcome.PARSE_ERROR,
            "the body is not UTF-8",
        ),
        (b"5", Outcome.INVALID_REQUEST, "the body is not a JSON-RPC message: an object is expected"),
        (b'"x"', Outcome.INVALID_REQUEST, "the body is not a JSON-RPC message: an object is expected"),
        (b"{}", Outcome.INVALID_REQUEST, '`jsonrpc` must be "2.0"'),
        (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', Outcome.INVALID_REQUEST, '`jsonrpc` must be "2.0"'),
        (
            b'{"jsonrpc":"2.0","id":1}',
            Outcome.INVALID_REQUEST,
            "the body is neither a request, nor a notification, nor a response",
        ),
        (
            b'{"jsonrpc":"2.0","result":{}}',
            Outcome.INVALID_REQUEST,
            "the body is neither a request, nor a notification, nor a response",
        ),
        (
            b'{"jsonrpc":"2.0","id":1,"result":{},"error":{}}',
            Outcome.INVALID_REQUEST,
            "the body is neither a request, nor a notification, nor a response",
        ),
        (
            b'{"jsonrpc":"2.0","id":null,"method":"ping"}',
            Outcome.INVALID_REQUEST,
            "`id` must be a string or an integer",
        ),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', Outcome.INVALID_REQUEST, "`id` must be a string or an integer"),
        (
            b'{"jsonrpc":"2.0","id":true,"method":"ping"}',
            Outcome.INVALID_REQUEST,
            "`id` must be a string or an integer",
        ),
        (b'{"jsonrpc":"2.0","id":{},"method":"ping"}', Outcome.INVALID_REQUEST, "`id` must be a string or an integer"),
        (
            b'{"jsonrpc":"2.0","id":1,"method":5}',
            Outcome.INVALID_REQUEST,
            "`method` must be a string, and a request has no `result` or `error`",
        ),
        (
            b'{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}',
            Outcome.INVALID_REQUEST,
            "`method` must be a string, and a request has no `result` or `error`",
        ),
        (
            b'{"jsonrpc":"2.0","id":1,"method":"ping","params":[1]}',
            Outcome.INVALID_REQUEST,
            "`params` must be an object",
        ),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":5}', Outcome.INVALID_REQUEST, "`params` must be an object"),
        (b"[]", Outcome.INVALID_REQUEST, "the batch is empty"),
        (b"[1]", Outcome.INVALID_REQUEST, "the body is not a JSON-RPC message: an object is expected"),
        (b"[1", Outcome.PARSE_ERROR, "the body is not valid JSON"),
        (b"[" + b"1," * 100 + b"1]", Outcome.INVALID_REQUEST, "the batch has 101 messages; at most 100 are taken"),
        (b"[" * 3_000_000, Outcome.PARSE_ERROR, "the body is not valid JSON"),
        (b'{"a":' * 500_000, Outcome.PARSE_ERROR, "the body is not valid JSON"),
    ],
)
def test_a_body_that_is_no_message_is_refused_in_words(body: bytes, outcome: Outcome, text: str) -> None:
    rejection = rejection_of(body)
    assert (rejection.outcome, rejection.message) == (outcome, text)


@proves("MSG-4")
@pytest.mark.parametrize(
    "value",
    [
        b"1e400",  # valid JSON, beyond a double
        b'"\\ud800"',  # half a surrogate pair: no text at all
        b"[" * 5000 + b"]" * 5000,
        b"[" * 700 + b"]" * 700,
        b"9" * 5000,
    ],
)
@pytest.mark.parametrize(
    "template",
    [
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{"x":%s}}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":%s}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","\\u0061":1,"_meta":{"x":%s}}}',
        b'{"jsonrpc":"2.0","id":%s,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":1,"method":%s}',
        b'{"jsonrpc":%s,"id":1,"method":"ping"}',
    ],
)
def test_values_at_the_edge_of_json_are_a_message_or_refused(template: bytes, value: bytes) -> None:
    try:
        ((message,), _) = parse_messages(template % value)
    except Rejected:
        return
    json.dumps([message.id, message.method, message.name, message.meta], ensure_ascii=False).encode()


REQUEST = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","_meta":{"%s":"2026-07-28"}}}' % (
    VERSION_KEY.encode()
)


@proves("MSG-2")
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"id":1', b'"id":1,"id":1'),
        (b'"id":1', b'"id":1,"Id":2'),
        (b'"id":1', b'"id":1,"ID":2'),
        (b'"id":1', b'"id":1,"\\u0069d":2'),
        (b'"id":1', b'"id":1,"i\\u0064":2'),
        (b'"id":1', b'"id":1,"i\\u0044":2'),
        (b'"jsonrpc":"2.0"', b'"jsonrpc":"2.0","jsonrpc":"2.0"'),
        (b'"jsonrpc":"2.0"', b'"jsonrpc":"2.0","JSONRPC":"2.0"'),
        (b'"method":"tools/call"', b'"method":"tools/call","method":"tools/list"'),
        (b'"method":"tools/call"', b'"method":"tools/call","Method":"tools/list"'),
        (b'"method":"tools/call"', b'"Method":"tools/list","method":"tools/call"'),
        (b'"method":"tools/call"', b'"method":"tools/call","m\\u0065thod":"tools/list"'),
        (b'"method":"tools/call"', b'"method":"tools/call","m\\u0045thod":"tools/list"'),
        (b'"params":{', b'"params":{},"params":{'),
        (b'"params":{', b'"Params":{"name":"drop"},"params":{'),
        (b'"params":{', '"param\u017f":{},"params":{'.encode()),
        (b'"params":{', b'"param\\u017f":{},"params":{'),
        (b'"params":{', b'"param\\u017F":{},"params":{'),
        (b'"id":1', b'"id":1,"result":{},"result":{}'),
        (b'"id":1', b'"id":1,"error":{},"error":{}'),
        (b'"id":1', '"id":1,"re\u017fult":{}'.encode()),
        (b'"name":"add"', b'"name":"add","name":"drop"'),
        (b'"name":"add"', b'"name":"add","Name":"drop"'),
        (b'"name":"add"', b'"NAME":"drop","name":"add"'),
        (b'"name":"add"', b'"name":"add","n\\u0061me":"drop"'),
        (b'"name":"add"', b'"name":"add","n\\u0041me":"drop"'),
        (b'"name":"add"', b'"name":"add","uri":"a","uri":"b"'),
        (b'"name":"add"', b'"name":"add","uri":"a","URI":"b"'),
        (b'"name":"add"', b'"name":"add","_meta":{}'),
        (b'"name":"add"', b'"name":"add","_Meta":{}'),
        (b'"name":"add"', b'"name":"add","arguments":{},"name":"drop"'),
        (b'"name":"add"', b'"name":"add","arguments":{},"arguments":{"name":1},"name":"drop"'),
        (b'{"io.model', b'{"io.modelcontextprotocol/protocolVersion":"2025-11-25","io.model'),
        (b'{"io.model', b'{"io.modelcontextprotocol/ProtocolVersion":"2025-11-25","io.model'),
        (b'{"io.model', b'{"io.modelcontextprotocol\\/protocolVersion":"2025-11-25","io.model'),
        (b'{"io.model', b'{"io.modelcontextprotocol\\u002fprotocolVersion":"2025-11-25","io.model'),
        (b'{"io.model', b'{"io\\u002Emodelcontextprotocol/protocolVersion":"2025-11-25","io.model'),
        (b'{"io.model', b'{"io.modelcontextprotocol/protocol\\u0056ersion":"2025-11-25","io.model'),
        (b'{"io.model', '{"io.modelcontextprotocol/protocolVer\u017fion":"2025-11-25","io.model'.encode()),
        (b'{"io.model', b'{"io.modelcontextprotocol/protocolVer\\u017fion":"2025-11-25","io.model'),
    ],
)
def test_a_deciding_key_that_stands_twice_is_refused_however_it_is_spelt(old: bytes, new: bytes) -> None:
    assert REQUEST.count(old) == 1
    rejection = rejection_of(REQUEST.replace(old, new))
    assert rejection.outcome is Outcome.AMBIGUOUS
    assert rejection.http_status == 400


@proves("MSG-2")
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"id"', b'"ID"'),
        (b'"method"', b'"Method"'),
        (b'"params"', b'"PARAMS"'),
        (b'"params"', '"param\u017f"'.encode()),
        (b'"params"', b'"param\\u017f"'),
        (b'"name"', b'"Name"'),
        (b'"_meta"', b'"_META"'),
        (b"protocolVersion", b"ProtocolVersion"),
        (b'"io.model', b'"Io.model'),
    ],
)
def test_a_deciding_key_in_a_variant_alone_is_refused_too(old: bytes, new: bytes) -> None:
    assert REQUEST.count(old) == 1
    rejection = rejection_of(REQUEST.replace(old, new))
    assert rejection.outcome is Outcome.AMBIGUOUS


@proves("MSG-2")
def test_the_words_name_the_key_and_the_mend() -> None:
    assert rejection_of(REQUEST.replace(b'"id":1', b'"id":1,"id":2')).message == (
        "`id` stands twice in the body: send each key once"
    )
    assert rejection_of(REQUEST.replace(b'"name"', b'"Name"')).message == (
        "`params.name` must be spelt exactly so: some servers read the body's variant as that"
    )


@proves("MSG-2", "MSG-5")
def test_each_member_of_a_batch_is_checked() -> None:
    good = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
    bad = b'{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call"}'
    assert parse_messages(b" [" + good + b"," + good + b"]") == ((Message(Kind.REQUEST, 1, "ping"),) * 2, True)
    assert rejection_of(b"[" + good + b"," + bad + b"]").outcome is Outcome.AMBIGUOUS


@proves("MSG-3")
@pytest.mark.parametrize(
    "body",
    [
        (
            b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","arguments":'
            b'{"name":"x","uri":"y","id":1,"method":"m","params":{},"Method":1,"result":1,"error":2,"_meta":{},"jsonrpc":3}}}'
        ),
        (
            b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","_meta":'
            b'{"name":"x","uri":"y","id":1,"method":"m","Name":1,"_meta":{"_meta":1}}}}'
        ),
        (
            b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25",'
            b'"capabilities":{},"clientInfo":{"name":"x","version":"1"}}}'
        ),
        b'{"jsonrpc":"2.0","id":1,"result":{"id":1,"method":"x","name":"y","result":{},"error":{},"params":{}}}',
        b'{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"m","data":{"error":{},"id":1}}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"name","arguments":["name","id"]}}',
        b'{"jsonrpc":"2.0","id":"id","method":"method","params":{"name":"\\"name\\":1"}}',
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","arguments":{"ſ":"K"}}}'.encode(),
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","arguments":{"a":"\\u0041 \\ud83d\\ude00"}}}',
        (
            b'{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"a"},'
            b'"argument":{"name":"b","value":"c"}}}'
        ),
    ],
)
def test_the_same_keys_elsewhere_decide_nothing(body: bytes) -> None:
    ((message,), is_batch) = parse_messages(body)
    assert not is_batch
    assert message.id in (1, "id")


KEYS = [*objects.ENVELOPE_KEYS, *objects.PARAMS_KEYS, VERSION_KEY, "arguments", CLIENT_KEY, "x"]


@st.composite
def spellings(draw: st.DrawFn) -> str:
    """A key in JSON, mostly a deciding one, plainly spelt or in a variant."""
    key = draw(st.sampled_from(KEYS))
    match draw(st.integers(0, 11)):
        case 0:
            key = key.upper()
        case 1:
            key = key.replace("s", "\u017f")
        case 2:
            position = draw(st.integers(0, len(key) - 1))
            spelt = json.dumps(key)
            return spelt[: position + 1] + f"\\u{ord(key[position]):04x}" + spelt[position + 2 :]
        case 3:
            key = key.capitalize()
    return json.dumps(key, ensure_ascii=draw(st.booleans()))


scalars = st.one_of(
    st.integers(-5, 5),
    st.sampled_from(["2.0", "tools/call", "resources/read", "ping", "name", '"name":', "\u017f", "\u212a", ""]),
    st.booleans(),
    st.none(),
).map(json.dumps)


def objects(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pairs = st.lists(st.tuples(spellings(), values), max_size=5)
    return pairs.map(lambda items: "{" + ", ".join(f"{key}:{value}" for key, value in items) + "}")


values = st.recursive(
    scalars, lambda inner: objects(inner) | st.lists(inner, max_size=3).map(lambda v: f"[{','.join(v)}]")
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A body that begins as a good message and is then spoilt, or not, by pairs put anywhere in it."""
    params = draw(st.lists(st.tuples(spellings(), values), max_size=4))
    meta = draw(st.lists(st.tuples(spellings(), values), max_size=3))
    envelope = draw(st.lists(st.tuples(spellings(), values), max_size=3)) if draw(st.booleans()) else []
    if draw(st.booleans()):
        params.append(('"name"', '"add"'))
    if draw(st.booleans()):
        meta.append((json.dumps(VERSION_KEY), '"2026-07-28"'))
    if draw(st.booleans()):
        params.append(('"_meta"', "{" + ",".join(f"{k}:{v}" for k, v in draw(st.permutations(meta))) + "}"))
    pairs = [('"jsonrpc"', '"2.0"'), ('"id"', "1"), ('"method"', '"tools/call"')]
    pairs.append(('"params"', "{" + ",".join(f"{k}:{v}" for k, v in draw(st.permutations(params))) + "}"))
    pairs = draw(st.permutations([*pairs, *envelope]))
    return ("{" + ",".join(f"{k}:{v}" for k, v in pairs) + "}").encode()


def verdict(parse: Any, body: bytes) -> object:
    try:
        return parse(body)
    except Rejected as rejection:
        return rejection.outcome, rejection.message


@proves("MSG-2", "MSG-3")
@given(st.one_of(bodies(), objects(values).map(str.encode)))
@example(b'{"jsonrpc":"2.0","id":1,"result":{"x":1},"error":1}')
@example(b'{"jsonrpc":"2.0","method":"m","params":{"arguments":{"name":1},"_meta":{"name":1},"name":"a"}}')
def test_the_fast_path_defers_to_the_exact_one_or_agrees_with_it(body: bytes) -> None:
    assert verdict(parse_message, body) == verdict(messages._parse_exactly, body)


@proves("MSG-2")
@given(st.data())
def test_whoever_folds_case_or_takes_the_last_key_reads_the_same_deciding_values(data: st.DataObject) -> None:
    body = data.draw(bodies())
    try:
        message = parse_message(body)
    except Rejected:
        return
    loose = fold(json.loads(body))
    assert (loose.get("id"), loose.get("method", "")) == (message.id, message.method)
    params = loose.get("params") or {}
    if message.name is not None:
        assert message.name in (params.get("name"), params.get("uri"))
    assert (message.meta or {}).get(VERSION_KEY) == (
        fold(params["_meta"]).get(VERSION_KEY.casefold()) if isinstance(params.get("_meta"), dict) else None
    )


def fold(value: dict[str, Any]) -> dict[str, Any]:
    """The top two floors as a parser sees them that ignores case."""
    folded = {key.casefold(): item for key, item in value.items()}
    if isinstance(folded.get("params"), dict):
        folded["params"] = {key.casefold(): item for key, item in folded["params"].items()}
    return folded


@proves("MSG-4")
@given(st.binary(max_size=200) | bodies().flatmap(lambda b: st.integers(0, len(b)).map(lambda n: b[:n])))
def test_any_bytes_are_messages_or_a_rejection(body: bytes) -> None:
    try:
        parsed, _ = parse_messages(body)
    except Rejected as rejection:
        outcome = rejection.outcome
    else:
        outcome = Outcome.OK
        assert all(isinstance(message, Message) for message in parsed)
    assert outcome in {Outcome.OK, Outcome.PARSE_ERROR, Outcome.INVALID_REQUEST, Outcome.AMBIGUOUS}
