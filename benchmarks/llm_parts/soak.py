"""Thousands of requests, eight at a time, many of them cancelled: no error, no other text, no growing memory."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from assistant import ChatRequest
from assistant.bench.local import LocalTarget
from assistant.bench.prompts import Prompts
from assistant.bench.streams import Messages
from assistant.engines import LanguageModel
from assistant.errors import AssistantError

from .world import Row, our_lane, say

AT_ONCE = 8
POOL = 40
"""Different requests whose text is known."""
CANCELLED = 0.25
"""Share of the requests that are cancelled; half of these while their prompt is being read."""
SAMPLE_SECONDS = 1.0
SHOWN = 3
GROWTH = 1.1
"""Memory of the last quarter ÷ the first that still counts as flat."""


@dataclass(frozen=True)
class _Known:
    """A request and its text when it is asked alone."""

    request: ChatRequest
    text: str


@dataclass
class _Log:
    done: int = 0
    cancelled: int = 0
    in_prefill: int = 0
    other: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    rss: list[int] = field(default_factory=list)
    active: list[int] = field(default_factory=list)
    over: bool = False


async def soak(model: Path, count: int, seed: int) -> list[Row]:
    """Run it, and say what went wrong."""
    chance = random.Random(seed)
    log = _Log()
    async with our_lane(model, "prompt_cache_mb = 256") as lane:
        known = await _pool(lane, chance)
        began = time.monotonic()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_sample, lane, log)
            await _all(lane, known, chance, count, log)
            log.over = True
        seconds = time.monotonic() - began
    note = f"{log.done} finished, {log.cancelled} cancelled ({log.in_prefill} before a token), {seconds:.0f} s"
    return [
        Row(f"soak of {count}: errors", len(log.errors), "", "0", not log.errors, _some(note, log.errors)),
        Row(f"soak of {count}: texts unlike the text alone", len(log.other), "", "0", not log.other,
            _some(f"of {log.done}", log.other)),
        _growth("soak: resident memory, last quarter ÷ first", log.rss),
        _growth("soak: Engine.memory active, last quarter ÷ first", log.active),
    ]  # fmt: skip


def _some(note: str, problems: Sequence[str]) -> str:
    return "; ".join([note, *problems[:SHOWN]])


def _growth(what: str, samples: Sequence[int]) -> Row:
    quarter = max(1, len(samples) // 4)
    first, last = statistics.median(samples[:quarter]), statistics.median(samples[-quarter:])
    value = last / first if first else 0.0
    note = f"{first / 1e6:.0f} to {last / 1e6:.0f} MB, most {max(samples) / 1e6:.0f} MB, {len(samples)} samples"
    return Row(what, value, "", f"<= {GROWTH}", 0 < value <= GROWTH, note)


async def _pool(lane: LocalTarget, chance: random.Random) -> list[_Known]:
    """Requests of all lengths, each asked alone."""
    prompts = Prompts(chance.randrange(1 << 30))
    known = []
    for number in range(POOL):
        if number % 10 == 0:
            say(f"alone: {number} of {POOL}")
        words = chance.choice((4, 12, 30, 60, 120, 200))
        request = ChatRequest(messages=prompts.of(words), max_tokens=chance.choice((4, 8, 16, 24, 40)))
        known.append(_Known(request, await _text(lane, request)))
    return known


async def _text(lane: LocalTarget, request: ChatRequest) -> str:
    async with lane.ready.lane.stream(lane.ready.key, LanguageModel.generate, request) as deltas:
        return "".join([delta.text async for delta in deltas])


async def _all(lane: LocalTarget, known: Sequence[_Known], chance: random.Random, count: int, log: _Log) -> None:
    fresh = Prompts(chance.randrange(1 << 30))
    turn = anyio.Semaphore(AT_ONCE)
    async with anyio.create_task_group() as tasks:
        for number in range(count):
            await turn.acquire()
            if chance.random() < CANCELLED:
                in_prefill = chance.random() < 0.5
                messages = fresh.of(chance.randrange(150, 400)) if in_prefill else chance.choice(known).request.messages
                steps = chance.randrange(3) if in_prefill else chance.randrange(2, 20)
                tasks.start_soon(_cancelled, lane, messages, steps, log, turn)
            else:
                tasks.start_soon(_finished, lane, chance.choice(known), log, turn)
            if number and number % 50 == 0:
                say(f"{number} of {count}: {log.done} finished, {log.cancelled} cancelled, {len(log.other)} unlike, "
                    f"{len(log.errors)} errors, {lane.ready.lane.info.rss / 1e6:.0f} MB")  # fmt: skip


async def _finished(lane: LocalTarget, known: _Known, log: _Log, turn: anyio.Semaphore) -> None:
    try:
        text = await _text(lane, known.request)
        log.done += 1
        if text != known.text:
            log.other.append(f"{text[-80:]!r} instead of {known.text[-80:]!r}")
    except AssistantError as error:
        log.errors.append(error.message)
    finally:
        turn.release()


async def _cancelled(
    lane: LocalTarget, messages: Messages, steps: int, log: _Log, turn: anyio.Semaphore
) -> None:
    """Leave after so many steps; with 0, while the request is still on its way."""
    request = ChatRequest(messages=messages, max_tokens=40)
    wrote = False
    try:
        async with lane.ready.lane.stream(lane.ready.key, LanguageModel.generate, request) as deltas:
            taken = 0
            while taken < steps:
                delta = await anext(deltas, None)
                if delta is None:
                    break
                wrote = wrote or not delta.prompt_tokens
                taken += 1
        log.cancelled += 1
        log.in_prefill += not wrote
    except AssistantError as error:
        log.errors.append(error.message)
    finally:
        turn.release()


async def _sample(lane: LocalTarget, log: _Log) -> None:
    while not log.over:
        memory = await lane.memory()
        log.rss.append(lane.ready.lane.info.rss)
        log.active.append(memory.active)
        await anyio.sleep(SAMPLE_SECONDS)
