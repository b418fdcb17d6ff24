"""The public API for plugin authors: everything that a plugin needs is imported from here."""

from . import events
from .engines import (
    STT_SAMPLE_RATE,
    AudioChunk,
    ChatRequest,
    Delta,
    Engine,
    LanguageModel,
    Message,
    Segment,
    SpeechToText,
    TextToSpeech,
    ToolCall,
    ToolSchema,
    Transcript,
    Transcription,
)
from .errors import AssistantError, AudioError, ContextOverflow, EngineFailed, ModelError, PluginError, ToolError
from .hookspecs import PluginContext, PluginSettings, ResourceProbe, Route, Session, Verdict, WakeWord, hookimpl
from .intents import Intent, Range, Wildcard, Words
from .tools import Tool

__version__ = "0.1.0"

__all__ = [
    "STT_SAMPLE_RATE", "AssistantError", "AudioChunk", "AudioError", "ChatRequest", "ContextOverflow", "Delta",
    "Engine", "EngineFailed", "Intent", "LanguageModel", "Message", "ModelError", "PluginContext", "PluginError",
    "PluginSettings", "Range", "ResourceProbe", "Route", "Segment", "Session", "SpeechToText", "TextToSpeech",
    "Tool", "ToolCall", "ToolError", "ToolSchema", "Transcript", "Transcription", "Verdict", "WakeWord", "Wildcard",
    "Words", "events", "hookimpl",
]
