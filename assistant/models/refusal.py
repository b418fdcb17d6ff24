"""Refusing a model that is too large, with the numbers and with what would fit instead."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from assistant.errors import ModelTooLarge

from . import catalogue
from .fit import (
    LEAST_CONTEXT,
    Fit,
    MemoryNeed,
    Room,
    best_fit,
    gigabytes,
    largest_context,
    need_of,
    reserve_for,
    wanted_context,
)
from .machine import MachineMemory
from .shape import ModelShape


def fit_models(
    shapes: Sequence[ModelShape], room: Room, *, name: str, context: int = 0, kv_bits: int = 0, prefill_step: int = 512
) -> Fit:
    """``best_fit``, or why there is none.

    Args:
        name: of the model, for the error.

    Raises:
        ModelTooLarge: not even the least context fits; the message has the numbers, the hint a model that does.
    """
    found = best_fit(shapes, room, context=context, kv_bits=kv_bits, prefill_step=prefill_step)
    if found is None:
        _, least = wanted_context(shapes[0], context)
        need = need_of(shapes, kv_bits, prefill_step)
        raise ModelTooLarge(_why(name, least, need(least), room), hint=_hint(need, room, least))
    return found


def check_download(name: str, weights: int, memory: MachineMemory) -> None:
    """Refuse a model before it is fetched, if its weights alone are more than this machine gives to models.

    Args:
        weights: bytes of its files.

    Raises:
        ModelTooLarge: it cannot be loaded here, whatever else is unloaded.
    """
    if weights <= memory.limit:
        return
    near = catalogue.nearest(Room(limit=memory.limit, reserve=reserve_for(memory.total)), below=weights)
    raise ModelTooLarge(
        f"the model {name} needs {gigabytes(weights)} GB for its weights alone; this machine gives "
        f"{gigabytes(memory.limit)} GB ({memory.source})",
        hint=(f"{near.name} fits; " if near else "") + "`assistant models pull --force` fetches it all the same, "
        "for example for a cluster",
    )


def _why(name: str, context: int, need: MemoryNeed, room: Room) -> str:
    whole = gigabytes(need.total + room.reserve)
    parts = f"weights {gigabytes(need.weights)}, context of {context} tokens {gigabytes(need.kv)}, "
    parts += f"work space {gigabytes(need.prefill)}, reserve {gigabytes(room.reserve)}"
    given = f"this machine gives {gigabytes(room.limit)} GB"
    used = f", of which {gigabytes(room.used)} are in use" if room.used else ""
    return f"the model {name} needs {whole} GB: {parts}; {given}{used}"


def _hint(need: Callable[[int], MemoryNeed], room: Room, least: int) -> str:
    shorter = largest_context(need, room.free, least)
    if shorter >= min(LEAST_CONTEXT, least):
        return f"a context of {shorter} tokens would fit: `context = {shorter}` in the engine's settings"
    if near := catalogue.nearest(room, below=need(0).weights):
        return f'{near.name} fits: `[llm] model = "{near.name}"`; `assistant models recommend` lists others'
    return "nothing in the catalogue fits into what is free; close other programs or unload other models"
