"""How a model writes its tool calls: the markers, the parser, and what becomes of a call that cannot be read."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from assistant import ChatRequest, ModelError, ToolCall, ToolSchema

from .jsontypes import UNREADABLE, of_their_types

GUIDED = frozenset({
    "own", "json_tools", "llama3", "mistral", "mistral_header", "qwen3_coder", "glm47", "minimax_m2", "function_gemma",
    "gemma4", "pythonic",
})
"""The styles that a grammar can enforce (``grammar.calls``)."""

JSON_STYLES = frozenset({"own", "json_tools", "llama3", "mistral", "mistral_header", "pythonic"})
"""Those whose arguments are JSON."""

OWN_MARKERS = ("<tool_call>", "</tool_call>")
"""Of the form that is used where the chat template has none: the one that most open models were trained with."""

SHOWN = 200
"""Characters of a call that cannot be read which the model gets to see again."""

_NAMES = (
    r'"name"\s*:\s*"([^"]+)"', r"<function=([^\s<>{]+)", r'<invoke name="?([^\s">]+)', r"call:([\w.-]+)",
    r"^\s*\[?([\w.-]+)\s*(?:\[ARGS\]|<arg_key>|\(|$)",
)


@dataclass(frozen=True)
class Dialect:
    """How one model writes tool calls, and which it may write for one request."""

    style: str = ""
    """``own``, ``llama3``, ``mistral_header`` or the name of mlx-lm's parser; empty: no calls."""
    native: bool = False
    """Whether the chat template itself shows tools, calls and results."""
    start: str = ""
    end: str = ""
    others: tuple[tuple[str, str], ...] = ()
    bare: str = ""
    """As in ``reader.Markers``."""
    parser: Callable[[str, list[dict[str, Any]]], Any] | None = None
    tools: tuple[ToolSchema, ...] = ()
    """What the prompt shows, sorted by name."""
    choice: str = "none"
    """As in ``ChatRequest.tool_choice``; ``none`` if there are no tools."""
    specs: list[dict[str, Any]] = field(default_factory=list)
    """The tools as chat templates and parsers take them."""

    @property
    def calls(self) -> bool:
        """Whether calls are looked for in the answer."""
        return self.choice != "none"

    @property
    def forced(self) -> bool:
        """Whether the answer must be a call."""
        return self.choice not in ("auto", "none")

    @property
    def callable(self) -> tuple[ToolSchema, ...]:
        """The tools that may be called."""
        if self.choice in ("auto", "required"):
            return self.tools
        return tuple(tool for tool in self.tools if tool.name == self.choice)

    def read(self, body: str, *, cut: bool = False, whole: bool = True) -> list[ToolCall]:
        """The calls in ``body``; what cannot be read becomes a call with its ``error`` set.

        Args:
            cut: the answer ended there because there were no more tokens.
            whole: the call's end marker was written; without it some parsers would take a part for the whole.
        """
        try:
            if cut and not whole:
                raise ValueError("it was cut off")
            return [self._checked(*call, body) for call in self._found(body)]
        except UNREADABLE as error:
            why = "it was cut off" if cut else " ".join(str(error).split())[:SHOWN] or type(error).__name__
        before, rest = self._whole_ones(body)
        broken = _broken(_name(rest), f"The tool call cannot be read ({why}): {_short(rest)}")
        return [*(self.read(before) if before else []), *([broken] if rest.strip() or not before else [])]

    def _found(self, body: str) -> list[tuple[str, str, object]]:
        assert self.parser is not None
        parsed = self.parser(body, self.specs)
        found = [_plain(call) for call in (parsed if isinstance(parsed, list) else [parsed])]
        if not found:
            raise ValueError("it is empty")
        return found

    def _whole_ones(self, body: str) -> tuple[str, str]:
        """Where several calls come as one piece, those before the first that cannot be read, and what follows them."""
        at, separator, after = {
            "llama3": (body.rfind("}; {"), "; ", ""), "mistral": (body.rfind("},"), ",", "]"),
            "mistral_header": (body.rfind("}" + self.start), self.start, ""),
        }.get(self.style, (-1, "", ""))
        while at >= 0:
            whole = body[: at + 1] + after
            try:
                self._found(whole)
            except UNREADABLE:
                at = body.rfind("}" + separator, 0, at)
                continue
            return whole, body[at + 1 + len(separator) :]
        return "", body

    def _checked(self, identity: str, name: str, arguments: object, body: str) -> ToolCall:
        tool = next((tool for tool in self.tools if tool.name == name), None)
        if tool is None:
            known = ", ".join(tool.name for tool in self.tools)
            return _broken(name, f"There is no tool named {name!r}; the tools are: {known}.")
        if not isinstance(arguments, dict):
            return _broken(name, f"The arguments of {name!r} must be an object: {_short(body)}")
        try:
            json.dumps(arguments, ensure_ascii=False).encode()
        except UNREADABLE:
            return _broken(name, f"The arguments of {name!r} are not text that can be stored: {_short(body)}")
        return ToolCall(id=identity, name=name, arguments=of_their_types(arguments, tool.parameters))


