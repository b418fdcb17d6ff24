"""The test kit for plugin authors: speech into a virtual microphone, events and a spoken answer out; no devices, no
models, no clock but the samples'. See ``docs/voice-testing.md``.

A name is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import audio
    from .activity import LoudnessActivity, NoEchoCanceller
    from .audio import EchoPath, Speech, Word, synthesise
    from .engines import ScriptedLanguageModel, ScriptedSpeechToText, call
    from .known import KnownSpeechToText
    from .plugin import OfferingPlugin
    from .result import HarnessResult
    from .timeline import Rendered, Timeline, Utterance
    from .tones import PlayedWord, ScriptedWakeWord, ToneTextToSpeech, played_words, wake_sound, words_in
    from .virtual import VirtualAudio
    from .voice import VoiceHarness, run_voice

__all__ = [
    "EchoPath", "HarnessResult", "KnownSpeechToText", "LoudnessActivity", "NoEchoCanceller", "OfferingPlugin",
    "PlayedWord", "Rendered", "ScriptedLanguageModel", "ScriptedSpeechToText", "ScriptedWakeWord", "Speech",
    "Timeline", "ToneTextToSpeech", "Utterance", "VirtualAudio", "VoiceHarness", "Word", "audio", "call",
    "played_words", "run_voice", "synthesise", "wake_sound", "words_in",
]

_HOMES = {
    "activity": ("LoudnessActivity", "NoEchoCanceller"),
    "audio": ("EchoPath", "Speech", "Word", "synthesise"),
    "engines": ("ScriptedLanguageModel", "ScriptedSpeechToText", "call"),
    "known": ("KnownSpeechToText",),
    "plugin": ("OfferingPlugin",),
    "result": ("HarnessResult",),
    "timeline": ("Rendered", "Timeline", "Utterance"),
    "tones": ("PlayedWord", "ScriptedWakeWord", "ToneTextToSpeech", "played_words", "wake_sound", "words_in"),
    "virtual": ("VirtualAudio",),
    "voice": ("VoiceHarness", "run_voice"),
}


def __getattr__(name: str) -> object:
    """Load a public name (PEP 562)."""
    if name == "audio":
        return import_module(".audio", __name__)
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f".{home}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
