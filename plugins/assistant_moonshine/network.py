"""Moonshine's two networks: one listens, the other writes what was heard, token by token.

Moonshine: Speech Recognition for Live Transcription and Voice Commands (Jeffries et al., 2024, arXiv 2410.15608).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assistant import ModelError

from .sentences import Place, Sentences
from .vocabulary import BEGIN, END

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RATE = 16_000
SHORTEST = RATE
"""Shorter sound is filled up with silence: of 128 short sentences by eSpeak 86 are heard, 67 if it is half as long."""
TOKENS_PER_SECOND = 6.5
"""Most that are written: more is the model going round in circles (Moonshine's own limit)."""
WIDTH = 6
"""How many sentences are followed at a time."""
WORST = -40.0
"""A sentence that is less likely is not followed."""
PAST, PRESENT, LISTENED = "past_key_values", "present", ".encoder."


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        tokens: without the begin and the end.
        likelihood: the natural logarithm of all of it, the end included.
        complete: the end came, rather than the most that may be written.
    """

    tokens: tuple[int, ...]
    likelihood: float
    complete: bool = True

    @property
    def mean(self) -> float:
        """The logarithm per token."""
        return self.likelihood / (len(self.tokens) + 1)


def damaged(folder: Path, reason: str) -> ModelError:
    """A folder that has all of the model's files, of which one is no good."""
    return ModelError(
        f"the Moonshine model in {folder} is damaged: {reason}",
        hint="`assistant models rm moonshine-tiny`, then `assistant models pull moonshine-tiny`",
    )


class Network:
    """Both networks in onnxruntime, on one thread.

    Args:
        folder: has ``encoder.ort`` and ``decoder.ort``.

    Raises:
        ModelError: it has not, or they are damaged.
    """

    def __init__(self, folder: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            self._encoder, self._decoder = (
                onnxruntime.InferenceSession(folder / f"{name}.ort", options, providers=["CPUExecutionProvider"])
                for name in ("encoder", "decoder")
            )
        except Exception as error:  # onnxruntime's own have no common base
            raise damaged(folder, str(error).partition("\n")[0][:200]) from error
        self._outputs = [one.name for one in self._decoder.get_outputs()]
        self._past = {one.name: one.shape for one in self._decoder.get_inputs() if one.name.startswith(PAST)}

    @property
    def tokens(self) -> int:
        """How many different ones it writes."""
        return int(self._decoder.get_outputs()[0].shape[-1])

    def listen(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """What is heard in 16 kHz mono sound of ±1: [1, positions, width]."""
        import numpy as np

        sound = np.pad(samples, (0, max(0, SHORTEST - len(samples))))[None].astype(np.float32)
        given = {"input_values": sound, "attention_mask": np.ones(sound.shape, np.int64)}
        found: NDArray[np.float32] = self._encoder.run(None, given)[0]
        return found

    def write(self, heard: NDArray[np.float32], seconds: float) -> Written:
        """The likeliest token each time, until the end or as many as ``seconds`` of speech can hold."""
        writing, token = _Writing(self, heard), BEGIN
        tokens: list[int] = []
        likelihood = 0.0
        for _ in range(int(seconds * TOKENS_PER_SECOND) + 2):
            scores = writing.step([token])[0]
            token = int(scores.argmax())
            likelihood += float(scores[token])
            if token == END:
                return Written(tuple(tokens), likelihood)
            tokens.append(token)
        return Written(tuple(tokens), likelihood, complete=False)

    def choose(self, heard: NDArray[np.float32], sentences: Sentences) -> Written | None:
        """The sentence that was most likely said, by a beam search; None if none of them comes near."""
        writing = _Writing(self, heard)
        open_ends: list[tuple[float, tuple[int, ...], Place]] = [(0.0, (), sentences.start)]
        best: Written | None = None
        while open_ends:
            scores = writing.step([tokens[-1] if tokens else BEGIN for _, tokens, _ in open_ends])
            steps = [
                (so_far + float(scores[row, token]), row, token, place)
                for row, (so_far, _, here) in enumerate(open_ends)
                for token, place in sentences.next(here).items()
            ]
            steps.sort(key=lambda one: -one[0])
            least = best.likelihood if best else WORST
            followed = []
            for likelihood, row, token, place in steps[:WIDTH]:
                if likelihood <= least:
                    break
                if token == END:
                    best = Written(open_ends[row][1], likelihood)
                    break
                followed.append((row, (likelihood, (*open_ends[row][1], token), place)))
            open_ends = [one for _, one in followed]
            writing.keep([row for row, _ in followed])
        return best

    def run(self, given: dict[str, Any]) -> dict[str, NDArray[np.float32]]:
        """One step of the writing network."""
        return dict(zip(self._outputs, self._decoder.run(None, given), strict=True))

    def nothing_written(self) -> dict[str, NDArray[np.float32]]:
        """What it remembers at the beginning."""
        import numpy as np

        return {name: np.zeros((1, shape[1], 1, shape[3]), np.float32) for name, shape in self._past.items()}


class _Writing:
    """What the writing network remembers of some transcripts of the same sound."""

    def __init__(self, network: Network, heard: NDArray[np.float32]) -> None:
        self._network = network
        self._heard = heard
        self._past = network.nothing_written()
        self._begun = False

    def step(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Go on with a token each: the logarithm of every token's probability to be next, [transcripts, tokens]."""
        import numpy as np

        count = len(tokens)
        found = self._network.run({
            "input_ids": np.array(tokens, np.int64)[:, None],
            "encoder_hidden_states": np.repeat(self._heard, count, 0),
            "encoder_attention_mask": np.ones((count, 1), np.int64),  # of length 1: longer ones fail from 10 s on
            "use_cache_branch": np.array([self._begun]),
            **self._past,
        })  # fmt: skip
        for name in self._past:
            if not self._begun or LISTENED not in name:
                self._past[name] = found[name.replace(PAST, PRESENT)]
        self._begun = True
        scores = found["logits"][:, -1].astype(np.float64)
        scores -= scores.max(-1, keepdims=True)
        logarithms: NDArray[np.float32] = (scores - np.log(np.exp(scores).sum(-1, keepdims=True))).astype(np.float32)
        return logarithms

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these of the transcripts; one may be taken several times."""
        self._past = {name: value[list(rows)] for name, value in self._past.items()}
