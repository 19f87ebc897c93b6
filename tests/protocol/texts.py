"""JSON as anybody may write it: objects as pairs, so that a key can stand twice, with white space and escapes at will."""

import json
from typing import Any

from hypothesis import strategies as st

Pairs = list[tuple[str, Any]]

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
SPACES = st.sampled_from(["", "", "", " ", "\n  ", "\t", "\r\n"])


@st.composite
def texts_of(draw: st.DrawFn, value: Any) -> str:
    """One way to write the value."""
    inner = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t:  ")]))
    return json.dumps(value, separators=inner, ensure_ascii=draw(st.booleans()))


@st.composite
def keys_of(draw: st.DrawFn, key: str) -> str:
    """One way to write a key: any of its characters may be escaped."""
    if draw(st.integers(0, 4)):
        return draw(texts_of(key))
    units = [f"\\u{unit:04x}" for unit in memoryview(key.encode("utf-16-le")).cast("H")]
    return f'"{"".join(units)}"'


@st.composite
def objects_of(draw: st.DrawFn, pairs: Pairs) -> str:
    """One way to write an object of these pairs. A value that is a list of pairs itself stays an object."""
    space = draw(SPACES)
    members = []
    for key, value in pairs:
        is_object = isinstance(value, list) and bool(value) and all(isinstance(item, tuple) for item in value)
        text = draw(objects_of(value) if is_object else texts_of(value))
        members.append(f"{space}{draw(keys_of(key))}{draw(SPACES)}:{draw(SPACES)}{text}{draw(SPACES)}")
    return f"{{{','.join(members)}{space}}}"
