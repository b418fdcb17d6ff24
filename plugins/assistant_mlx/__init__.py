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


@hookimpl
def plugin_settings() -> type[PluginSettings]:
    """The type of ``[plugins.mlx]``."""
    return Settings


@hookimpl
def register_llm(context: PluginContext) -> Iterable[LanguageModel]:
    """The engine ``mlx``."""
    from .engine import MlxLanguageModel

    assert isinstance(context.settings, Settings)
    yield MlxLanguageModel(context.settings)
