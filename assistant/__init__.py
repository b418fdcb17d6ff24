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
    from .tools import Tool

__version__ = "0.1.0"

__all__ = [
    "STT_SAMPLE_RATE", "AssistantError", "AudioChunk", "AudioError", "ChatRequest", "Cluster", "ContextOverflow",
    "Delta", "Engine", "EngineFailed", "FinetuneJob", "FinetuneStep", "Intent", "LanguageModel", "MemoryUse", "Message",
    "ModelError", "ModelTooLarge", "PluginContext", "PluginError",
    "PluginSettings", "Range", "ResourceProbe", "Route", "Segment", "Session", "SpeechToText", "TextToSpeech",
    "Tool", "ToolCall", "ToolError", "ToolSchema", "Transcript", "Transcription", "Verdict", "WakeWord", "Wildcard",
    "Words", "events", "hookimpl", "load_openblas",
]

_HOMES = ("blas", "engines", "errors", "hookspecs", "intents", "tools")
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
