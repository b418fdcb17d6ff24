"""Grammars in llguidance's dialect of Lark for what a model may write: calls as it was trained to write them, JSON of a
schema, or text with calls in it."""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Callable, Sequence
from typing import Any

from assistant import ToolSchema
from assistant_mlx.chat.jsontypes import types_of
from assistant_mlx.chat.toolcalls import Dialect

MAX_CALLS = 8
"""Calls in one reply that must be one; a weak model would go on and on."""

STRICT = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}
"""How JSON is written: as ``json.dumps`` and ``tojson`` do, or without spaces. (Where white space is free, weak models
write it without end.)"""

LENIENT = STRICT | {"lenient": True}
"""The same for the arguments of tools, whose own check follows: what cannot be enforced of a schema is left out."""

ANY_TEXT = "(?s:.*)"

SCALARS = frozenset({"integer", "number", "boolean", "null"})

_FORBIDDEN = {
    "qwen3_coder": r"<\/(function|tool_call)", "glm47": r"<\/?(arg_key|tool_call)",
    "minimax_m2": r"<\/?(invoke|minimax)", "function_gemma": "[}]", "gemma4": "<",
}
"""What a string without quotes must not hold, because the parsers would end it there."""

_NAMED = {
    "qwen3_coder": r"[\w.-]+", "glm47": r"[\w.-]+", "minimax_m2": r"[\w.-]+", "function_gemma": r"\w+",
    "gemma4": r"\w+", "pythonic": r"[^\W\d]\w*",
}
"""Names that the parsers of forms without quotes can read."""

Token = Callable[[str], str]
"""From a marker to its Lark: a reference if it is one special token, else a literal."""


class Unenforceable(Exception):
    """The style cannot express what the tools want."""


