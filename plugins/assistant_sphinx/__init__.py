"""Speech to text without a download: PocketSphinx and the English model in its wheel, a stop-gap."""

from __future__ import annotations

from collections.abc import Iterable

from assistant import SpeechToText, hookimpl


@hookimpl
def register_stt() -> Iterable[SpeechToText]:
    """The engine ``sphinx``."""
    from .engine import Sphinx

    yield Sphinx()
