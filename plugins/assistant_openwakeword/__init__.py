"""A second opinion on wake words: openWakeWord, which also hears synthetic voices, for an eighth of a core each.

Its models are CC BY-NC-SA 4.0, for non-commercial use: the package ``pyopen-wakeword`` is installed only on request.
"""

from __future__ import annotations

from collections.abc import Iterable

from assistant import WakeWord, hookimpl


@hookimpl
def register_wake_words() -> Iterable[WakeWord]:
    """``open_hey_jarvis``, ``open_okay_nabu``, ``open_hey_mycroft``, ``open_alexa``, ``open_hey_rhasspy``."""
    from .detector import NAMES, OpenWake

    return [OpenWake(name) for name in NAMES]
