"""Engines that pretend to learn: picklable, and importable in a lane's process."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from assistant.engines import ChatRequest, Delta, FinetuneJob, FinetuneStep, LanguageModel

WEIGHTS = "adapters.safetensors"


class Teacher(LanguageModel):
    """Counts iterations and writes the count down at each.

    A learning rate of 0.5 never ends, 0.25 ends its process at iteration 3 the first time, 0.75 has a bug.
    """

    name = "teacher"
    rank = 100
    default_model = "starter"

    def load(self, model: Path | None) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""

    def generate(self, request: ChatRequest) -> Iterator[Delta]:
        """Says nothing."""
        yield Delta(finish_reason="stop")

    def finetune(self, job: FinetuneJob) -> Iterator[FinetuneStep]:
        """Count."""
        folder = Path(job.adapter)
        lines = (Path(job.data) / "train.jsonl").read_text().splitlines()
        state = folder / "count.json"
        done = json.loads(state.read_text())["done"] if state.exists() else 0
        first = done == 0
        yield FinetuneStep(iteration=done, iterations=job.iterations, valid_loss=4.0)
        while done < job.iterations or job.learning_rate == 0.5:
            if done == 3 and job.learning_rate == 0.25 and first:
                os._exit(9)
            if job.learning_rate == 0.75:
                raise ZeroDivisionError("a bug")
            done += 1
            state.write_text(json.dumps({"done": done, "lines": len(lines), "niceness": os.nice(0)}))
            (folder / WEIGHTS).write_bytes(b"weights")
            yield FinetuneStep(iteration=done, iterations=job.iterations, train_loss=4.0 / done, saved=True)
            time.sleep(0.005)
