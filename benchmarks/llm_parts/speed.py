"""Tokens per second: one stream against raw mlx-lm, several against mlx_lm.server."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

from assistant import ChatRequest, Message
from assistant.bench.measure import Bench
from assistant.bench.streams import Stream, steady
from assistant.bench.tally import Plan, Tally

from .world import Row, at_least, mlx_server, our_lane, say, told

TOKENS = 96
QUESTION = "Tell me a long story about a fox, a river and a mountain, with at least a hundred sentences ({})."
STREAMS = (1, 4, 8)
PROMPT = 64
"""Tokens of each prompt of a batch."""


def question(number: int) -> tuple[Message, ...]:
    """The same for both sides, and new in every round."""
    return (Message(role="system", content=f"Round {number}."), Message(role="user", content=QUESTION.format(number)))


class Here:
    """Raw mlx-lm and our engine side by side in this process, on this thread, the same weights loaded by each."""

    def __init__(self, model: Path) -> None:
        from assistant_mlx import Settings
        from assistant_mlx.engine import MlxLanguageModel

        self._engine = MlxLanguageModel(Settings())
        self._engine.load(model)
        import mlx_lm

        self._raw, self._tokenizer = mlx_lm.load(str(model))[:2]

    def raw(self, number: int) -> float:
        """Tokens per second of ``generate_step`` after the first token."""
        import mlx.core as mx
        from mlx_lm.generate import generate_step

        messages = [{"role": message.role, "content": message.content} for message in question(number)]
        prompt: Any = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True)
        began = time.perf_counter()
        ticks = [time.perf_counter() for _ in generate_step(mx.array(prompt), self._raw, max_tokens=TOKENS)]
        return steady([Stream(began, tuple(ticks), 0, 0, 0, "")]) or 0.0

    def ours(self, number: int) -> float:
        """Tokens per second of ``generate()`` after the first token."""
        began = time.perf_counter()
        ticks, tokens = [], 0
        for delta in self._engine.generate(ChatRequest(messages=question(number), max_tokens=TOKENS)):
            tokens = delta.output_tokens
            if not delta.prompt_tokens:
                ticks.append(time.perf_counter())
        return steady([Stream(began, tuple(ticks), tokens, 0, 0, "")]) or 0.0

    def close(self) -> None:
        """Unload the engine."""
        self._engine.close()


async def single(model: Path, rounds: int) -> list[Row]:
    """One stream: ours in this process and through a lane, each ÷ raw mlx-lm, by turns."""
    here = Here(model)
    inside, through = [], []
    try:
        async with our_lane(model) as lane:
            ask = partial(lane.ask, max_tokens=TOKENS)
            here.raw(0)
            here.ours(0)
            await ask(question(0))
            for number in range(1, rounds + 1):
                if number % 2:
                    raw, ours = here.raw(number), here.ours(number)
                else:
                    ours, raw = here.ours(number), here.raw(number)
                by_lane = steady([await ask(question(number))]) or 0.0
                again = here.raw(1000 + number)
                say(f"round {number}: raw {raw:.1f} and {again:.1f}, ours {ours:.1f}, by a lane {by_lane:.1f} tokens/s")
                inside.append(ours / raw)
                through.append(by_lane / again)
    finally:
        here.close()
    return [
        at_least("one stream: ours in this process ÷ raw mlx-lm", inside, 0.97),
        at_least("one stream: ours through a lane ÷ raw mlx-lm", through, 0.97),
    ]


async def batch(model: Path, rounds: int) -> list[Row]:
    """Several streams: our engine in a lane ÷ mlx_lm.server, and ÷ our own single stream, by turns."""
    tally = Tally(Plan(prompts=(PROMPT,), batches=STREAMS, tokens=TOKENS // 2, rounds=rounds))
    async with our_lane(model) as ours, mlx_server(model) as theirs:
        tally.targets += [ours, theirs]
        bench = Bench(tally, say)
        await bench.warm_up()
        for number in range(rounds):
            targets = tally.targets if number % 2 == 0 else tally.targets[::-1]
            for count in STREAMS:
                await bench.batch(targets, count, f"round {number + 1}")
    found = [{row.streams: row.total.values for row in target.batches if row.total}
             for target in tally.report(complete=True).targets]  # fmt: skip
    mine, its = found
    whole = [{row.streams: row.overall.values for row in target.batches if row.overall}
             for target in tally.report(complete=True).targets]  # fmt: skip
    rows = []
    for count in STREAMS[1:]:
        ratios = [ours / theirs for ours, theirs in zip(mine[count], its[count], strict=True)]
        overall = [ours / theirs for ours, theirs in zip(whole[0][count], whole[1][count], strict=True)]
        own = [many / one for many, one in zip(mine[count], mine[1], strict=True)]
        rows += [
            at_least(f"{count} streams, prompts included: ours (a lane) ÷ mlx_lm.server", overall, 1.0),
            at_least(f"{count} streams, while all write: ours (a lane) ÷ mlx_lm.server", ratios, 1.0),
            at_least(f"{count} streams, all together: ours ÷ our own single stream", own, 1.5),
            told(f"{count} streams: ours", mine[count], "tokens/s"),
            told(f"{count} streams: mlx_lm.server", its[count], "tokens/s"),
        ]
    errors = [error for target in tally.report(complete=True).targets for error in target.errors]
    return [*rows, *(Row(f"failed: {error}", 1, "", "0", False) for error in errors)]
