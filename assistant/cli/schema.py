"""The JSON schema that an answer is to satisfy, from a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from assistant.errors import PromptError

LIMIT = 1 << 20
"""1 MiB: the largest schema that is read."""
EXAMPLE = '{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}'
KINDS: dict[type, str] = {bool: "true or false", list: "an array", str: "a string", type(None): "null"}
"""What else JSON may hold."""


def read_schema(source: str) -> dict[str, Any]:
    """The schema in a file.

    Raises:
        PromptError: it is no file, no JSON, or no object.
    """
    if source == "-":
        raise PromptError(
            "the schema cannot come from standard input, which is part of the prompt",
            hint="give a file; the shell makes one of a command: --schema <(command)",
        )
    try:
        with Path(source).open("rb") as file:
            data = file.read(LIMIT + 1)
    except OSError as problem:
        hint = "a schema looks like this: " + EXAMPLE
        raise PromptError(f"the schema {source} cannot be read: {problem.strerror or problem}", hint=hint) from None
    if len(data) > LIMIT:
        raise PromptError(f"the schema {source} is larger than {LIMIT:,} bytes", hint="leave out what is not needed")
    return _parsed(source, data)


def _parsed(source: str, data: bytes) -> dict[str, Any]:
    try:
        schema = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as problem:
        raise PromptError(f"the schema {source} is not UTF-8 text (byte {problem.start})",
                          hint="iconv -t UTF-8") from None  # fmt: skip
    except json.JSONDecodeError as problem:
        where = f"{source}, line {problem.lineno}, column {problem.colno}"
        raise PromptError(f"{where}: the schema is not JSON: {problem.msg}", hint=f"jq . {source} checks it") from None
    except RecursionError:
        raise PromptError(f"the schema {source} is nested too deeply", hint="use $defs and $ref") from None
    if not isinstance(schema, dict):
        what = KINDS.get(type(schema), "a number")
        raise PromptError(f"the schema {source} is {what}, not an object", hint="it looks like this: " + EXAMPLE)
    try:
        msgspec.json.encode(schema)
    except UnicodeEncodeError:
        hint = "write characters beyond U+FFFF as they are, or as a pair \\ud83d\\udc4d"
        raise PromptError(f"the schema {source} holds half a character", hint=hint) from None
    return schema
