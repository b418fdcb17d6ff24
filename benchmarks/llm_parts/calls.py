"""Tool calls that parse and validate, and what the grammar costs."""

from __future__ import annotations

import itertools
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

from assistant import ChatRequest, Message, ToolCall, ToolSchema
from assistant.bench.local import LocalTarget
from assistant.engines import LanguageModel
from assistant.errors import AssistantError

from .world import Row, at_most, our_lane, say, told

AT_ONCE = 8
CALL_TOKENS = 160
"""Of an answer, at most."""
MASK_TOKENS = 192
"""Tokens over which the mask is timed."""


def _tool(name: str, description: str, required: Sequence[str], **properties: dict[str, Any]) -> ToolSchema:
    parameters = {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}
    return ToolSchema(name=name, description=description, parameters=parameters)


TOOLS = (
    _tool("get_weather", "The weather of a place.", ["place"], place={"type": "string"},
          unit={"type": "string", "enum": ["celsius", "fahrenheit"]}),
    _tool("set_timer", "Ring after some minutes.", ["minutes"], minutes={"type": "integer"}, label={"type": "string"}),
    _tool("add_numbers", "The sum of numbers.", ["numbers"], numbers={"type": "array", "items": {"type": "number"}}),
    _tool("send_message", "Send a text to a person.", ["to", "text"], to={"type": "string"}, text={"type": "string"},
          urgent={"type": "boolean"}),
    _tool("find_files", "Look for files.", ["query"], query={"type": "string"}, limit={"type": "integer"},
          filter={"type": "object", "properties": {"kind": {"type": "string", "enum": ["text", "image", "audio"]}},
                  "required": ["kind"], "additionalProperties": False}),
)  # fmt: skip

PLACES = ("Paris", "Tokyo", "Lima", "Oslo", "Cairo", "Quito", "Delhi", "Rome", "Accra", "Hanoi")
ASKS = (
    "What is the weather in {place}?", "Is it warm in {place} now, in {unit}?", "Wake me in {number} minutes.",
    "Set a timer of {number} minutes for the tea.", "Add {number}, {other} and {place} times two.",
    "What is {number} plus {other}?", "Tell {name} that I am late by {number} minutes.",
    "Write to {name}: \"we meet in {place}\", it is urgent.", "Find my pictures of {place}.",
    "Look for at most {number} notes about {name}.", "How do I get to {place}?", "Who is {name}?",
    "Say hello.", "Compare {place} with {name}'s home town.", "Remind {name} and me in {number} minutes.",
    "Which files mention \"{place} {{{number}}}\"?", "Sum up {number} {other} {number}.",
    "Is it raining in {place} or in Bern?", "Text {name} the sum of {number} and {other}.", "What can you do?",
)  # fmt: skip
NAMES = ("Ann", "Bo", "Chloé", "Dmitri", "José", "Mei", "O'Neil", "Zoë", "Li Wei", "Ada")


def asks(count: int) -> list[str]:
    """So many different questions."""
    return [
        ASKS[n % len(ASKS)].format(
            place=PLACES[n // len(ASKS) % len(PLACES)], name=NAMES[(n // len(ASKS) + n) % len(NAMES)],
            number=3 + n, other=17 * n % 101, unit=("celsius", "fahrenheit")[n % 2],
        )
        for n in range(count)
    ]  # fmt: skip


def wrong(value: object, schema: dict[str, Any], place: str = "arguments") -> str:
    """Why a value does not satisfy a schema made of the words that ``TOOLS`` uses; empty if it does."""
    kinds: dict[str, tuple[type, ...]] = {
        "object": (dict,), "array": (list,), "string": (str,), "integer": (int,), "number": (int, float),
        "boolean": (bool,),
    }  # fmt: skip
    kind = schema["type"]
    if not isinstance(value, kinds[kind]) or (isinstance(value, bool) and kind != "boolean"):
        return f"{place} is no {kind}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{place} is none of {schema['enum']}"
    if isinstance(value, list):
        return next((why for each in value if (why := wrong(each, schema["items"], f"{place}[]"))), "")
    if not isinstance(value, dict):
        return ""
    known = schema.get("properties", {})
    if missing := [name for name in schema.get("required", ()) if name not in value]:
        return f"{place} lacks {missing[0]}"
    if more := [name for name in value if name not in known]:
        return f"{place} has {more[0]}"
    return next((why for name, each in value.items() if (why := wrong(each, known[name], f"{place}.{name}"))), "")


@dataclass
class _Outcome:
    """What came of all prompts with one tool_choice."""

    prompts: int = 0
    with_calls: int = 0
    calls: list[ToolCall] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    cut: int = 0

    def note(self) -> str:
        """Everything in one line."""
        bad = f"; e.g. {self.bad[0]}" if self.bad else ""
        return f"{len(self.calls)} calls by {self.with_calls} of {self.prompts} prompts, {self.cut} at the limit{bad}"


async def tools(model: Path, count: int) -> list[Row]:
    """The share of calls that parse and validate, with tools on, freely and when a call is demanded."""
    rows = []
    async with our_lane(model, 'tools = "on"') as lane:
        for choice in ("required", "auto"):
            outcome = await _ask_all(lane, choice, count)
            share = 1 - len(outcome.bad) / max(1, len(outcome.calls) + len(outcome.bad))
            enough = outcome.with_calls == outcome.prompts if choice == "required" else bool(outcome.calls)
            rows.append(Row(f"tool calls that parse and validate, tool_choice {choice}", share * 100, "%", "100",
                            share == 1 and enough, outcome.note()))  # fmt: skip
    return rows


async def _ask_all(lane: LocalTarget, choice: str, count: int) -> _Outcome:
    outcome = _Outcome()
    turn = anyio.Semaphore(AT_ONCE)

    async def one(text: str) -> None:
        async with turn:
            await _ask(lane, text, choice, outcome)
            if outcome.prompts % 20 == 0:
                say(f"tool_choice {choice}: {outcome.note()}")

    async with anyio.create_task_group() as tasks:
        for text in asks(count):
            tasks.start_soon(one, text)
    return outcome


async def _ask(lane: LocalTarget, text: str, choice: str, outcome: _Outcome) -> None:
    request = ChatRequest(
        messages=(Message(role="system", content="You use tools."), Message(role="user", content=text)), tools=TOOLS,
        tool_choice=choice, max_tokens=CALL_TOKENS,
    )  # fmt: skip
    calls: list[ToolCall] = []
    end = ""
    try:
        async with lane.ready.lane.stream(lane.ready.key, LanguageModel.generate, request) as deltas:
            async for delta in deltas:
                calls += [delta.tool_call] if delta.tool_call else []
                end = delta.finish_reason
    except AssistantError as error:
        outcome.bad.append(f"{text!r}: {error.message}")
    schemas = {tool.name: tool.parameters for tool in TOOLS}
    for call in calls:
        why = call.error or ("" if call.name in schemas else f"no tool {call.name!r}")
        why = why or wrong(call.arguments, schemas[call.name])
        if why:
            outcome.bad.append(f"{text!r}: {why}")
        else:
            outcome.calls.append(call)
    outcome.prompts += 1
    outcome.with_calls += bool(calls)
    outcome.cut += end == "length"


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "items": {
            "type": "array", "minItems": 12,
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"}, "legs": {"type": "integer"},
                    "diet": {"type": "string", "enum": ["plants", "meat", "both"]}, "wild": {"type": "boolean"},
                },
                "required": ["name", "legs", "diet", "wild"], "additionalProperties": False,
            },
        },
    },
    "required": ["items"], "additionalProperties": False,
}  # fmt: skip
ZOO = (Message(role="system", content="You write JSON."), Message(role="user", content="Twelve animals, described."))


