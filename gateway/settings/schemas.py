"""The configuration file's JSON Schema (2020-12), for editors and for those who generate such files.

Made from the shapes. It adds what the shapes never see, because it is replaced before: `${NAME}` and `{file: PATH}`
wherever a single value may stand, a single text for a list, and `x-…` keys.
"""

import json
from pathlib import Path
from typing import Any, Final

from gateway.policy.sites import RESERVED_PATHS
from gateway.settings.grants import ANYBODY
from gateway.settings.shapes import FileShape

PUBLISHED: Final = Path(__file__).with_name("schema.json")
_REFERENCE: Final = {"$ref": "#/$defs/Reference"}
_REFERENCES: Final[dict[str, Any]] = {
    "description": "Taken from an environment variable, or from a file (its trailing newline stripped).",
    "anyOf": [
        {"type": "string", "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}", "examples": ["${NAME}", "${NAME:-a}"]},
        {
            "type": "object",
            "properties": {"file": {"type": "string", "description": "A path, relative to the configuration file."}},
            "required": ["file"],
            "additionalProperties": False,
        },
    ],
}
_ONE_OR_MORE: Final = frozenset(
    {
        "include",
        "trusted_proxies",
        "allowed_hosts",
        "origins",
        "session_keys",
        "endpoints",
        "tools",
        "prompts",
        "resources",
        "audiences",
        "algorithms",
        "groups",
        "scopes",
        "principals",
        "methods",
        "keys",
    }
)  # where a text, its items apart by commas, is a list too
_REQUIRED: Final = {
    "BackendShape": ["endpoints"],
    "MemberShape": ["name"],
    "IssuerShape": ["issuer"],
    "IntrospectionShape": ["url", "client_id", "client_secret"],
    "ApiKeyShape": ["name", "sha256"],
    "ProxyShape": ["user_header"],
    "GrantShape": ["to"],
}  # the shapes have defaults there, so that `check` can say more than that something is missing
_SCALARS: Final = frozenset({"string", "integer", "number", "boolean"})


def make_schema() -> dict[str, Any]:
    """The schema as a JSON value."""
    made: dict[str, Any] = FileShape.model_json_schema()
    definitions = {name: _open(shape) for name, shape in made.pop("$defs").items()}
    definitions["Reference"] = _REFERENCES
    root = _open(made) | {"title": "MCP gateway configuration"}
    for named in (root["properties"]["backends"], root["properties"]["aggregates"]):
        named["propertyNames"] = {"pattern": "^[a-z0-9][a-z0-9._-]{0,62}$"}
        named["type"] = ["object", "null"]
    _describe_mount(definitions["BackendShape"]["properties"]["mount"])
    _shorten(definitions["AggregateShape"]["properties"])
    backend = definitions["BackendShape"]["properties"]
    backend["cache"] = _or_else(backend["cache"], {"enum": ["off", "on", False, True]}, _REFERENCE)
    root["properties"]["auth"] = _or_else(root["properties"]["auth"], {"const": "none"}, _REFERENCE)
    _shorten_grant(definitions["GrantShape"]["properties"])
    for shape, keys in _REQUIRED.items():
        definitions[shape]["required"] = keys
    root["patternProperties"] = {"^x-": {"description": "Ignored: a place for anchors."}}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **root, "$defs": definitions}


def encode_schema() -> str:
    """The schema as the text that is published."""
    return json.dumps(make_schema(), indent=2, ensure_ascii=False) + "\n"


def _open(shape: dict[str, Any]) -> dict[str, Any]:
    """A mapping's schema with references allowed for its values; titles that only repeat the key are dropped."""
    properties = {name: _open_value(name, value) for name, value in shape["properties"].items()}
    return {**_untitled(shape), "title": shape["title"].removesuffix("Shape"), "properties": properties}


def _open_value(name: str, value: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {key: value[key] for key in ("description", "examples", "default") if key in value}
    bare = {key: part for key, part in _untitled(value).items() if key not in told}
    if told.get("default") is None or isinstance(told["default"], dict):
        told.pop("default", None)  # a mapping's defaults stand at its keys
    choices: list[dict[str, Any]] = []
    for choice in bare.get("anyOf", [bare]):
        if choice.get("type") != "null":
            choices += choice.get("anyOf", [choice])  # of a quantity that may be left out
            if "examples" in choice:
                told.setdefault("examples", choice["examples"])
    if name in _ONE_OR_MORE:
        items = choices[0]["items"]
        choices = [{**choices[0], "items": {"anyOf": [items, _REFERENCE]}}, {"type": "string"}]
    if "additionalProperties" in choices[0] and choices[0]["additionalProperties"].get("type") == "string":
        choices[0]["additionalProperties"] = {"anyOf": [{"type": "string"}, _REFERENCE]}
    if any(choice.get("type") in _SCALARS or "enum" in choice or "const" in choice for choice in choices):
        choices.append(_REFERENCE)
    return {**told, **(choices[0] if len(choices) == 1 else {"anyOf": choices})}


def _untitled(schema: dict[str, Any]) -> dict[str, Any]:
    return {key: part for key, part in schema.items() if key != "title"}


def _describe_mount(mount: dict[str, Any]) -> None:
    reserved = ", ".join(RESERVED_PATHS)
    mount["description"] += f" Not / or /mcp (kept for the aggregate), and not below {reserved}."


def _shorten(aggregate: dict[str, Any]) -> None:
    """The shorter forms that an aggregate's keys may have, and that the shapes never see."""
    text: dict[str, Any] = {"type": "string"}
    members = aggregate["backends"]
    members["items"] = {"anyOf": [text, members["items"]]}
    aggregate["backends"] = _or_else(members, text)
    for key in ("allow", "deny"):
        aggregate[key] = _or_else(aggregate[key], {"type": "array", "items": text}, text)


def _shorten_grant(grant: dict[str, Any]) -> None:
    """The same of a grant's."""
    text: dict[str, Any] = {"type": "string"}
    grant["to"] = _or_else(grant["to"], {"const": ANYBODY})
    grant["backends"] = _or_else(grant["backends"], text)
    for key in ("allow", "deny"):
        grant[key] = _or_else(grant[key], {"type": "array", "items": text}, text)


def _or_else(value: dict[str, Any], *others: dict[str, Any]) -> dict[str, Any]:
    """The value's schema with other choices beside it; what is told of it stays outside."""
    told: dict[str, Any] = {key: value[key] for key in ("description", "examples", "default") if key in value}
    return {**told, "anyOf": [{key: part for key, part in value.items() if key not in told}, *others]}
