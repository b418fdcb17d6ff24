"""The files of an adapter: each is replaced as a whole, so that a process may be killed at any moment."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assistant import EngineFailed, FinetuneJob

STATE = "training.safetensors"
ADAPTER = "adapters.safetensors"
CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class Checkpoint:
    """A training at one moment."""

    iteration: int
    mark: str
    """Of the model, the data and the settings."""
    adapter: dict[str, Any]
    """Its arrays, by the names that they have in the model."""
    optimizer: dict[str, Any]


def write(folder: Path, checkpoint: Checkpoint) -> None:
    """Save the state, then the adapter on its own.

    Raises:
        EngineFailed: it cannot be written.
    """
    mx = importlib.import_module("mlx.core")
    arrays = {f"adapter.{name}": array for name, array in checkpoint.adapter.items()}
    arrays |= {f"optimizer.{name}": array for name, array in checkpoint.optimizer.items()}
    metadata = {"iteration": str(checkpoint.iteration), "mark": checkpoint.mark}
    _replace(folder / STATE, lambda file: mx.save_safetensors(str(file), arrays, metadata))
    _replace(folder / ADAPTER, lambda file: mx.save_safetensors(str(file), checkpoint.adapter))


def read(folder: Path, mark: str) -> Checkpoint | None:
    """What was last saved; None if nothing was.

    Raises:
        EngineFailed: it is of another training, or illegible.
    """
    file = folder / STATE
    if not file.exists():
        return None
    mx = importlib.import_module("mlx.core")
    try:
        arrays, metadata = mx.load(str(file), return_metadata=True)
        found = Checkpoint(int(metadata["iteration"]), metadata["mark"], _below("adapter", arrays),
                           _below("optimizer", arrays))
    except (RuntimeError, ValueError, KeyError) as error:
        raise EngineFailed(f"{file} cannot be read: {error}", hint="remove the adapter and train it again") from error
    if found.mark != mark:
        raise EngineFailed(
            f"the adapter in {folder} was trained with another model, other data or other settings",
            hint="remove it first, or train one of another name",
        )
    return found


def write_config(folder: Path, job: FinetuneJob, layers: int, parameters: dict[str, Any]) -> None:
    """What ``mlx_lm.tuner.utils.load_adapters`` and ``mlx_lm.fuse`` want to know."""
    config = {
        "fine_tune_type": "lora", "num_layers": layers, "lora_parameters": parameters, "model": job.model,
        "optimizer": "adam", "learning_rate": job.learning_rate, "batch_size": job.batch_size,
        "iters": job.iterations, "max_seq_length": job.max_tokens, "mask_prompt": True, "seed": job.seed,
    }
    text = json.dumps(config, indent=4, sort_keys=True)
    _replace(folder / CONFIG, lambda file: file.write_text(text, encoding="utf-8"))


def _below(prefix: str, arrays: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(f"{prefix}."): array for name, array in arrays.items() if name.startswith(f"{prefix}.")}


def _replace(target: Path, write_to: Callable[[Path], object]) -> None:
    partial = target.with_name(f"{target.stem}.partial{target.suffix}")
    try:
        write_to(partial)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(target)
    except (OSError, RuntimeError) as error:
        raise EngineFailed(f"{target} cannot be written: {error}", hint="free some disk space, then resume") from error
