"""The voices of macOS, through its ``say`` program."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from msgspec import Meta

from assistant import PluginContext, PluginSettings, TextToSpeech, hookimpl


class SaySettings(PluginSettings, frozen=True, kw_only=True):
    """``[plugins.say]`` in config.toml."""

    program: str = "/usr/bin/say"
    """The program that speaks."""
    voice: str = ""
    """The voice when none is asked for; empty is the one chosen in System Settings. ``say -v ?`` lists them."""
    speed: Annotated[int, Meta(ge=0, le=720)] = 0
    """Words per minute; 0 is the voice's own."""


@hookimpl
def plugin_settings() -> type[PluginSettings]:
    """The type of ``[plugins.say]``."""
    return SaySettings


@hookimpl
def register_tts(context: PluginContext) -> Iterable[TextToSpeech]:
    """The engine ``say``."""
    from .engine import Say

    assert isinstance(context.settings, SaySettings)
    yield Say(context.settings)
