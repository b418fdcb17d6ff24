"""A voice that needs no download: eSpeak NG.

The library is GPL-3.0; it is loaded at run time, into the process of the ``cpu`` lane.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from msgspec import Meta

from assistant import PluginContext, PluginSettings, TextToSpeech, hookimpl


class EspeakSettings(PluginSettings, frozen=True, kw_only=True):
    """``[plugins.espeak]``."""

    voice: str = "en-us"
    """The voice when none is asked for; ``espeak-ng --voices`` lists them."""
    speed: Annotated[int, Meta(ge=80, le=450)] = 170
    """Words per minute."""


@hookimpl
def plugin_settings() -> type[PluginSettings]:
    """The type of ``[plugins.espeak]``."""
    return EspeakSettings


@hookimpl
def register_tts(context: PluginContext) -> Iterable[TextToSpeech]:
    """The engine ``espeak``."""
    from .engine import Espeak

    assert isinstance(context.settings, EspeakSettings)
    yield Espeak(voice=context.settings.voice, speed=context.settings.speed)
