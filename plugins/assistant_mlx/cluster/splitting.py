"""Loading a rank's share of a model."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

from assistant import ModelError
from assistant_mlx import loading


def check(folder: Path, size: int) -> None:
    """Look whether a model can be shared by so many ranks.

    Raises:
        ModelError: the folder is no model, or its heads cannot be divided.
    """
    if heads := _heads(loading.check(folder)):
        query, key_value = heads
        # Where there are fewer key-value heads than ranks, some architectures repeat them.
        if query % size or (key_value % size and size % key_value):
            raise _indivisible(folder, heads, size)


def load(folder: Path, dequantize: Literal["auto", "always", "never"], group: Any) -> loading.Loaded:
    """Load this rank's share on the calling thread; all ranks do so at the same time.

    Raises:
        ModelError: the model cannot be loaded, or not be shared.
        EngineFailed: MLX cannot be imported.
    """
    def split(model: Any) -> None:
        if not hasattr(model, "shard"):
            kind = getattr(model, "model_type", type(model).__name__)
            raise ModelError(
                f"mlx-lm cannot share models of the kind {kind} among machines",
                hint="choose a model of another family, such as Llama, Qwen, Mistral, GLM or DeepSeek",
            )
        try:
            model.shard(group)
        except ValueError as error:
            raise _unshared(folder, group.size(), str(error)) from error

    loaded = loading.load(folder, dequantize, split)
    _try_out(folder, loaded.model, group.size())
    return loaded


def fingerprint(folder: Path) -> str:
    """The same for folders with the same model."""
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for file in sorted([*folder.glob("model*.safetensors"), *folder.glob("tokenizer*")]):
        digest.update(f"{file.name} {file.stat().st_size}\n".encode())
    return digest.hexdigest()


def _try_out(folder: Path, model: Any, size: int) -> None:
    """Read one token: shapes that do not fit together show here and not in the middle of an answer."""
    import mlx.core as mx
    from mlx_lm.models.cache import make_prompt_cache

    try:
        mx.eval(model(mx.array([[0]]), cache=make_prompt_cache(model)))
    except ValueError as error:
        raise _unshared(folder, size, str(error)) from error


def _heads(config: dict[str, Any]) -> tuple[int, int] | None:
    """Attention heads and key-value heads, if the configuration names them."""
    text = config.get("text_config")
    for place in (config, text if isinstance(text, dict) else {}):
        query = place.get("num_attention_heads")
        if isinstance(query, int) and query > 0:
            key_value = place.get("num_key_value_heads")
            return query, key_value if isinstance(key_value, int) and key_value > 0 else query
    return None


def _indivisible(folder: Path, heads: tuple[int, int], size: int) -> ModelError:
    query, key_value = heads
    fits = [str(count) for count in range(2, query + 1) if query % count == 0 and key_value % count == 0]
    return ModelError(
        f"the model in {folder} has {query} attention heads and {key_value} key-value heads, "
        f"which cannot be divided by {size} machines",
        hint=f"it can be shared by {' or '.join(fits)}" if fits else "choose another model, or no cluster",
    )


def _unshared(folder: Path, size: int, why: str) -> ModelError:
    return ModelError(
        f"the model in {folder} cannot be divided by {size} machines: {why.partition(chr(10))[0]}",
        hint="choose another number of machines, or another model",
    )
