"""Driving logits processors without an engine: through a model, or with logits that the test writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from assistant_mlx import loading
from assistant_mlx.chat.answer import Answer
from assistant_mlx.chat.prompt import render
from assistant_mlx.chat.toolcalls import Dialect, dialect
from assistant_mlx.grammar.grammars import Grammars
from assistant_mlx.grammar.guide import Guide
from families import random_model

from assistant import ChatRequest, Delta, Message, ToolCall, ToolSchema

TIMER = ToolSchema(
    name="set_timer", description="Set a timer.",
    parameters={
        "type": "object",
        "properties": {
            "minutes": {"type": "integer", "minimum": 1, "maximum": 600},
            "unit": {"type": "string", "enum": ["s", "h"]}, "loud": {"type": "boolean"},
        },
        "required": ["minutes"],
    },
)
CLOCK = ToolSchema(
    name="get_time", description="Tell the time.",
    parameters={
        "type": "object", "properties": {"zone": {"type": "string", "enum": ["UTC", "CET"]}}, "required": ["zone"],
        "additionalProperties": False,
    },
)
TOOLS = (TIMER, CLOCK)


class Minutes(msgspec.Struct, forbid_unknown_fields=True):
    """What ``TIMER`` takes."""

    minutes: int
    unit: str = "s"
    loud: bool = False


class Zone(msgspec.Struct, forbid_unknown_fields=True):
    """What ``CLOCK`` takes."""

    zone: str


def check(call: ToolCall) -> None:
    """That a call of ``TOOLS`` is one, with arguments that its schema admits."""
    assert not call.error, call
    if call.name == "set_timer":
        timer = msgspec.convert(call.arguments, Minutes, strict=True)
        assert 1 <= timer.minutes <= 600
        assert timer.unit in ("s", "h")
    else:
        assert call.name == "get_time"
        assert msgspec.convert(call.arguments, Zone, strict=True).zone in ("UTC", "CET")


class Small(NamedTuple):
    """A small model of random weights and what is made of it."""

    model: Any
    tokenizer: Any
    grammars: Grammars
    width: int


def small(folder: Path, family: str) -> Small:
    """A model in the manner of ``family``."""
    loaded = loading.load(random_model(folder, family), "never")
    return Small(loaded.model, loaded.tokenizer, Grammars(loaded.tokenizer, loaded.vocabulary), loaded.vocabulary)


def ask(text: str = "hi", **options: Any) -> ChatRequest:
    """One question."""
    return ChatRequest(messages=(Message(role="user", content=text),), **options)


class Told(NamedTuple):
    """An answer."""

    text: str
    reasoning: str
    calls: list[ToolCall]
    finish: str
    tokens: list[int]
    processors: Sequence[Any]


def told(mind: Small, request: ChatRequest, way: Dialect, prompt: list[int], tokens: Iterable[int],
         processors: Sequence[Any] = ()) -> Told:
    """What an answer of these tokens tells."""
    answer = Answer(mind.tokenizer, request, prompt, way)
    deltas: list[Delta] = []
    read: list[int] = []
    end = ""
    for token in tokens:
        read.append(token)
        ended = token in mind.tokenizer.eos_token_ids
        end = "stop" if ended else "length" if len(read) == request.max_tokens else ""
        deltas += answer.feed(token, end)
        if end:
            break
    finish = answer.last(end).finish_reason
    return Told(
        "".join(delta.text for delta in deltas), "".join(delta.reasoning for delta in deltas),
        [delta.tool_call for delta in deltas if delta.tool_call], finish, read, processors,
    )


def sampler(temperature: float, seed: int) -> Callable[[Any], Any] | None:
    """Draws with random numbers of its own."""
    import mlx.core as mx

    keys = [mx.random.key(seed)]

    def draw(logprobs: Any) -> Any:
        keys[0], now = mx.random.split(keys[0])
        return mx.random.categorical(logprobs / temperature, key=now)

    return draw if temperature else None


def generated(mind: Small, request: ChatRequest, *, setting: str = "auto", seed: int = 0,
              before: Sequence[Any] = ()) -> Told:
    """The answer of the model itself, by mlx-lm's ``generate_step``."""
    import mlx.core as mx
    from mlx_lm.generate import generate_step

    way = dialect(mind.tokenizer, setting, request)
    prompt = render(mind.tokenizer, request, way).tokens
    processors = [*before, *mind.grammars.processors(request, way, prompt)]
    steps = generate_step(
        mx.array(prompt), mind.model, max_tokens=request.max_tokens, sampler=sampler(request.temperature, seed),
        logits_processors=processors,
    )
    return told(mind, request, way, prompt, (token for token, _ in steps), processors)


def puppet(mind: Small, request: ChatRequest, wish: Callable[[list[int]], Sequence[int]], *,
           setting: str = "auto") -> Told:
    """The answer of a model that always wants the first of ``wish(tokens so far)`` that is allowed."""
    import mlx.core as mx

    way = dialect(mind.tokenizer, setting, request)
    prompt = render(mind.tokenizer, request, way).tokens
    processors = mind.grammars.processors(request, way, prompt)
    written: list[int] = []

    def tokens() -> Iterable[int]:
        while True:
            wishes = [*wish(written)]
            scores = mx.zeros((1, mind.width))
            scores[0, mx.array(wishes)] = mx.arange(len(wishes), 0, -1).astype(mx.float32)
            for processor in processors:
                scores = processor(mx.array([*prompt, *written]), scores)
            written.append(best(scores))
            yield written[-1]

    return told(mind, request, way, prompt, tokens(), processors)


def best(scores: Any) -> int:
    """The token of the highest of scores [1, V]."""
    import mlx.core as mx

    chosen: Any = mx.argmax(scores[0]).item()
    return int(chosen)


def script(mind: Small, text: str) -> Callable[[list[int]], Sequence[int]]:
    """The wish to write ``text`` and end."""
    tokens = mind.tokenizer.encode(text, add_special_tokens=False)
    return lambda written: [*tokens[len(written) : len(written) + 1], mind.tokenizer.eos_token_id]


def accepts(mind: Small, request: ChatRequest, text: str, *, setting: str = "auto") -> bool:
    """Whether a grammar that rules the whole answer admits ``text`` as it is."""
    way = dialect(mind.tokenizer, setting, request)
    (guide,) = mind.grammars.processors(request, way, render(mind.tokenizer, request, way).tokens)
    assert isinstance(guide, Guide)
    matcher = guide._answer
    tokens = mind.tokenizer.encode(text, add_special_tokens=False)
    return matcher.try_consume_tokens(tokens) == len(tokens) and bool(matcher.is_accepting())
