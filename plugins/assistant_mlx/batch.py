"""One batch that all live answers of a model share: a step reads a piece of one prompt and writes a token of each.

Everything here runs on the one thread that loaded the model: MLX's streams belong to their thread.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from assistant import EngineFailed

MAX_DECODING = 8
"""Answers written at the same time; further ones wait. Eight rows still fit a Mac's memory bandwidth (mlx-engine
decodes 4, oMLX 8)."""

MAX_READING = 4
"""Prompts read at the same time, each by ``prefill_step`` tokens a step, so that a short question need not wait until a
long one has been read."""


class Prefilled(NamedTuple):
    """So much of the prompt has been read."""

    done: int


class Token(NamedTuple):
    """One token of the answer; ``end`` is ``stop`` or ``length`` on the last one."""

    id: int
    end: str


@dataclass(eq=False)
class Sequence:
    """One answer in the batch."""

    uid: int
    steps: deque[Prefilled | Token] = field(default_factory=deque)
    """What steps of the batch have brought and nobody has fetched yet."""
    lost: str = ""
    """Why the batch was thrown away, if it was."""


class SharedBatch:
    """mlx-lm's ``BatchGenerator``, made when the first answer begins and dropped when the last one ends.

    A step is bounded: ``prefill_step`` tokens of each of ``MAX_READING`` prompts and a token of each of
    ``MAX_DECODING`` answers at most.
    """

    def __init__(self, model: Any, end_tokens: frozenset[int], prefill_step: int) -> None:
        self._model = model
        self._end_tokens = [[token] for token in sorted(end_tokens)]
        self._prefill_step = prefill_step
        self._generator: Any = None
        self._live: dict[int, Sequence] = {}

    def insert(self, prompt: list[int], max_tokens: int, sampler: Callable[[Any], Any] | None) -> Sequence:
        """Add an answer; it is computed by the ``step()`` calls that follow."""
        from mlx_lm.generate import BatchGenerator

        if self._generator is None:
            self._generator = BatchGenerator(
                self._model,
                stop_tokens=self._end_tokens,
                prefill_step_size=self._prefill_step,
                prefill_batch_size=MAX_READING,
                completion_batch_size=MAX_DECODING,
            )
        (uid,) = self._generator.insert([prompt], max_tokens=[max_tokens], samplers=[sampler])
        sequence = self._live[uid] = Sequence(uid)
        return sequence

    def take(self, sequence: Sequence) -> Prefilled | Token | None:
        """What the sequence's next step brought, after at most one step of the batch; None: it still waits.

        Raises:
            EngineFailed: a step failed for another answer, and the batch with all that were in it was thrown away.
        """
        if not sequence.steps and not sequence.lost:
            self._step()
        if sequence.steps:
            return sequence.steps.popleft()
        if sequence.lost:
            raise EngineFailed(f"the batch failed: {sequence.lost}", hint="ask again")
        return None

    def remove(self, sequence: Sequence) -> None:
        """End an answer, finished or not."""
        if self._live.pop(sequence.uid, None) is sequence and self._generator is not None:
            self._generator.remove([sequence.uid])
        if not self._live:
            self.close()

    def close(self) -> None:
        """Drop the batch and its key-value cache."""
        generator, self._generator = self._generator, None
        if generator is not None:
            generator.close()

    def _step(self) -> None:
        # After a failed next() the caches of every sequence are wrong (a token would be fed twice): none may go on.
        reason = "a step was interrupted"
        try:
            prompts, tokens = self._generator.next()
            reason = ""
        except (RuntimeError, ValueError, MemoryError) as error:
            reason = str(error)
            raise
        finally:
            if reason:
                self._lose(reason)
        if any(prompt.end_of_prompt for prompt in prompts):
            self._settle()
        for prompt in prompts:
            if prompt.uid in self._live:
                self._live[prompt.uid].steps.append(Prefilled(prompt.progress[0]))
        for token in tokens:
            if token.uid in self._live:
                self._live[token.uid].steps.append(Token(token.token, token.finish_reason or ""))

    def _settle(self) -> None:
        """Compute the joined first tokens now: left lazy, they would queue behind the next forward pass on a CPU, and
        every first token would come one token late (80 ms with the starter on two cores)."""
        import mlx.core as mx

        batch = getattr(self._generator, "_generation_batch", None)
        tokens = getattr(batch, "_next_tokens", None)
        if tokens is not None:
            with mx.stream(self._generator.stream):
                mx.eval(tokens)

    def _lose(self, reason: str) -> None:
        for sequence in self._live.values():
            sequence.lost = reason
        self._live.clear()
        self.close()


class Sampler:
    """Draws tokens with random numbers of its own, so that a seed gives the same answer whoever shares the batch.

    (mlx-lm's ``make_sampler`` draws from the state of the thread.) Batched arithmetic rounds differently, so the same
    seed may still diverge where two tokens are almost equally likely.
    """

    def __init__(self, temperature: float, top_p: float, seed: int | None) -> None:
        import mlx.core as mx

        number = int.from_bytes(os.urandom(8)) if seed is None else seed % 2**64
        self._key = mx.random.key(number)
        self._temperature = temperature
        self._top_p = top_p

    def __call__(self, logprobs: Any) -> Any:
        """One token for each row of log-probabilities."""
        import mlx.core as mx
        from mlx_lm.sample_utils import apply_top_p

        if 0 < self._top_p < 1:
            logprobs = apply_top_p(logprobs, self._top_p)
        self._key, now = mx.random.split(self._key)
        return mx.random.categorical(logprobs / self._temperature, key=now)
