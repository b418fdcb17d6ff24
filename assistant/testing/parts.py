"""What a harness puts in where the test brings nothing of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assistant.config import Settings

from .activity import Activity, LoudnessActivity, NoEchoCanceller
from .audio import EchoPath

if TYPE_CHECKING:
    from assistant.voice.smart_turn import SmartTurn


def canceller_for(settings: Settings, echo: EchoPath | None) -> Any:
    """The assistant's own canceller where there is an echo, else none."""
    if echo is None:
        return NoEchoCanceller()
    from assistant.voice.echo import EchoCanceller

    return EchoCanceller(settings.voice.echo)


def activity_for(wanted: Activity | Path | None) -> Any:
    """What finds speech: what is given, Silero's model in a folder, or the loudness."""
    if not isinstance(wanted, Path):
        return wanted or LoudnessActivity()
    from assistant.voice.activity import VoiceActivity

    return VoiceActivity(wanted)


def turns_for(wanted: SmartTurn | Path | None) -> SmartTurn | None:
    """What judges pauses: what is given, or the model in a folder."""
    if not isinstance(wanted, Path):
        return wanted
    from assistant.voice.smart_turn import SmartTurn

    return SmartTurn(wanted)


@contextmanager
def alone() -> Iterator[None]:
    """An error that is alone in its groups comes out of them, so that a test fails with what failed."""
    try:
        yield
    except BaseExceptionGroup as group:
        found: BaseException = group
        while isinstance(found, BaseExceptionGroup) and len(found.exceptions) == 1:
            found = found.exceptions[0]
        if found is group or isinstance(found, BaseExceptionGroup):
            raise
        raise found from found.__cause__
