"""What has to be read from memory for each token, and the speed that follows.

tokens/s ≤ bandwidth ÷ (bytes of the weights + context in tokens * bytes of keys and values for each)
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from assistant.errors import ModelError
from assistant.models.shape import ModelShape, model_shape

from .report import Bandwidth

EMBEDDING = (".embed_tokens.", ".wte.", ".tok_embeddings.", ".word_embeddings.")
"""In the names of the table of which every token reads one row, unless it is the output layer as well."""

FLOAT32 = 3.5
"""Bytes a parameter from which on the weights must be 32-bit floats."""


@dataclass(frozen=True)
class ModelCost:
    """What one token costs."""

    shape: ModelShape
    weights: int
    """Bytes, as the engine holds them."""
    shared: float
    """Of those, the bytes that every step reads once, however many streams it serves."""
    experts: float
    """Of those, the bytes of all experts."""
    chosen: float
    """Share of the experts that one token uses."""
    item: int
    """Bytes of one number of the context."""
    held: bool
    """Whether the engine told what it holds; else the files on the disk count."""

    def read(self, streams: int) -> float:
        """Bytes of weights that a step with so many streams reads.

        Experts are taken as chosen at random: k of n leave one unused with probability 1 - k/n for each stream.
        """
        return self.shared + self.experts * (1 - (1 - self.chosen) ** streams)

    def keys_and_values(self, context: float) -> float:
        """Bytes of keys and values, and of recurrent state, that a stream reads for one token after ``context``
        tokens."""
        shape = self.shape
        windowed = shape.sliding_layers * shape.token_width * self.item * min(context, shape.window)
        return shape.kv_bytes_per_token(dtype_bytes=self.item) * context + windowed + shape.state

    def bound(self, bandwidth: Bandwidth, streams: int, context: float) -> float:
        """Tokens per second of all streams together at most."""
        bytes_a_step = self.read(streams) + streams * self.keys_and_values(context)
        return streams * bandwidth.gb_per_second * 1e9 / bytes_a_step

    @property
    def note(self) -> str:
        """What the numbers rest on."""
        where = "as the engine holds them" if self.held else "on the disk"
        return "; ".join([f"weights {where}, keys and values of {self.item} bytes", *self.shape.notes])


def of_model(folder: Path, held: int = 0) -> ModelCost | None:
    """What the files of a model tell; None if they are not of the usual kind.

    Args:
        held: bytes that the engine holds once it is loaded; 0 if it cannot tell.
    """
    try:
        shape = model_shape(folder)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        inner = config.get("text_config")
        text = {**config, **inner} if isinstance(inner, dict) else config
        looked_up = 0 if text.get("tie_word_embeddings") else _embedding(sorted(folder.glob("model*.safetensors")))
    except (ModelError, OSError, ValueError, KeyError, TypeError):
        return None
    if not shape.weights:
        return None
    weights = held or shape.weights
    scale = weights / shape.weights
    left_out = (shape.weights - shape.read_per_token) * scale
    chosen = _chosen(text)
    experts = left_out / (1 - chosen) if left_out else 0.0
    return ModelCost(
        shape=shape, weights=weights, shared=weights - looked_up * scale - experts, experts=experts, chosen=chosen,
        item=4 if weights >= FLOAT32 * shape.parameters > 0 else shape.dtype_bytes, held=bool(held),
    )  # fmt: skip


def _embedding(files: Iterable[Path]) -> int:
    """Bytes of the embedding, from the headers of safetensors files."""
    total = 0
    for file in files:
        with file.open("rb") as opened:
            header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
        for name, entry in header.items():
            if any(part in f".{name}" for part in EMBEDDING):
                begin, end = entry["data_offsets"]
                total += end - begin
    return total


def _chosen(config: dict[str, object]) -> float:
    """Share of the experts that one token uses."""
    for all_of_them in ("num_local_experts", "num_experts", "n_routed_experts"):
        for used in ("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_topk"):
            count, chosen = config.get(all_of_them), config.get(used)
            if isinstance(count, int) and isinstance(chosen, int) and 0 < chosen < count:
                return chosen / count
    return 0.0
