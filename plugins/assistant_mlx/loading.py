"""Importing MLX without its side effects, and loading a model folder."""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from assistant import EngineFailed, ModelError, load_openblas

CACHE_BYTES = 1 << 28
"""Freed buffers that MLX keeps for reuse. Its own limit is all of the memory, and servers have grown to 17 and 38 GB by
it (agent-cli #620, qwen3_asr_rs #13). 256 MiB holds what steps use over and over: the widest activation of an 8B model
is 512 tokens x 14336 x 2 bytes = 15 MB."""

FLOAT32_SHARE = 4
"""The weights are unpacked only if they then take at most a quarter of the memory."""

DEFAULT_CONTEXT = 4096
"""Tokens, for a config.json that does not name the model's context."""

_ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1"}


@dataclass(frozen=True)
class Loaded:
    """A model that is ready."""

    model: Any
    tokenizer: Any
    context: int
    """Tokens of prompt and answer together."""
    on_gpu: bool
    prompt_cache: int = 1 << 28
    """Bytes of memory for kept prompts."""

    @property
    def vocabulary(self) -> int:
        """How many tokens the tokenizer knows."""
        return len(self.tokenizer.get_vocab())

    @property
    def dtype(self) -> str:
        """The type of its norms, which is that of the context it keeps."""
        utils = importlib.import_module("mlx.utils")
        kinds = {str(array.dtype) for _, array in utils.tree_flatten(self.model.parameters()) if array.ndim == 1}
        return " ".join(sorted(kinds))


@contextmanager
def _surroundings() -> Iterator[None]:
    """Keep the libraries from the network, from PyTorch and from lowering the process's limit of open files.

    ``mlx_lm/utils.py`` sets RLIMIT_NOFILE to (2048, 4096) when it is imported, which cannot be undone without
    privileges and fails where the hard limit is lower. transformers imports PyTorch where it is installed, for
    nothing here: 270 MB and more than half of the time to load.
    """
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    set_limit = resource.setrlimit
    os.environ.update(_ENVIRONMENT)
    resource.setrlimit = lambda kind, limits: None
    modules: dict[str, Any] = sys.modules
    hides_torch = modules.setdefault("torch", None) is None
    try:
        yield
    finally:
        if hides_torch:
            del modules["torch"]
        resource.setrlimit = set_limit
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def load(
    folder: Path, dequantize: Literal["auto", "always", "never"], split: Callable[[Any], None] | None = None
) -> Loaded:
    """Import MLX and load the model on the calling thread, where it must be used.

    Args:
        split: keeps a share of the model, whose weights have not been read when it is called.

    Raises:
        ModelError: the folder is not a model that can be loaded.
        EngineFailed: MLX cannot be imported.
    """
    config = check(folder)
    with _surroundings():
        mx, mlx_lm = _import()
        try:
            model, tokenizer = mlx_lm.load(
                str(folder), tokenizer_config={"trust_remote_code": False}, lazy=split is not None
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError) as error:
            raise ModelError(
                f"the model in {folder} cannot be loaded: {_in_short(error)}",
                hint="the files do not fit together; fetch the model again",
            ) from error
    if not tokenizer.has_chat_template:
        raise ModelError(
            f"the model in {folder} has no chat template",
            hint="it is a base model, which completes text; choose one that is tuned for chat (\"Instruct\", \"it\")",
        )
    on_gpu = mx.default_device().type == mx.gpu
    model = unpack(model, dequantize)
    if split is not None:
        split(model)
        mx.eval(model.parameters())
        mx.clear_cache()
    return Loaded(model, tokenizer, _context(config), on_gpu)


def load_draft(folder: Path, dequantize: Literal["auto", "always", "never"], vocabulary: int) -> Any:
    """Load a model that guesses tokens ahead for another one.

    Raises:
        ModelError: the folder is not a model that can be loaded, or it has other tokens.
    """
    draft = load(folder, dequantize)
    if draft.vocabulary != vocabulary:
        raise ModelError(
            f"the draft model in {folder} knows {draft.vocabulary} tokens, the model {vocabulary}",
            hint="set `[llm] draft_model` to a smaller model of the same family, or to nothing",
        )
    return draft.model


