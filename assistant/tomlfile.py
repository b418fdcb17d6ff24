"""TOML read strictly: whatever is wrong with it is said with file, line, key and the nearest key that exists."""

from __future__ import annotations

import json
import math
import re
import tomllib
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from .errors import ConfigError

Key = tuple[str, ...]
"""A setting's place, outermost table first: ``("plugins", "clock", "zone")``."""

T = TypeVar("T")


@dataclass(frozen=True)
class Source:
    """Where a configuration came from, to point back at it."""

    file: Path | None = None
    """None: there is no file."""
    text: str = ""
    environment: Mapping[Key, tuple[str, str]] = field(default_factory=dict)
    """For a setting from the environment: the variable and its text."""

    def variable(self, key: Key) -> str:
        """The environment variable that set this key or a table around it; empty if none did."""
        for length in range(len(key), 0, -1):
            if key[:length] in self.environment:
                return self.environment[key[:length]][0]
        return ""

    def where(self, key: Key) -> str:
        """The variable, or the file and line, that this key (or else the innermost table around it) comes from."""
        if name := self.variable(key):
            return name
        for length in range(len(key), 0, -1):
            if number := line_of(self.text, key[:length]):
                return f"{self.file}, line {number}"
            for inner, (name, _) in self.environment.items():
                if inner[:length] == key[:length]:
                    return name
        return str(self.file or "configuration")


def read(file: Path) -> tuple[dict[str, Any], Source]:
    """The tables of a file; an absent file is an empty one.

    Raises:
        ConfigError: it cannot be read, is not UTF-8 or is not TOML.
    """
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        if file.is_symlink():
            hint = "restore what it points to, or remove the link"
            raise ConfigError(f"{file}: a link to a file that does not exist", hint=hint) from None
        return {}, Source()
    except OSError as error:
        hint = "it must be a readable file"
        raise ConfigError(f"{file}: cannot be read: {error.strerror or error}", hint=hint) from error
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{file}, line {number}: not UTF-8 text", hint="save the file as UTF-8") from error
    return _parse(text, file), Source(file, text)


