"""One batch that all live answers of a model share: mlx-lm's ``BatchGenerator``, for the writing.

Prompts are read outside, each into caches of its own, which the batch takes over: so a prompt can be read in steps of
any size, go on from a cache that was kept, and be abandoned, without the batch noticing.
"""

from __future__ import annotations

from typing import Any

from .sequence import Sequence


class Batch:
    """Writes a token of each of its answers at a time."""

    def __init__(self, model: Any, end_tokens: frozenset[int], size: int) -> None:
        self._model = model
        self._end_tokens = end_tokens
        self._size = size
        self._generator: Any = None
        self._members: dict[int, Sequence] = {}

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, sequence: Sequence) -> bool:
        return sequence in self._members.values()

    def add(self, sequence: Sequence) -> None:
        """Take over an answer whose caches hold all but its last token."""
        from mlx_lm.generate import BatchGenerator

        if self._generator is None:
            self._generator = BatchGenerator(
                self._model, prefill_batch_size=self._size, completion_batch_size=self._size
            )
        tokens = sequence.tokens
        (uid,) = self._generator.insert(
            [tokens[-1:]],
            max_tokens=[sequence.max_tokens - len(sequence.written) + 1],  # Ours is the end that counts.
            caches=[sequence.caches],
            all_tokens=[tokens[:-1]],
            samplers=[sequence.sampler],
            logits_processors=[list(sequence.processors)],
        )
        sequence.caches = None
        self._members[uid] = sequence

    def step(self) -> None:
        """Write a token of each answer.

        Raises:
            RuntimeError, ValueError, MemoryError: it failed; the caches of all its answers are then worth nothing.
        """
        ended: list[int] = []
        try:
            begun, tokens = self._generator.next()
        except (RuntimeError, ValueError, MemoryError):
            self.close()
            raise
        if begun:
            self._settle()
        for token in tokens:
            sequence = self._members[token.uid]
            sequence.write(token.token, self._end_tokens)
            sequence.check()
            if sequence.ended:
                ended.append(token.uid)
        self._leave(ended)

    def remove(self, sequence: Sequence) -> None:
        """Give the caches back to an answer, which leaves."""
        self._leave([uid for uid, member in self._members.items() if member is sequence])

    def close(self) -> None:
        """Drop the batch and the caches in it."""
        self._members.clear()
        generator, self._generator = self._generator, None
        if generator is not None:
            generator.close()

    def _leave(self, uids: list[int]) -> None:
        if not uids:
            return
        for uid, (caches, tokens) in self._generator.remove(uids, return_prompt_caches=True).items():
            sequence = self._members.pop(uid)
            sequence.caches, sequence.held = caches, len(tokens)
        if not self._members:
            self.close()

    def _settle(self) -> None:
        """Compute the joined first tokens now: left lazy, they would queue behind the next forward pass on a CPU, and
        every first token would come one token late (80 ms with the starter on two cores)."""
        import mlx.core as mx

        batch = getattr(self._generator, "_generation_batch", None)
        tokens = getattr(batch, "_next_tokens", None)
        if tokens is not None:
            with mx.stream(self._generator.stream):
                mx.eval(tokens)