class CallGrammar:
    """The calls of one request.

    Args:
        token: how markers are written.
        enforceable: whether llguidance takes a JSON schema; tools whose it does not may be given any object.
    """

    def __init__(self, dialect: Dialect, token: Token, enforceable: Callable[[dict[str, Any]], bool]) -> None:
        self._dialect = dialect
        self._token = token
        self._enforceable = enforceable
        self._rules: list[str] = []

    def after_marker(self) -> str:
        """One call, or all there are where no marker ends it, from after the start marker."""
        return self._grammar(self._body())

    def only(self, schema: dict[str, Any] | None = None, *, calls: int = MAX_CALLS, leading: bool = False) -> str:
        """At least one call and nothing else, or else JSON of ``schema``.

        Args:
            calls: the most there may be.
            leading: whether white space may come first, as after reasoning.
        """
        body = self._body(calls)
        dialect = self._dialect
        if dialect.style == "llama3":
            # With a schema a brace begins the answer, so that a call needs its marker.
            whole = f"{self._token(dialect.start)}{'?' if schema is None else ''} {body}"
        else:
            one = f"{self._token(dialect.start)} {body}"
            whole = _several(one, "NL?", calls) if dialect.end else one
        if schema is not None:
            whole = f"({whole} | {_json(schema, STRICT)})"
        return self._grammar(("SPACES? " if leading else "") + whole)

    def opening(self) -> str:
        """An answer that is a call if it begins with a brace or the marker, else text."""
        self._rules.append(f"TEXT: /[^{{ \\n\\r\\t]{ANY_TEXT}/")
        return self._grammar(f"{self._token(self._dialect.start)}? {self._body()} | TEXT?")

    def within_text(self) -> str:
        """Text, or text and then calls: every start marker is followed by one."""
        start = self._dialect.start
        self._rules.append(f"until[lazy]: /{ANY_TEXT}{_regex(start)}/\nTEXT: {_anything_but(start)}")
        body = self._body()
        return self._grammar(f"TEXT | until {_several(body, f'NL? {_text(start)}', MAX_CALLS)}")

    def _grammar(self, start: str) -> str:
        rules = "\n".join(dict.fromkeys(self._rules))
        return f'%llguidance {{}}\nstart: {start}\n{rules}\nNL: "\\n"\nSPACES: /\\n{{1,2}}/\n'

    def _body(self, calls: int = MAX_CALLS) -> str:
        dialect = self._dialect
        one = self._each({
            "own": self._object, "json_tools": self._object, "llama3": self._object, "mistral": self._object,
            "mistral_header": self._header, "qwen3_coder": self._qwen3_coder, "glm47": self._glm47,
            "minimax_m2": self._minimax, "function_gemma": self._braces, "gemma4": self._braces,
            "pythonic": self._python,
        }[dialect.style])
        match dialect.style:
            case "llama3":
                return _several(one, '"; "', calls)
            case "mistral":
                return f'" "? "[" {_several(one, "/, ?/", calls)} "]"'
            case "mistral_header":
                return _several(one, self._token(dialect.start), calls)
            case "pythonic":
                calls_in_list = _several(one, '", "', calls)
                return f'"[" {calls_in_list} "]" {self._token(dialect.end)}'
            case "qwen3_coder" | "glm47" | "minimax_m2" | "function_gemma" | "gemma4":
                return f"{one} {self._token(dialect.end)}"
        return f"NL? {one} NL? {self._token(dialect.end)}"

    def _each(self, written: Callable[[int, ToolSchema], str]) -> str:
        tools = self._dialect.callable
        self._check_names(tools)
        for number, tool in enumerate(tools):
            self._rules.append(f"call_{number}: {written(number, tool)}")
        return "(" + " | ".join(f"call_{number}" for number in range(len(tools))) + ")"

    def _check_names(self, tools: Sequence[ToolSchema]) -> None:
        pattern = _NAMED.get(self._dialect.style, "")
        for tool in tools if pattern else ():
            for name in (tool.name, *(name for name, _, _ in _properties(object_schema(tool.parameters)))):
                if not re.fullmatch(pattern, name) or keyword.iskeyword(name):
                    raise Unenforceable(name)

    def _arguments(self, tool: ToolSchema) -> str:
        schema = object_schema(tool.parameters)
        return _json(schema if self._enforceable(schema) else {"type": "object"}, LENIENT)

    def _object(self, number: int, tool: ToolSchema) -> str:
        key = "parameters" if self._dialect.style == "llama3" else "arguments"
        return (
            f'/\\{{"name": ?/ {_text(json.dumps(tool.name, ensure_ascii=False))} '
            f'/, ?"{key}": ?/ {self._arguments(tool)} "}}"'
        )

    def _header(self, number: int, tool: ToolSchema) -> str:
        return f"{_text(tool.name)} {self._token('[ARGS]')} {self._arguments(tool)}"

    def _qwen3_coder(self, number: int, tool: ToolSchema) -> str:
        return self._tagged(
            number, tool, f"\n<function={tool.name}>\n", "<parameter={}>\n", "</parameter>", "\n", "</function>\n"
        )

    def _minimax(self, number: int, tool: ToolSchema) -> str:
        return self._tagged(
            number, tool, f'\n<invoke name="{tool.name}">\n', '<parameter name="{}">', "</parameter>", "\n",
            "</invoke>\n",
        )

    def _glm47(self, number: int, tool: ToolSchema) -> str:
        pair = "<arg_key>{}</arg_key>\n<arg_value>"
        return self._tagged(number, tool, f"{tool.name}\n", pair, "</arg_value>", "\n", "")

    def _tagged(
        self, number: int, tool: ToolSchema, head: str, before: str, end: str, after: str, tail: str
    ) -> str:
        """A form in which each argument stands between tags; strings have no quotes."""
        root = object_schema(tool.parameters)
        parts = [_text(head)]
        for place, (name, schema, needed) in enumerate(_properties(root)):
            rule = f"value_{number}_{place}"
            if words := self._words(schema):
                value = f"{words} NL? {_text(end)}"
            elif self._is_raw(schema, root):
                self._rules.append(f"{rule}[suffix={_text(end)}]: {self._raw()}")
                value = rule
            else:
                value = f"{self._value(schema, root)} NL? {_text(end)}"
            pair = f"{_text(before.format(name))} {value} {_text(after)}"
            parts.append(pair if needed else f"({pair})?")
        return " ".join([*parts, _text(tail)] if tail else parts)

    def _is_raw(self, schema: Any, root: dict[str, Any]) -> bool:
        if self._dialect.style == "glm47":
            return isinstance(schema, dict) and schema.get("type") == "string"
        return "string" in types_of(schema, root)

    def _raw(self) -> str:
        return f"/{ANY_TEXT}/ & ~/{ANY_TEXT}{_FORBIDDEN[self._dialect.style]}{ANY_TEXT}/"

    def _words(self, schema: Any) -> str:
        """The alternatives of an enumeration of strings that stand there without quotes."""
        named = isinstance(schema, dict) and schema.get("type", "" if self._dialect.style == "glm47" else "string")
        if named != "string":
            return ""
        words = schema.get("enum", [schema["const"]] if "const" in schema else [])
        if not isinstance(words, list) or not words or not all(isinstance(word, str) and word for word in words):
            return ""
        return "(" + " | ".join(map(_text, words)) + ")"

    def _value(self, schema: Any, root: dict[str, Any], options: dict[str, Any] = LENIENT) -> str:
        whole = {**schema, "$defs": root["$defs"]} if isinstance(schema, dict) and "$defs" in root else schema
        return _json(whole if isinstance(whole, dict) and self._enforceable(whole) else {}, options)

    def _braces(self, number: int, tool: ToolSchema) -> str:
        root = object_schema(tool.parameters)
        quote = self._token("<escape>" if self._dialect.style == "function_gemma" else '<|"|>')
        pairs: list[tuple[str, bool]] = []
        for name, schema, needed in _properties(root):
            words = self._words(schema)
            kinds = types_of(schema, root)
            if words or kinds == {"string"}:
                text = words or f"/[^{_FORBIDDEN[self._dialect.style].strip('[]')}<]*/"
                pairs.append((f"{_text(name + ':')} {quote} {text} {quote}", needed))
            elif kinds <= SCALARS:
                pairs.append((f"{_text(name + ':')} {self._value(schema, root)}", needed))
            elif needed:
                raise Unenforceable(name)
        return f'{_text(f"call:{tool.name}{{")} {self._list(f"items_{number}", pairs, ",")} "}}"'

    def _python(self, number: int, tool: ToolSchema) -> str:
        root = object_schema(tool.parameters)
        # Other escapes mean something else, or nothing, in Python.
        plain = LENIENT | {"json_allowed_escapes": 'nrt"\\'}
        pairs = [
            (f"{_text(name + '=')} {self._value(schema, root, plain)}", needed)
            for name, schema, needed in _properties(root)
        ]
        return f'{_text(f"{tool.name}(")} {self._list(f"items_{number}", pairs, ", ")} ")"'

    def _list(self, rule: str, pairs: Sequence[tuple[str, bool]], separator: str) -> str:
        """Pairs in their order, the optional ones there or not, with separators only in between."""
        if not pairs:
            return ""
        comma, tail, head = _text(separator), "", ""
        for place, (pair, needed) in reversed([*enumerate(pairs)]):
            first = f"{pair} {tail}" if needed else f"{pair} {tail}" + (f" | {head}" if head else "")
            rest = f"{comma} {pair} {tail}" if needed else f"({comma} {pair})? {tail}"
            optional = all(not later for _, later in pairs[place:])
            self._rules += [f"{rule}_first_{place}: {first}", f"{rule}_rest_{place}: {rest}"]
            head, tail = f"{rule}_first_{place}" + ("?" if optional else ""), f"{rule}_rest_{place}"
        return head