def dialect(tokenizer: Any, setting: str, request: ChatRequest) -> Dialect:
    """How this model writes the calls of this request.

    Args:
        setting: ``[plugins.mlx] tools``.

    Raises:
        ModelError: a call is demanded that cannot be.
    """
    tools = tuple(sorted(request.tools, key=lambda tool: tool.name))
    choice = request.tool_choice if tools else _none(request)
    if choice not in ("auto", "none", "required", *(tool.name for tool in tools)):
        raise ModelError(
            f"there is no tool named {choice!r}",
            hint="tool_choice is auto, none, required or one of: " + ", ".join(tool.name for tool in tools),
        )
    forced = choice not in ("auto", "none")
    if setting == "off":
        if forced:
            raise ModelError("a tool call is demanded, but tools are switched off",
                             hint='set `[plugins.mlx] tools = "auto"`')
        return Dialect(native=bool(_native(tokenizer)))
    style = _native(tokenizer)
    native = bool(style)
    if (not style and (setting == "on" or forced)) or (forced and style not in GUIDED):
        style = "own"
    if not style:
        return Dialect()
    return _made(tokenizer, style, native, tools, choice)


def _none(request: ChatRequest) -> str:
    if request.tool_choice not in ("auto", "none"):
        raise ModelError(f"tool_choice is {request.tool_choice!r}, but there are no tools", hint="send the tools too")
    return "none"


def _made(tokenizer: Any, style: str, native: bool, tools: tuple[ToolSchema, ...], choice: str) -> Dialect:
    specs = tool_specs(tools)
    if style == "own":
        start, end = OWN_MARKERS
        return Dialect("own", native, start, end, (), "", _json_calls, tools, choice, specs)
    if style == "llama3":
        others = (("<function=", "</function>"),)
        return Dialect("llama3", native, "<|python_tag|>", "", others, "{", _llama3_calls, tools, choice, specs)
    start, end = tokenizer.tool_call_start, tokenizer.tool_call_end or ""
    return Dialect(style, native, start, end, (), "", tokenizer.tool_parser, tools, choice, specs)


def _native(tokenizer: Any) -> str:
    template = tokenizer.chat_template
    template = template if isinstance(template, str) else ""
    if tokenizer.has_tool_calling:
        style = str(tokenizer.tool_parser.__module__).rsplit(".", 1)[-1]
        return "mistral_header" if style == "mistral" and "[ARGS]" in template else style
    # mlx-lm 0.32 has no parser for Llama 3's templates, which are known by these two words.
    return "llama3" if "ipython" in template and '"parameters": ' in template else ""


def tool_specs(tools: Iterable[ToolSchema]) -> list[dict[str, Any]]:
    """The tools in the shape that chat templates and mlx-lm's parsers expect, which is OpenAI's; always in the same
    order, so that prompts begin alike."""
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name, "description": tool.description, "parameters": _in_order(tool.parameters),
            },
        }
        for tool in sorted(tools, key=lambda tool: tool.name)
    ]


def _in_order(value: Any, *, names: bool = False) -> Any:
    """With sorted keys, but properties as they were: they are written in that order."""
    if isinstance(value, dict):
        keys = value if names else sorted(value)
        return {key: _in_order(value[key], names=key == "properties" and not names) for key in keys}
    return [_in_order(item) for item in value] if isinstance(value, list) else value


def short_id(identity: str) -> str:
    """The id in nine letters and digits, which is the only form that Mistral's templates take."""
    return hashlib.sha256(identity.encode("utf-8", "replace")).hexdigest()[:9]


def _plain(call: Any) -> tuple[str, str, object]:
    name = call["name"]
    if not isinstance(name, str):
        raise ValueError("its name is not a string")
    arguments = call.get("arguments", call.get("parameters")) or {}
    if isinstance(arguments, str):
        arguments = json.loads(arguments)
    return str(call.get("id") or uuid.uuid4().hex), name, arguments


def _broken(name: str, error: str) -> ToolCall:
    return ToolCall(id=uuid.uuid4().hex, name=_storable(name), arguments={}, error=_storable(error))


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _short(body: str) -> str:
    body = body.strip()
    return body if len(body) <= SHOWN else f"{body[:SHOWN]}…"


def _name(body: str) -> str:
    found = (match for pattern in _NAMES if (match := re.search(pattern, body)))
    return next((match[1][:64] for match in found), "")


def _json_calls(body: str, specs: list[dict[str, Any]]) -> Any:
    del specs
    return list(_values(body))


def _llama3_calls(body: str, specs: list[dict[str, Any]]) -> Any:
    del specs
    written = body.replace("<|python_tag|>", ";")
    if match := re.match(r"\s*<function=([^>{]+)>?\s*(.*?)\s*(?:</function>\s*)?$", written, re.DOTALL):
        return {"name": match[1].strip(), "arguments": json.loads(match[2] or "{}")}
    calls: list[Any] = []
    for value in _values(written):
        calls += value if isinstance(value, list) else [value]
    return [call["function"] if isinstance(call.get("function"), dict) else call for call in calls]


def _values(text: str) -> Iterator[Any]:
    """The JSON values in ``text``, which semicolons, commas and white space may separate."""
    decoder, at = json.JSONDecoder(), 0
    while at < len(text):
        if text[at] in "; ,\n\r\t":
            at += 1
            continue
        value, at = decoder.raw_decode(text, at)
        yield value
