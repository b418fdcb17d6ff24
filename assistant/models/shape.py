"""What decides how much memory a language model takes, read from its config.json and the headers of its files."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from assistant.errors import ModelError

DEFAULT_CONTEXT = 4096
"""Tokens, for a config.json that does not name the model's context."""

KV_GROUP = 64
"""Numbers of a quantized context that share a scale and a bias (mlx-lm's ``kv_group_size``)."""

MAX_HEADER = 100_000_000
"""Bytes; the limit of the safetensors format itself."""

UNKNOWN_LAYERS, UNKNOWN_WIDTH = 32, 8192
"""For a config.json that names no layers: those of Llama-2-7B, 512 KiB a token, more than any newer 7B to 70B keeps."""

LATENT = frozenset({"deepseek_v3", "deepseek_v32", "glm4_moe_lite", "kimi_k2"})
"""Model types of which mlx-lm keeps the compressed keys and values only (``kv_latent`` in its ``deepseek_v3.py``)."""

STATE_SIZE = 128
"""Numbers of recurrent state per channel, where config.json does not say: Mamba-2's ``d_state``."""


class ModelShape(msgspec.Struct, frozen=True, kw_only=True):
    """What decides how much memory a model takes."""

    weights: int
    """Bytes of the files."""
    parameters: int
    """Weights counted singly, also where they are packed."""
    layers: int
    """Layers that keep every token of the context."""
    heads: int
    kv_heads: int
    head_dim: int
    context: int
    """Most tokens that the model was made for."""
    width: int = 0
    """Numbers kept per token and layer; 0: keys and values, ``2 x kv_heads x head_dim``."""
    sliding_layers: int = 0
    """Layers that keep the last ``window`` tokens only."""
    window: int = 0
    state: int = 0
    """Bytes that the layers without attention keep, however long the context."""
    active: int = 0
    """Bytes of weights that one token reads; 0: all."""
    dtype_bytes: int = 2
    """Of one number of the context."""
    notes: tuple[str, ...] = ()
    """Where something had to be assumed."""

    @property
    def token_width(self) -> int:
        """Numbers kept per token and layer."""
        return self.width or 2 * self.kv_heads * self.head_dim

    @property
    def read_per_token(self) -> int:
        """Bytes of weights that one token reads."""
        return self.active or self.weights

    def kv_bytes_per_token(self, bits: int = 0, dtype_bytes: int = 0) -> float:
        """Bytes by which the context grows per token: ``2 x layers x kv_heads x head_dim x bytes``.

        Args:
            bits: 4 or 8 for a quantized context, whose groups of 64 have a scale and a bias; 0 for none.
            dtype_bytes: of one number that is not quantized; 0: the model's own.
        """
        return self.layers * self.token_width * _number_bytes(bits, dtype_bytes or self.dtype_bytes)

    def unpacked(self, bytes_each: int = 4) -> ModelShape:
        """The shape of the model with its weights unpacked to floats of so many bytes."""
        weights = self.parameters * bytes_each
        share = self.read_per_token / self.weights if self.weights else 1.0
        return msgspec.structs.replace(
            self, weights=weights, active=round(weights * share), dtype_bytes=max(self.dtype_bytes, bytes_each)
        )

    def shared_by(self, ranks: int) -> ModelShape:
        """The share of one of ``ranks`` machines, of a model that is split by its heads."""
        if ranks <= 1:
            return self
        return msgspec.structs.replace(
            self,
            weights=-(-self.weights // ranks),
            parameters=-(-self.parameters // ranks),
            width=-(-self.token_width // ranks),
            heads=-(-self.heads // ranks),
            state=-(-self.state // ranks),
            active=-(-self.read_per_token // ranks),
        )


def model_shape(folder: Path) -> ModelShape:
    """The shape of the model in a folder.

    Raises:
        ModelError: config.json cannot be read.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / 'config.json'} cannot be read: {error}", hint="fetch the model again") from error
    if not isinstance(config, dict):
        raise ModelError(f"{folder / 'config.json'} is no JSON object", hint="fetch the model again")
    files = sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("*.safetensors"))
    weights = sum(file.stat().st_size for file in files)
    return shape_of(config, weights, count_parameters(files, config))


def shape_of(config: dict[str, Any], weights: int, parameters: int = 0) -> ModelShape:
    """The shape that a config.json tells; on the safe side, and noted, where it does not.

    Args:
        weights: bytes of the files.
        parameters: as counted; 0: worked out from ``weights`` and the quantization.
    """
    text = _text_of(config)
    notes: list[str] = []
    layers, heads = _number(text, _LAYERS), _number(text, _HEADS)
    kv_heads = _number(text, _KV_HEADS) or heads
    hidden = _number(text, _HIDDEN)
    head_dim = _number(text, ("head_dim",)) or (hidden // heads if heads else 0)
    full, sliding, recurrent = _kinds(text, layers, notes)
    width = _width(text, heads)
    if full and not (width or kv_heads * head_dim):
        notes.append("config.json names no attention heads; 8192 numbers a token and layer are assumed")
        width = UNKNOWN_WIDTH
    if not layers:
        notes.append("config.json names no layers; 512 KiB of context a token are assumed")
        full, sliding, recurrent, width = UNKNOWN_LAYERS, 0, 0, UNKNOWN_WIDTH
    item = 4 if str(text.get("dtype") or text.get("torch_dtype")) == "float32" else 2
    parameters = parameters or _parameters_of(config, weights, item)
    return ModelShape(
        weights=weights, parameters=parameters, layers=full, heads=heads, kv_heads=kv_heads, head_dim=head_dim,
        context=_number(text, _CONTEXT) or DEFAULT_CONTEXT, width=width, sliding_layers=sliding,
        window=_number(text, ("sliding_window", "attention_chunk_size")), state=_state(text, recurrent, hidden, notes),
        active=round(weights * _active_share(text, layers, hidden, parameters)), dtype_bytes=item, notes=tuple(notes),
    )  # fmt: skip


def count_parameters(files: Iterable[Path], config: dict[str, Any]) -> int:
    """Weights in safetensors files, packed ones counted singly: a scale stands for a group of them. 0: illegible."""
    try:
        tensors = dict(_tensors(files))
    except (OSError, ValueError, KeyError, TypeError):
        return 0
    quantization = _quantization(config)
    total = 0
    for name, (packed_type, elements) in tensors.items():
        base, _, last = name.rpartition(".")
        packed = f"{base}.scales" in tensors
        if packed and last == "scales":
            total += elements * _group(quantization, base)
        elif not packed or (last == "weight" and not packed_type):
            total += elements
    return total


_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")
_KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_kv_heads", "n_head_kv")
_HIDDEN = ("hidden_size", "n_embd", "d_model", "model_dim", "dim")
_CONTEXT = ("max_position_embeddings", "max_sequence_length", "max_seq_len", "n_positions", "seq_length")
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
_EXPERTS_USED = ("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_topk")
_ATTENTION = re.compile("attention|full|global")
_NESTED = ("text_config", "llm_config", "language_config")


def _text_of(config: dict[str, Any]) -> dict[str, Any]:
    for key in _NESTED:
        if isinstance(inner := config.get(key), dict):
            return {**config, **inner}
    return config


def _number(config: dict[str, Any], keys: tuple[str, ...]) -> int:
    """The first whole number above 0 under one of these keys; of a list, one for each layer, the largest."""
    for key in keys:
        value = config.get(key)
        if isinstance(value, list):
            value = max((entry for entry in value if isinstance(entry, int)), default=0)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return 0


def _kinds(text: dict[str, Any], layers: int, notes: list[str]) -> tuple[int, int, int]:
    """How many layers keep the whole context, a sliding window of it, and a state of fixed size."""
    kinds = text.get("layer_types") or text.get("layers_block_type")
    pattern = text.get("hybrid_override_pattern")
    interval = _number(text, ("full_attention_interval",))
    sliding_pattern = _number(text, ("sliding_window_pattern",))
    if not sliding_pattern and str(text.get("model_type")).startswith("gemma3"):
        sliding_pattern = 6  # mlx_lm/models/gemma3_text.py
    if isinstance(kinds, list) and kinds:
        names = [str(kind) for kind in kinds]
        sliding = [name for name in names if "sliding" in name or "chunked" in name]
        full = [name for name in names if name not in sliding and "linear" not in name and _ATTENTION.search(name)]
        recurrent = max(0, layers - len(full) - len(sliding))
        return (len(full), len(sliding), recurrent) if _has_window(text) else (len(full) + len(sliding), 0, recurrent)
    if isinstance(pattern, str) and pattern:
        return pattern.count("*"), 0, pattern.count("M")
    if interval:
        return layers // interval, 0, layers - layers // interval
    if sliding_pattern and _has_window(text):
        return layers // sliding_pattern, layers - layers // sliding_pattern, 0
    if "mamba" in str(text.get("model_type")) and not _number(text, _HEADS):
        return 0, 0, layers
    if _has_window(text) and text.get("use_sliding_window", True):
        notes.append("config.json names a sliding window, but not which layers have one; the whole context is counted")
    if any(key.startswith(("mamba_", "ssm_", "linear_")) for key in text):
        notes.append("a hybrid model whose config.json does not tell its layers apart; all are counted as attention")
    return layers, 0, 0


def _has_window(text: dict[str, Any]) -> bool:
    return _number(text, ("sliding_window", "attention_chunk_size")) > 0


def _width(text: dict[str, Any], heads: int) -> int:
    """Numbers a token and layer of models with latent attention; 0 for the others."""
    latent, rope = _number(text, ("kv_lora_rank",)), _number(text, ("qk_rope_head_dim",))
    if not latent:
        return 0
    if text.get("model_type") in LATENT:
        return latent + rope
    return heads * (_number(text, ("qk_nope_head_dim",)) + rope + _number(text, ("v_head_dim",))) or latent + rope


def _state(text: dict[str, Any], layers: int, hidden: int, notes: list[str]) -> int:
    """Bytes of recurrent state, as 32-bit floats."""
    if not layers:
        return 0
    heads = _number(text, ("linear_num_value_heads", "mamba_num_heads", "mamba_n_heads"))
    rows = _number(text, ("linear_value_head_dim", "mamba_head_dim", "mamba_d_head"))
    columns = _number(text, ("linear_key_head_dim", "ssm_state_size", "mamba_d_state", "state_size"))
    if heads and rows and columns:
        return 4 * layers * heads * rows * columns
    notes.append(f"the state of {layers} layers without attention is assumed")
    return 4 * layers * 2 * hidden * (columns or STATE_SIZE)


def _active_share(text: dict[str, Any], layers: int, hidden: int, parameters: int) -> float:
    """The share of the weights that one token reads: of a mixture of experts, not those of the experts left out."""
    count, used = _number(text, _EXPERTS), _number(text, _EXPERTS_USED)
    inner = _number(text, ("moe_intermediate_size", "intermediate_size"))
    if not (count and used and inner and parameters) or used >= count:
        return 1.0
    sparse = layers - _number(text, ("first_k_dense_replace",))
    experts = min(3 * hidden * inner * count * sparse, parameters)
    return 1.0 - experts / parameters * (1.0 - used / count)


def _quantization(config: dict[str, Any]) -> dict[str, Any]:
    found = config.get("quantization") or config.get("quantization_config")
    return found if isinstance(found, dict) else {}


def _group(quantization: dict[str, Any], layer: str) -> int:
    own = quantization.get(layer)
    place = own if isinstance(own, dict) else quantization
    return int(place.get("group_size") or quantization.get("group_size") or KV_GROUP)


def _parameters_of(config: dict[str, Any], weights: int, item: int) -> int:
    quantization = _quantization(config)
    bits = _number(quantization, ("bits",))
    if not bits:
        return weights // item
    overhead = 8 if str(quantization.get("mode")).startswith("mx") else 32
    return int(weights * 8 / (bits + overhead / _group(quantization, "")))


def _number_bytes(bits: int, item: int) -> float:
    return bits / 8 + 2 * item / KV_GROUP if bits else float(item)


def _tensors(files: Iterable[Path]) -> Iterator[tuple[str, tuple[bool, int]]]:
    """Name, whether its numbers are packed, and elements, of every array in the headers of safetensors files."""
    for file in files:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if length > MAX_HEADER:
                raise ValueError(f"{file.name} is no safetensors file")
            header = json.loads(opened.read(length))
        for name, entry in header.items():
            if name != "__metadata__":
                yield name, (entry["dtype"] in {"U32", "U8"}, math.prod(entry["shape"]))
