"""Time to first token of the sixth turn of a chat, against the same prompt when nothing is known of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from assistant.bench.local import LocalTarget
from assistant.bench.prompts import Filler, Prompts, calibrate, following
from assistant.bench.streams import Messages, Target
from assistant.engines import Message

from .world import Row, at_most, mlx_server, our_lane, say, told

HISTORY = 1000
"""Tokens of the chat before the turn that is timed."""
TURNS = 5
ANSWER = 16
"""Tokens of each answer."""


@dataclass
class _Times:
    warm: list[float] = field(default_factory=list)
    cold: list[float] = field(default_factory=list)
    restored: list[float] = field(default_factory=list)
    cached: list[str] = field(default_factory=list)


async def first_token(model: Path, rounds: int) -> list[Row]:
    """The sixth turn ÷ cold, and the seventh after the lane was restarted ÷ cold; mlx_lm.server's beside them."""
    async with our_lane(model) as ours, mlx_server(model) as theirs:
        filler = await calibrate(ours, Prompts())
        mine, its = _Times(), _Times()
        for number in range(rounds):
            for target, times in ((ours, mine), (theirs, its)) if number % 2 == 0 else ((theirs, its), (ours, mine)):
                say(f"round {number + 1}: a chat with {target.title}")
                await _chat(target, filler, times)
    return [
        at_most("6th turn, 1,000 tokens of history ÷ cold", _each(mine.warm, mine.cold), 0.15, mine.cached[-1]),
        at_most("7th turn after a restart ÷ cold", _each(mine.restored, mine.cold), 0.3),
        told("6th turn ÷ cold, mlx_lm.server", _each(its.warm, its.cold), "", its.cached[-1]),
        told("cold, ours", mine.cold, "s"),
        told("cold, mlx_lm.server", its.cold, "s"),
    ]


async def _chat(target: Target, filler: Filler, times: _Times) -> None:
    """Five turns, the sixth timed, the same prompt but for its first word timed, and one turn after a restart."""
    # Each turn has a share of the words, the template's tokens (about 10 a turn) and the answer.
    words = max(1, round((HISTORY / TURNS - ANSWER - 10) / filler.each))
    prompts = Prompts()
    messages: Messages = (Message(role="system", content=prompts.of(8)[0].content),)
    for turn in range(TURNS):
        text = f"{prompts.of(words)[0].content} What did I say in turn {turn + 1}?"
        messages = (*messages, Message(role="user", content=text))
        stream = await target.ask(messages, ANSWER)
        messages = (*messages, Message(role="assistant", content=stream.text))
    sixth = (*messages, Message(role="user", content="And what was the first word of all?"))
    stream = await target.ask(sixth, ANSWER)
    times.warm.append(stream.first)
    times.cached.append(f"{stream.cached_tokens} of {stream.prompt_tokens} tokens known")
    other = (Message(role="system", content=prompts.of(8)[0].content), *sixth[1:])
    times.cold.append((await target.ask(other, ANSWER)).first)
    if isinstance(target, LocalTarget) and await target.restart():
        again = following(sixth, stream.text, "And the second one?")
        times.restored.append((await target.ask(again, ANSWER)).first)


def _each(above: list[float], below: list[float]) -> list[float]:
    return [one / other for one, other in zip(above, below, strict=True)]
