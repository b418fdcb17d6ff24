"""Wake words of people's voices for less than a hundredth of a core each: microWakeWord, its models in the wheel.

Further phrases: a model's ``NAME.json`` and ``NAME.tflite`` in the plugin's data folder.
"""

from __future__ import annotations

from collections.abc import Iterable

from assistant import PluginContext, WakeWord, hookimpl


@hookimpl
def register_wake_words(context: PluginContext) -> Iterable[WakeWord]:
    """``hey_jarvis``, ``okay_nabu``, ``hey_mycroft``, ``alexa``, and what lies in the plugin's data folder."""
    from .detector import found

    return found(context.data_dir, context.log)