def _parse(text: str, file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.fullmatch(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", str(error), re.DOTALL)
        what = found[1] if found else str(error)
        number = found[2] if found and found[2] else len(text.splitlines()) or 1
        column = f", column {found[3]}" if found and found[3] else ""
        hint = "strings need quotes; a setting is `key = value` below its `[table]`, and may be there once"
        what = what[:1].lower() + what[1:]
        raise ConfigError(f"{file}, line {number}{column}: not TOML: {what}", hint=hint) from error
    except RecursionError as error:
        raise ConfigError(f"{file}: nested too deeply", hint="no setting needs that") from error


def value(text: str) -> Any:
    """What a piece of text means as a TOML value; the text itself if it is none."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    return parsed["value"] if len(parsed) == 1 else text


def line_of(text: str, key: Key) -> int:
    """The line, from 1, on which the statement begins that first defines a key or table; 0 if none does.

    It is the shortest beginning of the text, whole statements only, that has the key.
    """
    lines = text.splitlines(keepends=True)

    def defines(count: int) -> bool:
        for end in range(count, len(lines) + 1):
            try:
                table: Any = tomllib.loads("".join(lines[:end]))
            except (tomllib.TOMLDecodeError, RecursionError):
                continue
            for name in key:
                if not isinstance(table, dict) or name not in table:
                    return False
                table = table[name]
            return True
        return False

    if not defines(len(lines)):
        return 0
    low, high = 1, len(lines)
    while low < high:
        middle = (low + high) // 2
        if defines(middle):
            high = middle
        else:
            low = middle + 1
    return low


def label(key: Key) -> str:
    """A key as a person writes it: ``[plugins.clock] zone``; a key of the root is shown as the table it should be."""
    if len(key) < 2:
        return f"[{'.'.join(key)}]"
    return f"[{'.'.join(key[:-1])}] {key[-1]}"


def nearest(name: str, names: Iterable[str]) -> str:
    """The most similar of some names; empty if none is similar."""
    import difflib

    return next(iter(difflib.get_close_matches(name, sorted(names), n=1)), "")


def convert(raw: dict[str, Any], kind: type[T], source: Source, prefix: Key = ()) -> T:
    """A table as a struct, strictly.

    Args:
        prefix: the key of the table itself.

    Raises:
        ConfigError: a key is unknown or missing, or a value has the wrong type or is out of range.
    """
    for key, (_, text) in source.environment.items():
        if key[: len(prefix)] == prefix:
            _keep_text(raw, kind, key[len(prefix) :], text)
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise _explained(str(error), kind, source, prefix) from None


def variable_name(key: Key) -> str:
    """The environment variable that overrides a setting."""
    return "ASSISTANT_" + "__".join(key).upper()


def _keep_text(raw: dict[str, Any], kind: type, key: Key, text: str) -> None:
    """A variable for a setting of type ``str`` is its text, also where that reads as a number."""
    table: Any = raw
    for name in key[:-1]:
        table = table.get(name) if isinstance(table, dict) else None
    if isinstance(table, dict) and key and _type_at(kind, key) is str and not isinstance(table.get(key[-1]), str):
        table[key[-1]] = text


def fields_of(kind: Any) -> dict[str, Any]:
    """The fields of a struct and their types; empty for anything else."""
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return {}
    return {entry.encode_name: entry.type for entry in msgspec.structs.fields(kind)}


def keys_of(kind: Any, prefix: Key = ()) -> list[Key]:
    """The key of every setting of a struct and of the structs in it."""
    found: list[Key] = []
    for name, inner in fields_of(kind).items():
        found += keys_of(inner, (*prefix, name)) if fields_of(inner) else [(*prefix, name)]
    return found


def _type_at(kind: Any, key: Key) -> Any:
    for name in key:
        kind = _bare(fields_of(kind).get(name))
    return kind


def _bare(kind: Any) -> Any:
    """A type without ``Annotated`` and ``| None``."""
    if get_origin(kind) is Annotated:
        return _bare(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        rest = [entry for entry in get_args(kind) if entry is not type(None)]
        return _bare(rest[0]) if len(rest) == 1 else kind
    return kind


def _explained(error: str, kind: type, source: Source, prefix: Key) -> ConfigError:
    what, _, path = error.partition(" - at `$")
    key: Key = tuple(re.findall(r"\.(\w+)", path.partition("[")[0]))
    if found := re.fullmatch(r"Object contains unknown field `(.*)`", what, re.DOTALL):
        key = (*key, found[1])
        what, hint = "there is no such setting", _hint_for_unknown(key, kind, source, prefix)
    elif found := re.fullmatch(r"Object missing required field `(.*)`", what):
        key = (*key, found[1])
        what, hint = "it must be set", f"write a value for it, or set {variable_name(prefix + key)}"
    else:
        what, hint = _hint_for_value(what, _type_at(kind, key))
    whole = prefix + key
    return ConfigError(f"{source.where(whole)}: {label(whole)}: {what}", hint=hint)


def _hint_for_unknown(key: Key, kind: type, source: Source, prefix: Key) -> str:
    *parents, name = key
    names = fields_of(_type_at(kind, tuple(parents)))
    if close := nearest(name, names):
        better = (*prefix, *parents, close)
        by_variable = len(better) > 1 and source.variable(prefix + key)
        return f"did you mean {variable_name(better) if by_variable else label(better)}?"
    elsewhere = [label(prefix + place) for place in keys_of(kind) if place[-1] == name and len(place) > 1]
    if elsewhere:
        return f"did you mean {' or '.join(elsewhere)}?"
    table = ".".join((*prefix, *parents))
    if not names:
        return f"[{table}] has no settings"
    return f"{f'[{table}] has' if table else 'the tables are'} {', '.join(names)}"


def _hint_for_value(what: str, kind: Any) -> tuple[str, str]:
    if get_origin(kind) is Literal:
        allowed = [str(choice) for choice in get_args(kind)]
        given = re.fullmatch(r"Invalid enum value '(.*)'", what, re.DOTALL)
        close = nearest(given[1], allowed) if given else ""
        listed = ", ".join(json.dumps(choice) for choice in allowed)
        return f"expected one of {listed}", f"did you mean {json.dumps(close)}?" if close else "choose one of them"
    what = what.replace("`object`", "a table").replace("`array`", "a list")
    what = what[:1].lower() + what[1:]
    if what.startswith("expected `str`, got"):
        return what, "put the value in quotes"
    if "a list" in what:
        return what, 'write it like ["one", "two"]'
    return what, "correct the value, or leave the key out for the default"


def emit(item: object) -> str:
    """A TOML value in one line.

    Raises:
        TypeError: TOML has nothing for it.
    """
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, str):
        return json.dumps(item, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(item, int):
        return str(item)
    if isinstance(item, float):
        return repr(item) if math.isfinite(item) else str(item)
    if isinstance(item, Mapping):
        pairs = [f"{_emit_key(str(name))} = {emit(inner)}" for name, inner in item.items() if inner is not None]
        return f"{{ {', '.join(pairs)} }}" if pairs else "{}"
    if isinstance(item, list | tuple | set | frozenset):
        return f"[{', '.join(emit(inner) for inner in item)}]"
    plain = msgspec.to_builtins(item)
    if type(plain) is type(item):
        raise TypeError(f"TOML has nothing for {type(item).__name__}")
    return emit(plain)


def _emit_key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else emit(name)
