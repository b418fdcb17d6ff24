"""Language models on MLX: the GPU of a Mac, or the CPU elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec

from assistant import LanguageModel, PluginContext, PluginSettings, hookimpl


class Settings(PluginSettings, frozen=True, kw_only=True):
    """``[plugins.mlx]`` in config.toml."""

    prefill_step: Annotated[int, msgspec.Meta(ge=0, le=8192)] = 0
    """Prompt tokens read in one step; a cancel and the other jobs of the lane wait for one step at most.
    0 chooses: 512 on a GPU, 128 on a CPU."""
    dequantize: Literal["auto", "always", "never"] = "auto"
    """Whether the weights are unpacked to 32-bit floats when the model is loaded. ``auto``: on a CPU, where that is
    many times as fast, if they then fill at most a quarter of the memory."""
    context: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Most tokens of prompt and answer together; 0, or more than the model was made for, is the model's own."""
    kv_bits: Literal[0, 4, 8] = 0
    """Keeps the context in so many bits, which takes less memory; answers then take turns instead of sharing a batch.
    0: as the model computes it."""
    tools: Literal["auto", "on", "off"] = "auto"
    """Whether the model may call tools. ``auto``: if its chat template knows them; ``on``: any model, by a prompt."""
    prompt_cache_mb: Annotated[int, msgspec.Meta(ge=-1)] = -1
    """Memory for prompts that are kept for the next turn; -1 chooses: a quarter of what the model leaves free, 4096 at
    most. 0 keeps none."""
    prompt_cache_disk_mb: Annotated[int, msgspec.Meta(ge=0)] = 2048
    """Disk space for them, so that a conversation goes on at once after a restart; 0 writes none."""
    draft_tokens: Annotated[int, msgspec.Meta(ge=1, le=16)] = 3
    """Tokens that the draft model guesses ahead."""
    reserve_mb: Annotated[int, msgspec.Meta(ge=-1)] = -1
    """Memory that is left to everything else when it is computed what fits; -1 chooses: 2048, or an eighth of the
    memory on a smaller machine."""


@hookimpl
def plugin_settings() -> type[PluginSettings]:
    """The type of ``[plugins.mlx]``."""
    return Settings


@hookimpl
def register_llm(context: PluginContext) -> Iterable[LanguageModel]:
    """The engine ``mlx``, and ``mlx-cluster`` if there is a cluster."""
    from .engine import MlxLanguageModel

    assert isinstance(context.settings, Settings)
    yield MlxLanguageModel(context.settings, context.data_dir)
    if context.cluster.hosts or context.cluster.hostfile:
        from .cluster.engine import ClusterLanguageModel

        yield ClusterLanguageModel(context.settings, context.cluster)
