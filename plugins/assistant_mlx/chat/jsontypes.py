"""The JSON types that a schema admits, and values of the wrong one mended."""

from __future__ import annotations

import json
from typing import Any

UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, SyntaxError, ArithmeticError, RecursionError,
              MemoryError)
"""What parsers of text written by a model raise; deep nesting gives the last two."""


def types_of(schema: object, root: dict[str, Any], depth: int = 8) -> frozenset[str]:
    """The JSON types that a schema admits, as far as it says; all of them where it does not."""
    every = frozenset({"string", "number", "integer", "boolean", "null", "array", "object"})
    if not isinstance(schema, dict) or not depth:
        return every
    if isinstance(reference := schema.get("$ref"), str) and reference.startswith("#/"):
        target: Any = root
        for part in reference[2:].split("/"):
            target = target.get(part) if isinstance(target, dict) else None
        return types_of(target, root, depth - 1)
    if isinstance(named := schema.get("type"), str | list):
        return frozenset([named] if isinstance(named, str) else map(str, named))
    for key in ("anyOf", "oneOf"):
        if isinstance(branches := schema.get(key), list):
            return frozenset().union(*(types_of(branch, root, depth - 1) for branch in branches))
    values = schema["enum"] if isinstance(schema.get("enum"), list) else [schema["const"]] if "const" in schema else []
    return frozenset(map(_type, values)) or every


def _type(value: object) -> str:
    kinds = ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"), (list, "array"), (dict, "object"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "null")


def of_their_types(arguments: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Parsers of forms without quotes cannot tell ``5`` from ``"5"`` where the type is not named directly."""
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return arguments
    return {
        name: _reread(value) if isinstance(value, str) and "string" not in types_of(properties.get(name), schema)
        else value
        for name, value in arguments.items()
    }


def _reread(value: str) -> Any:
    try:
        return json.loads(value)
    except UNREADABLE:
        return value
