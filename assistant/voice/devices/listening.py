"""Keeps a microphone open: notices trouble, says so once, and opens it again."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Literal

from assistant.errors import AudioError
from assistant.events import AudioTroubled, Event, ListeningStarted, ListeningStopped

from .health import RETRY_SECONDS, SILENT_RETRY_SECONDS, Backoff, Trouble, Watch
from .microphone import Microphone

MicrophoneState = Literal["open", "muted", "closed", "lost"]
"""``lost``: it is in trouble; it is tried again by itself."""

OVERFLOW_LIMIT = 10
"""So many losses of sound in ``OVERFLOW_SECONDS`` are said aloud: wake words are missed by then."""
OVERFLOW_SECONDS = 10.0

_SILENT_HINTS = {
    "darwin": "allow it in System Settings > Privacy & Security > Microphone for the program that runs the assistant"
    " (the terminal, if you started it there) and start it again; or the microphone's own switch says mute",
    "linux": "it is muted: look at its own switch, and at the input in the system's sound settings",
}
_HINTS: dict[Trouble, str] = {
    "gone": "plug it in again, or choose another by [voice] input_device; it is tried again by itself",
    "stalled": "it is opened again by itself; if that does not help, unplug it and plug it in again",
    "silent": _SILENT_HINTS.get(sys.platform, _SILENT_HINTS["linux"]),
}
_MESSAGES: dict[Trouble, str] = {
    "gone": 'the microphone "{name}" is gone',
    "stalled": 'the microphone "{name}" delivers nothing any more',
    "silent": 'the microphone "{name}" delivers nothing but zeros',
}


class MicrophoneKeeper:
    """Used by the audio thread.

    Args:
        wanted: a part of the device's name; empty for the default.
        refresh: lets PortAudio look for devices again, if it can be done now.
    """

    def __init__(self, wanted: str, publish: Callable[[Event], None], refresh: Callable[[], None]) -> None:
        self.microphone: Microphone | None = None
        self.state: MicrophoneState = "closed"
        self.name = ""
        """Of the device that is open, or was last."""
        self._wanted = wanted
        self._publish = publish
        self._refresh = refresh
        self._watch = Watch()
        self._retry = Backoff(RETRY_SECONDS)
        self._silent_retry = Backoff(SILENT_RETRY_SECONDS)
        self._troubles: set[Trouble] = set()
        self._announced: tuple[str, int] | None = None
        self._overflows = 0
        self._window = (0.0, 0)
        self._overflow_said = False

    @property
    def overflows(self) -> int:
        """How often sound was lost, whatever device was open."""
        return self._overflows + (self.microphone.overflows if self.microphone else 0)

    def tend(self, now: float, *, muted: bool) -> None:
        """Do what is due; ``now`` is in seconds of a clock that only goes forward."""
        if muted:
            self._mute()
        elif self.microphone is None:
            if self._retry.due(now):
                self._open(now)
        else:
            self._look_after(now, self.microphone)

    def suspend(self) -> None:
        """Close it for a moment; the next look opens it, and nothing is said if it is the same then."""
        if self.microphone is not None:
            self._close()
            self._retry.reset()

    def hurry(self) -> None:
        """What failed may work now: try at the next look."""
        self._retry.reset()

    def stop(self) -> None:
        """Close it for good."""
        self._close()
        if self.state == "open":
            self._publish(ListeningStopped(reason="stopped"))
        self.state = "closed"

    def _mute(self) -> None:
        if self.state != "muted":
            self._close()
            self._settle()
            self.state, self._announced = "muted", None
            self._publish(ListeningStopped(reason="muted"))

    def _open(self, now: float) -> None:
        if self._troubles:
            self._refresh()
        microphone = Microphone(self._wanted)
        try:
            microphone.open()
        except AudioError as error:
            self._say(now, "gone", error.message, error.hint)
            self._retry.plan(now)
            return
        self.microphone, self.name = microphone, microphone.name
        self._watch.restart(now)
        if not self._troubles:
            self._start(microphone)

    def _look_after(self, now: float, microphone: Microphone) -> None:
        trouble = self._watch.judge(
            now, microphone.blocks, ended=microphone.ended, zeros=microphone.zeros_seconds
        )
        if trouble:
            self._say(now, trouble, _MESSAGES[trouble].format(name=self.name), _HINTS[trouble])
            retry = self._silent_retry if trouble == "silent" else self._retry
            if trouble != "silent" or retry.due(now):
                self._close()
                retry.plan(now)
        elif self._troubles and microphone.sounded and microphone.zeros_seconds == 0:
            if "silent" in self._troubles:
                self._watch.returned()
            self._settle()
            self._start(microphone)
        self._note_overflows(now)

    def _start(self, microphone: Microphone) -> None:
        device = (microphone.name, microphone.sample_rate)
        if self.state != "open" or device != self._announced:
            self.state, self._announced = "open", device
            self._publish(ListeningStarted(device=microphone.name, sample_rate=microphone.sample_rate))

    def _say(self, now: float, trouble: Trouble, message: str, hint: str) -> None:
        if self.state == "open":
            self._publish(ListeningStopped(reason="lost"))
        self.state = "lost"
        if trouble not in self._troubles:
            self._troubles.add(trouble)
            self._publish(AudioTroubled(trouble=trouble, message=message, hint=hint))

    def _settle(self) -> None:
        self._troubles.clear()
        self._retry.reset()
        self._silent_retry.reset()

    def _close(self) -> None:
        if self.microphone is not None:
            self._overflows += self.microphone.overflows
            microphone, self.microphone = self.microphone, None
            microphone.close()

    def _note_overflows(self, now: float) -> None:
        since, count = self._window
        if now - since < OVERFLOW_SECONDS:
            return
        self._window = (now, self.overflows)
        often = self.overflows - count >= OVERFLOW_LIMIT
        if often and not self._overflow_said:
            self._publish(AudioTroubled(
                trouble="overflow", message=f'sound of the microphone "{self.name}" is lost again and again',
                hint="this machine is too busy to listen to all of it: end other work",
            ))
        self._overflow_said = often
