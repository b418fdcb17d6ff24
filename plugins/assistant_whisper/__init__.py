"""Speech to text with Whisper on MLX."""

from __future__ import annotations

from collections.abc import Iterable

from assistant import SpeechToText, hookimpl


@hookimpl
def register_stt() -> Iterable[SpeechToText]:
    """The engine ``whisper``."""
    from .engine import Whisper

    yield Whisper()
