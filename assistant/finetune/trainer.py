"""What the training lane holds: an engine that is never loaded, and trains."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from assistant.engines import FinetuneJob, FinetuneStep, LanguageModel

LANE = "train"
"""A process of its own: speech and answers never wait for it, and its memory returns when it ends."""
NICENESS = 10


class Trainer:
    """Trains with an engine's own ``finetune``, at low priority."""

    def __init__(self, engine: LanguageModel) -> None:
        self._engine = engine

    def load(self, model: Path | None) -> None:
        """Step back behind everything else that the machine does."""
        os.nice(NICENESS)

    def close(self) -> None:
        """Nothing is held between trainings."""

    def finetune(self, job: FinetuneJob) -> Iterator[FinetuneStep]:
        """See ``LanguageModel.finetune``."""
        return self._engine.finetune(job)