def mask(model: Path, rounds: int) -> list[Row]:
    """The mask alone ÷ a free decode step, and a constrained step ÷ a free one with the same prompt."""
    from assistant_mlx import Settings
    from assistant_mlx.engine import MlxLanguageModel

    engine = MlxLanguageModel(Settings())
    engine.load(model)
    try:
        free_request = ChatRequest(messages=ZOO, max_tokens=MASK_TOKENS)
        ruled_request = ChatRequest(messages=ZOO, max_tokens=MASK_TOKENS, schema=SCHEMA)
        text = "".join(delta.text for delta in engine.generate(ruled_request))
        _steps(engine, free_request)
        alone, shares, steps, ratios = [], [], [], []
        for number in range(rounds):
            free, ruled = _steps(engine, free_request), _steps(engine, ruled_request)
            cost = _alone(model, text)
            say(f"round {number + 1}: free {free * 1e3:.2f} ms, ruled {ruled * 1e3:.2f} ms, mask {cost * 1e3:.3f} ms")
            alone.append(cost * 1e3)
            steps.append(free * 1e3)
            shares.append(cost / free * 100)
            ratios.append((ruled / free - 1) * 100)
    finally:
        engine.close()
    return [
        at_most("the mask alone ÷ a decode step", shares, 5, unit="%"),
        told("a step with a schema - a free one, same prompt", ratios, "%"),
        told("the mask alone", alone, "ms"),
        told("a free decode step", steps, "ms"),
    ]


def _steps(engine: LanguageModel, request: ChatRequest) -> float:
    """Median seconds from one token to the next."""
    ticks = []
    for delta in engine.generate(request):
        if not delta.prompt_tokens:
            ticks.append(time.perf_counter())
    return statistics.median(after - before for before, after in itertools.pairwise(ticks))


def _alone(model: Path, text: str) -> float:
    """Median seconds that the logits processor adds to computed logits, over the tokens of ``text``."""
    import mlx.core as mx
    from assistant_mlx.chat.toolcalls import dialect
    from assistant_mlx.grammar.grammars import Grammars
    from mlx_lm.utils import load_tokenizer

    tokenizer: Any = load_tokenizer(model)
    width = int(json.loads((model / "config.json").read_text(encoding="utf-8"))["vocab_size"])
    request = ChatRequest(messages=ZOO, max_tokens=MASK_TOKENS, schema=SCHEMA)
    (ruled,) = Grammars(tokenizer, width).processors(request, dialect(tokenizer, "auto", request), [1])
    tokens = [1, *tokenizer.encode(text, add_special_tokens=False)]
    logits = mx.zeros((1, width))
    mx.eval(logits)
    taken = []
    for count in range(1, len(tokens)):
        history = mx.array(tokens[:count])
        mx.eval(history)
        began = time.perf_counter()
        mx.eval(ruled(history, logits))
        taken.append(time.perf_counter() - began)
    if ruled.failed:
        raise RuntimeError(f"the text left the grammar: {ruled.failed}")
    return statistics.median(taken)
