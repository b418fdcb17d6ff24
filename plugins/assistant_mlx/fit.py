"""Whether a model fits the device, before its weights are loaded."""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from assistant import (
    Fit,
    ModelShape,
    Room,
    best_fit,
    fit_models,
    load_openblas,
    machine_memory,
    model_shape,
    reserve_for,
)

from . import loading

if TYPE_CHECKING:
    from . import Settings

PREFILL_STEP = 512
"""Tokens, if the setting does not say: the step on a GPU, which is the larger one."""

MAX_PROMPT_CACHE = 4 << 30
"""Bytes of kept prompts, if the setting does not say; else a quarter of what the weights leave free."""

log = logging.getLogger(__name__)


def check(
    folder: Path, settings: Settings, draft: Path | None = None, *, ranks: int = 1, device: Room | None = None
) -> Fit:
    """The context with which the model fits beside what MLX holds now; cut, and logged, if the model's own is too long.

    Args:
        draft: the folder of the draft model that is loaded with it.
        ranks: of how many machines each loads a share of the model.
        device: what the device gives; None asks it.

    Raises:
        ModelTooLarge: not even 4096 tokens (or what `[plugins.mlx] context` says) fit.
        ModelError: a folder holds no model.
    """
    for each in (folder, *([draft] if draft else ())):
        loading.check(each)
    on_gpu, room = _ask_device(settings) if device is None else (False, device)
    memory = machine_memory().total
    shapes = [_as_loaded(model_shape(folder), settings, on_gpu, memory).shared_by(ranks)]
    if draft is not None:
        shapes.append(_as_loaded(model_shape(draft), settings, on_gpu, memory))
    for note in dict.fromkeys(note for shape in shapes for note in shape.notes):
        log.info("%s: %s", folder.name, note)
    found = _fit(shapes, room, settings, folder.name)
    if found.context < found.asked:
        log.warning(
            "%s: the context is cut from %d to %d tokens, which is what fits: %.1f GB of the %.1f that are free",
            folder.name, found.asked, found.context, found.need.total / 1e9, room.free / 1e9,
        )
    return found


def _fit(shapes: list[ModelShape], room: Room, settings: Settings, name: str) -> Fit:
    """With room for kept prompts, unless the model is refused for want of it."""
    step = settings.prefill_step or PREFILL_STEP
    left = max(0, room.free - sum(shape.weights for shape in shapes))
    wanted = settings.prompt_cache_mb << 20 if settings.prompt_cache_mb >= 0 else min(left // 4, MAX_PROMPT_CACHE)
    narrow = msgspec.structs.replace(room, reserve=room.reserve + wanted)
    found = best_fit(shapes, narrow, context=settings.context, kv_bits=settings.kv_bits, prefill_step=step)
    if found is None:
        found = fit_models(
            shapes, room, name=name, context=settings.context, kv_bits=settings.kv_bits, prefill_step=step
        )
    found = msgspec.structs.replace(found, room=room)
    return msgspec.structs.replace(found, prompt_cache=min(wanted, found.spare))


def _as_loaded(shape: ModelShape, settings: Settings, on_gpu: bool, memory: int) -> ModelShape:
    wanted = settings.dequantize
    fits = 4 * shape.parameters * loading.FLOAT32_SHARE <= memory
    return shape.unpacked() if wanted == "always" or (wanted == "auto" and not on_gpu and fits) else shape


def _ask_device(settings: Settings) -> tuple[bool, Room]:
    here = machine_memory()
    reserve = settings.reserve_mb << 20 if settings.reserve_mb >= 0 else reserve_for(here.total)
    load_openblas()
    try:
        mx: Any = importlib.import_module("mlx.core")
    except ImportError:
        return False, Room(limit=here.limit, used=here.used, reserve=reserve)  # The loading says what is wrong.
    if mx.default_device().type == mx.gpu:
        limit = int(mx.device_info().get("max_recommended_working_set_size", 0)) or here.limit
        return True, Room(limit=limit, used=int(mx.get_active_memory()), reserve=reserve)
    return False, Room(limit=here.limit, used=here.used, reserve=reserve)
