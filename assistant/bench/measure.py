"""The run: every length, every number of streams and every state of the prompt cache, round after round."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import anyio

from assistant.errors import ContextOverflow

from . import bandwidth, cost
from .local import LocalTarget, local
from .prompts import Filler, Prompts, calibrate, following
from .streams import BenchError, Messages, Stream, Target, overall, steady
from .tally import Plan, Tally

if TYPE_CHECKING:
    from assistant.events import Event
    from assistant.paths import Paths

T = TypeVar("T")

ATTEMPTS = 3
"""How often streams that ended early are tried with other prompts; the longest counts."""
SHORT_ANSWER = 24
"""Tokens of the answers of the conversation by which the prompt cache is measured."""
FOLLOW_UPS = ("And which of them is the largest?", "And which one is the smallest?")


class Bench:
    """One run over all targets; the first is the engine.

    Args:
        say: is told what is being measured.
    """

    def __init__(self, tally: Tally, say: Callable[[str], None]) -> None:
        self._tally = tally
        self._say = say
        self._plan: Plan = tally.plan
        self._prompts = Prompts()
        self._filler = Filler(0, 1)
        self._too_long: set[int] = set()

    async def run(self) -> None:
        """Measure everything; what is known is in the tally at any time.

        Raises:
            AssistantError: the engine failed. What a server refuses is noted instead.
        """
        await self.warm_up()
        for number in range(self._plan.rounds):
            # Whoever goes second finds the machine warmer: take turns.
            targets = self._tally.targets if number % 2 == 0 else self._tally.targets[::-1]
            head = f"round {number + 1} of {self._plan.rounds}"
            for length in self._plan.prompts:
                await self.prompt(targets, length, head)
            for count in self._plan.batches:
                await self.batch(targets, count, head)
            await self.first_token(targets, head)
            await self._remember()

    async def warm_up(self) -> None:
        """Learn how many words make a prompt of so many tokens; the engine is warm afterwards."""
        self._say("warming up")
        self._filler = await calibrate(self._tally.targets[0], self._prompts)

    async def prompt(self, targets: Sequence[Target], length: int, head: str) -> None:
        """One prompt that nobody has seen, for each target in turn."""
        if length in self._too_long:
            return
        messages = self._prompts.of(self._filler.words(length))
        for target in targets:
            self._say(f"{head}: a prompt of {length} tokens, {target.title}")
            try:
                stream = await self._tried(target, partial(target.ask, messages, self._plan.tokens))
            except ContextOverflow as error:
                self._too_long.add(length)
                self._tally.note(f"prompts of {length} tokens: {error.message}")
                return
            if stream is not None:
                self._tally.prompt(target, length, stream)

    async def batch(self, targets: Sequence[Target], count: int, head: str) -> None:
        """So many streams at the same time, for each target in turn."""
        words = self._filler.words(min(self._plan.prompts))
        for target in targets:
            self._say(f"{head}: {count} at a time, {target.title}")
            best: list[Stream] = []
            for _ in range(ATTEMPTS):
                streams = await self._tried(target, partial(self._together, target, count, words))
                if streams is None:
                    break
                best = max(best, streams, key=_shortest)
                if _shortest(best) * 2 >= self._plan.tokens:
                    break
            if not best:
                continue
            if speed := steady(best):
                self._tally.batch(target, count, speed, overall(best))
            else:
                self._tally.note(f"{count} at a time, {target.title}: the answers were too short to time")

    async def _together(self, target: Target, count: int, words: int) -> list[Stream]:
        streams: list[Stream] = []
        failures: list[BenchError] = []

        async def one(messages: Messages) -> None:
            try:
                streams.append(await target.ask(messages, self._plan.tokens))
            except BenchError as error:
                failures.append(error)

        async with anyio.create_task_group() as tasks:
            for _ in range(count):
                tasks.start_soon(one, self._prompts.of(words))
        if failures:
            raise BenchError(f"{len(failures)} of {count} at a time: {failures[0].message}", hint=failures[0].hint)
        return streams

    async def first_token(self, targets: Sequence[Target], head: str) -> None:
        """A conversation that begins, goes on, and goes on after the model was loaded anew, for each target in turn."""
        lengths = [length for length in self._plan.prompts if length not in self._too_long]
        if not lengths:
            return
        opening = self._prompts.of(self._filler.words(max(lengths)))
        for target in targets:
            self._say(f"{head}: time to first token, {target.title}")
            try:
                await self._tried(target, partial(self._states, target, opening))
            except ContextOverflow as error:
                self._tally.note(f"time to first token: {error.message}")

    async def _states(self, target: Target, opening: Messages) -> None:
        messages = opening
        for state, question in zip(("cold", "warm", "restored"), (*FOLLOW_UPS, ""), strict=True):
            if state == "restored" and not await target.restart():
                return
            stream = await target.ask(messages, SHORT_ANSWER)
            self._tally.first_token(target, state, stream)
            messages = following(messages, stream.text, question)

    async def _tried(self, target: Target, work: Callable[[], Awaitable[T]]) -> T | None:
        try:
            return await work()
        except BenchError as error:
            self._tally.failed(target, error.message)
            return None

    async def _remember(self) -> None:
        engine = self._tally.targets[0]
        if isinstance(engine, LocalTarget):
            self._tally.loads = list(engine.loads)
            self._tally.memory = await engine.memory()


def _shortest(streams: Sequence[Stream]) -> int:
    return min((stream.produced for stream in streams), default=0)


@asynccontextmanager
async def engine_of(
    paths: Paths, tally: Tally, model: str, given_bandwidth: float | None, hear: Callable[[Event], None],
    say: Callable[[str], None],
) -> AsyncIterator[LocalTarget]:  # fmt: skip
    """The configured engine, loaded, as the first target of the tally, with the bound that the machine sets it.

    Args:
        model: empty for the configured one.
        given_bandwidth: GB/s; None to look it up or measure it.
        hear: takes the events of lanes and downloads.

    Raises:
        AssistantError: the engine or its model cannot be had.
    """
    async with local(paths, model, hear) as target:
        tally.engine, tally.model = target.engine, target.model
        folder = await target.folder()
        say("the memory's bandwidth")
        tally.bandwidth = bandwidth.find(given_bandwidth)
        say(f"loading {target.model or target.engine}")
        await target.load()
        tally.targets.insert(0, target)
        tally.loads = list(target.loads)
        tally.memory = await target.memory()
        if folder is not None:
            tally.cost = cost.of_model(folder, tally.memory.loaded)
        yield target
