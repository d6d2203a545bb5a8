"""JSON schemas of Python types, in the form that the providers' strict modes take."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["schema_of"]


def _closed(node: Any) -> Any:
    """A schema whose objects take no other properties than those named, as strict modes ask."""
    if isinstance(node, list):
        return [_closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    made = {
        key: {name: _closed(sub) for name, sub in value.items()}
        if key in ("properties", "$defs") and isinstance(value, dict)
        else _closed(value)
        for key, value in node.items()
    }
    if "properties" in made:
        made.setdefault("additionalProperties", False)
    return made


def _inlined(node: Any, defs: dict[str, Any], above: tuple[str, ...] = ()) -> Any:
    """The schema with its references replaced, which not all servers follow; those of types
    that contain themselves stay."""
    if isinstance(node, list):
        return [_inlined(item, defs, above) for item in node]
    if not isinstance(node, dict):
        return node
    name = str(node.get("$ref", "")).rpartition("/")[2]
    if name in defs and name not in above:
        rest = {key: value for key, value in node.items() if key != "$ref"}
        return {**_inlined(defs[name], defs, (*above, name)), **rest}
    return {key: _inlined(value, defs, above) for key, value in node.items()}


def schema_of(type_or_schema: Any) -> dict[str, Any]:
    """The JSON schema of a type that msgspec knows (dataclass, TypedDict, Struct, attrs...), or
    of a class with `model_json_schema` (pydantic); a dict is one already.

    Raises:
        TypeError: no schema can be made of it.
    """
    if isinstance(type_or_schema, dict):
        return type_or_schema
    if callable(method := getattr(type_or_schema, "model_json_schema", None)):
        schema = method()
    else:
        schema = msgspec.json.schema(type_or_schema)
    defs = schema.pop("$defs", {})
    made: dict[str, Any] = _closed(_inlined(schema, defs))
    if '"$ref"' in msgspec.json.encode(made).decode():
        made["$defs"] = _closed(defs)
    return made
