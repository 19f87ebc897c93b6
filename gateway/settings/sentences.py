"""What pydantic found, as a sentence that a person can act on."""

import difflib
import types
from collections.abc import Iterable
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from gateway.settings.problems import Loc

_OTHER_WORDS = {"url": "endpoints", "urls": "endpoints", "path": "mount", "bind": "host", "listen": "host"}
_SENTENCES = {
    "string_type": "must be text: put it in quotes",
    "list_type": "must be a list, such as [a, b]",
    "dict_type": "must be a mapping (`key: value` lines)",
    "model_type": "must be a mapping (`key: value` lines)",
    "model_attributes_type": "must be a mapping (`key: value` lines)",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "int_from_float": "must be a whole number",
    "greater_than_equal": "must be {ge} or more",
    "less_than_equal": "must be {le} or less",
    "literal_error": "must be {expected}",
}


def describe(error: ErrorDetails, root: type[BaseModel], value: object, *, secret: bool) -> str:
    """What is wrong and how to mend it; the value is quoted where it is short and no secret."""
    sort, loc = error["type"], error["loc"]
    if sort == "extra_forbidden":
        return describe_unknown(str(loc[-1]), known_keys(root, loc[:-1]))
    limits: dict[str, Any] = error.get("ctx", {})
    if sort == "value_error":
        sentence = str(limits.get("error", error["msg"]))
    else:
        sentence = _SENTENCES.get(sort, error["msg"]).format_map(limits)
    shown = quote(value) if not secret else ""
    return f"{shown} {sentence}" if shown else sentence


def describe_unknown(key: str, known: Iterable[str]) -> str:
    """The sentence for a key that nobody knows, with the nearest that is known."""
    known = sorted(known)
    near = [word for word in (_OTHER_WORDS.get(key.lower()),) if word in known]
    if near := near or difflib.get_close_matches(key.lower(), known, 1, 0.6):
        return f"unknown key: did you mean `{near[0]}`?"
    return f"unknown key: known here are {', '.join(known)}"


def quote(value: object) -> str:
    """The value as it would be written, "" where that is no help, or where it may hold credentials."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and "://" in value:
        value = value.partition("?")[0]
    if not isinstance(value, str | int | float) or len(str(value)) > 100 or "@" in str(value):
        return ""
    return repr(value)


def known_keys(root: type[BaseModel], loc: Loc) -> set[str]:
    """The keys that may stand in the mapping at `loc`."""
    shape: Any = root
    for part in loc:
        if isinstance(part, str) and is_shape(shape):
            field = shape.model_fields.get(part)
            shape = unwrap(field.annotation) if field else None
        elif get_origin(shape) in (dict, list):
            shape = unwrap(get_args(shape)[-1])
    return set(shape.model_fields) if is_shape(shape) else set()


def is_shape(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def unwrap(annotation: Any) -> Any:
    """The type without `Annotated` and `| None`."""
    if hasattr(annotation, "__metadata__"):
        return unwrap(annotation.__origin__)
    if get_origin(annotation) in (Union, types.UnionType):
        return unwrap(next(arg for arg in get_args(annotation) if arg is not type(None)))
    return annotation
