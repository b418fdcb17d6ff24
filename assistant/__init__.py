"""The public API for plugin authors: everything that a plugin needs is imported from here.

A name is loaded when it is first used: ``assistant --help`` and ``assistant status`` need none of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import events
    from .blas import load_openblas
    from .engines import (
        STT_SAMPLE_RATE,
        AudioChunk,
        ChatRequest,
        Delta,
        Engine,
        FinetuneJob,
        FinetuneStep,
        LanguageModel,
        MemoryUse,
        Message,
        Segment,
        SpeechToText,
        TextToSpeech,
        ToolCall,
        ToolSchema,
        Transcript,
        Transcription,
        WordMark,
    )
    from .errors import (
        AssistantError,
        AudioError,
        ContextOverflow,
        EngineFailed,
        ModelError,
        ModelTooLarge,
        PluginError,
        ToolError,
    )
    from .hookspecs import (
        Cluster,
        PluginContext,
        PluginSettings,
        ResourceProbe,
        Route,
        Session,
        Verdict,
        WakeWord,
        hookimpl,
    )
    from .intents import Intent, Range, Wildcard, Words
    from .models.fit import Fit, MemoryNeed, Room, best_fit, reserve_for
    from .models.machine import MachineMemory, machine_memory
    from .models.refusal import fit_models
    from .models.shape import ModelShape, model_shape
    from .tools import Tool

__version__ = "0.1.0"

__all__ = [
    "STT_SAMPLE_RATE", "AssistantError", "AudioChunk", "AudioError", "ChatRequest", "Cluster", "ContextOverflow",
    "Delta", "Engine", "EngineFailed", "FinetuneJob", "FinetuneStep", "Fit", "Intent", "LanguageModel", "MachineMemory",
    "MemoryNeed", "MemoryUse", "Message", "ModelError", "ModelShape", "ModelTooLarge", "PluginContext", "PluginError",
    "PluginSettings", "Range", "ResourceProbe", "Room", "Route", "Segment", "Session", "SpeechToText", "TextToSpeech",
    "Tool", "ToolCall", "ToolError", "ToolSchema", "Transcript", "Transcription", "Verdict", "WakeWord", "Wildcard",
    "WordMark", "Words", "best_fit", "events", "fit_models", "hookimpl", "load_openblas", "machine_memory",
    "model_shape", "reserve_for",
]

_HOMES = (
    "blas", "engines", "errors", "hookspecs", "intents", "tools", "models.fit", "models.machine", "models.refusal",
    "models.shape",
)
"""Modules that define what is named above."""


def __getattr__(name: str) -> object:
    """Load a public name (PEP 562)."""
    if name in __all__:
        if name == "events":
            return import_module(".events", __name__)
        for home in _HOMES:
            module = import_module(f".{home}", __name__)
            if hasattr(module, name):
                return globals().setdefault(name, getattr(module, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
