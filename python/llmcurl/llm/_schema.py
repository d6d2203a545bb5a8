"""JSON schemas of Python types, in the form that the providers' strict modes take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

__all__ = ["decoded", "schema_of", "strict_schema_of"]


def decoded(type: Any, value: Any) -> Any:
    """msgspec's dec_hook: a value for a type that it does not know, a pydantic model's.

    Raises:
        ValueError: the value does not fit (pydantic's ValidationError).
        NotImplementedError: another type.
    """
    if callable(validate := getattr(type, "model_validate", None)):
        return validate(value)
    raise NotImplementedError(f"values of type {type!r} cannot be made")


def _schema_hook(type: Any) -> dict[str, Any]:
    if callable(getattr(type, "model_json_schema", None)):
        return schema_of(type)
    raise TypeError(f"no JSON schema can be made of {type!r}")


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
    of a class with `model_json_schema` (pydantic), also within another; a dict is one already.

    Raises:
        TypeError: no schema can be made of it.
    """
    if isinstance(type_or_schema, dict):
        return type_or_schema
    if callable(method := getattr(type_or_schema, "model_json_schema", None)):
        schema = method()
    else:
        schema = msgspec.json.schema(type_or_schema, schema_hook=_schema_hook)
    defs = schema.pop("$defs", {})
    made: dict[str, Any] = _closed(_inlined(schema, defs))
    if '"$ref"' in msgspec.json.encode(made).decode():
        made["$defs"] = _closed(defs)
    return made


def _nodes(node: Any) -> Iterator[dict[str, Any]]:
    """All schemas within a schema, itself first."""
    if isinstance(node, list):
        for item in node:
            yield from _nodes(item)
    elif isinstance(node, dict):
        yield node
        for key, value in node.items():
            if key in ("properties", "$defs", "definitions") and isinstance(value, dict):
                yield from _nodes(list(value.values()))
            elif key in ("items", "prefixItems", "anyOf", "allOf", "oneOf", "additionalProperties"):
                yield from _nodes(value)


def strict_schema_of(type_or_schema: Any) -> tuple[dict[str, Any], bool]:
    """`schema_of` for OpenAI's strict mode, and whether that can be asked for.

    There every property must be required and no object may take others (OpenAI's guide
    "Structured model outputs"), else the request is refused. A type's fields with a default
    are asked for, too, as its SDK does; a schema that came as a dict stays as it is.
    """
    made = schema_of(type_or_schema)
    given = isinstance(type_or_schema, dict)
    strict = True
    for node in _nodes(made):
        named = node.get("properties") or {}
        if not given:
            node.pop("default", None)
            if named:
                node["required"] = list(named)
        if (named or node.get("type") == "object") and (
            node.get("additionalProperties") is not False
            or not set(named) <= set(node.get("required") or ())
        ):
            strict = False
    return made, strict
