"""English speech to text with Moonshine, on the CPU."""

from __future__ import annotations

from collections.abc import Iterable

from assistant import SpeechToText, hookimpl


@hookimpl
def register_stt() -> Iterable[SpeechToText]:
    """The engine ``moonshine``."""
    from .engine import Moonshine

    yield Moonshine()