def object_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a tool's arguments, closed unless it says otherwise."""
    closed = {"additionalProperties": False} if schema.get("properties") else {}
    return {**closed, **schema, "type": "object"}


def json_only(schema: dict[str, Any], *, leading: bool) -> str:
    """One JSON value of the schema, as Lark; ``leading``: white space may come first."""
    return f"%llguidance {{}}\nstart: {'SPACES? ' if leading else ''}{_json(schema, STRICT)}\nSPACES: /\\n{{1,2}}/\n"


def without(marker: str) -> str:
    """Any text that does not hold the marker, as Lark."""
    return f"%llguidance {{}}\nstart: TEXT\nTEXT: {_anything_but(marker)}\n"


def _anything_but(marker: str) -> str:
    return f"/{ANY_TEXT}/ & ~/{ANY_TEXT}{_regex(marker)}{ANY_TEXT}/"


def _properties(schema: dict[str, Any]) -> list[tuple[str, Any, bool]]:
    properties, required = schema.get("properties"), schema.get("required")
    needed = set(required) if isinstance(required, list) else set()
    found = properties if isinstance(properties, dict) else {}
    if missing := needed - set(found):
        raise Unenforceable(str(missing))
    return [(name, value, name in needed) for name, value in found.items()]


def _json(schema: dict[str, Any], options: dict[str, Any]) -> str:
    return "%json " + json.dumps({**schema, "x-guidance": options}, ensure_ascii=False)


def _several(one: str, separator: str, most: int) -> str:
    return f"{one} ({separator} {one}){{0,{most - 1}}}" if most > 1 else one


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _regex(text: str) -> str:
    return "".join(f"\\{char}" if char in r"\/.^$|?*+()[]{}" else char for char in text)
