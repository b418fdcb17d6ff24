"""A plugin made of the objects it offers, for ``VoiceHarness(plugins=…)``."""

from __future__ import annotations

from collections.abc import Iterable

from assistant.engines import Engine, LanguageModel, SpeechToText, TextToSpeech
from assistant.hookspecs import PluginContext, WakeWord, hookimpl
from assistant.intents import Intent
from assistant.tools import Tool

Offer = Engine | Tool | Intent | WakeWord


class OfferingPlugin:
    """Offers engines, tools, intents and wake words, whichever it is given."""

    def __init__(self, *offers: Offer) -> None:
        self.offers = offers

    @hookimpl
    def register_stt(self, context: PluginContext) -> Iterable[SpeechToText]:
        """Its recognisers."""
        return [one for one in self.offers if isinstance(one, SpeechToText)]

    @hookimpl
    def register_llm(self, context: PluginContext) -> Iterable[LanguageModel]:
        """Its language models."""
        return [one for one in self.offers if isinstance(one, LanguageModel)]

    @hookimpl
    def register_tts(self, context: PluginContext) -> Iterable[TextToSpeech]:
        """Its voices."""
        return [one for one in self.offers if isinstance(one, TextToSpeech)]

    @hookimpl
    def register_wake_words(self, context: PluginContext) -> Iterable[WakeWord]:
        """Its wake words."""
        return [one for one in self.offers if isinstance(one, WakeWord)]

    @hookimpl
    def register_tools(self, context: PluginContext) -> Iterable[Tool]:
        """Its tools."""
        return [one for one in self.offers if isinstance(one, Tool)]

    @hookimpl
    def register_intents(self, context: PluginContext) -> Iterable[Intent]:
        """Its intents."""
        return [one for one in self.offers if isinstance(one, Intent)]