def unpack(model: Any, dequantize: Literal["auto", "always", "never"]) -> Any:
    """The model with its weights as 32-bit floats, where that is wanted."""
    mx: Any = importlib.import_module("mlx.core")
    on_gpu = mx.default_device().type == mx.gpu
    if dequantize == "always" or (dequantize == "auto" and not on_gpu and _float32_fits(model)):
        model.set_dtype(mx.float32)  # The scales first: they then unpack in a third of the time, and exactly.
        model = importlib.import_module("mlx_lm.utils").dequantize_model(model)
        model.set_dtype(mx.float32)
        mx.eval(model.parameters())
        mx.clear_cache()
    return model


def check(folder: Path) -> dict[str, Any]:
    """The model's config.json, after a look whether the folder holds what a model needs.

    Raises:
        ModelError: something is missing or illegible.
    """
    hint = "fetch the model again, or name the folder of an mlx-lm model"
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{folder} has no config.json, so it is no model", hint=hint) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / 'config.json'} cannot be read: {_in_short(error)}", hint=hint) from error
    if not isinstance(config, dict) or "model_type" not in config:
        raise ModelError(f"{folder / 'config.json'} names no model_type", hint=hint)
    if not any(folder.glob("model*.safetensors")):
        raise ModelError(f"{folder} has no weights (model*.safetensors)", hint=hint)
    if not any((folder / name).exists() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise ModelError(f"{folder} has no tokenizer (tokenizer.json)", hint=hint)
    return config


def _import() -> tuple[Any, Any]:
    load_openblas()
    try:
        mx = importlib.import_module("mlx.core")
        mlx_lm = importlib.import_module("mlx_lm")
    except ImportError as error:
        raise EngineFailed(
            f"MLX cannot be imported: {_in_short(error)}",
            hint="pip install 'mlx[cpu]' mlx-lm on Linux (glibc 2.35 or newer), pip install mlx-lm on a Mac",
        ) from error
    # mlx-lm wires the whole working set of the GPU, which brings some Macs down: kernel panic in IOGPUMemory.cpp
    # (mlx #3186, mlx-lm #883, oMLX #1372, where ten of ten runs without it stayed up).
    generate: Any = importlib.import_module("mlx_lm.generate")
    generate.maybe_set_recommended_wired_limit = lambda: None
    mx.set_cache_limit(CACHE_BYTES)
    # Every new thread begins with one and the same seed.
    mx.random.seed(int.from_bytes(os.urandom(8)))
    return mx, mlx_lm


def _float32_fits(model: Any) -> bool:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 4 * count_parameters(model) * FLOAT32_SHARE <= memory


def count_parameters(model: Any) -> int:
    """Weights of the model, packed ones counted singly: a scale stands for ``group_size`` of them."""
    utils = importlib.import_module("mlx.utils")
    total = 0
    for _, module in utils.tree_flatten(model.leaf_modules(), is_leaf=lambda node: hasattr(node, "parameters")):
        for name, array in utils.tree_flatten(module.parameters()):
            packed = hasattr(module, "group_size")
            if not packed:
                total += array.size
            elif name == "scales":
                total += array.size * module.group_size
    return total


def _context(config: dict[str, Any]) -> int:
    text = config.get("text_config")
    for place in (config, text if isinstance(text, dict) else {}):
        value = place.get("max_position_embeddings")
        if isinstance(value, int) and value > 0:
            return value
    return DEFAULT_CONTEXT


def _in_short(error: BaseException) -> str:
    if isinstance(error, KeyError):
        return f"{error} is missing"
    lines = str(error).strip().splitlines()
    return " ".join(lines[:2]).rstrip(".:") if lines else type(error).__name__
