"""The microphone and the loudspeaker together: they share PortAudio's list of devices."""

from __future__ import annotations

from collections.abc import Callable

from assistant.events import Event

from . import ports, system
from .listening import MicrophoneKeeper
from .loudspeaker import Pull
from .pairing import Pairing
from .playing import LoudspeakerKeeper

LOOK_SECONDS = 2.0
"""How often the system is asked whether its devices have changed."""


class Keeper:
    """Used by the audio thread; see ``MicrophoneKeeper`` and ``LoudspeakerKeeper``."""

    def __init__(
        self,
        input_device: str,
        output_device: str,
        pull_factory: Callable[[int], Pull],
        publish: Callable[[Event], None],
    ) -> None:
        self.pairing = Pairing()
        self.input = MicrophoneKeeper(input_device, publish, self._refresh)
        self.output = LoudspeakerKeeper(output_device, pull_factory, publish, self._refresh, self.pairing.clear)
        self._follows = system.FOLLOWS_DEFAULT and not (input_device and output_device)
        self._fingerprint = system.fingerprint()
        self._looked = 0.0
        self._changed = False
        self._lost = 0

    def tend(self, now: float, *, muted: bool, wanted: bool) -> None:
        """Do what is due.

        Args:
            now: seconds of a clock that only goes forward.
            muted: the microphone shall be closed.
            wanted: there is something to play, or will be soon.
        """
        self._look(now)
        self.input.tend(now, muted=muted)
        self.output.tend(now, wanted=wanted, alone=self.input.microphone is None)

    def collect(self) -> None:
        """Take what was played until now."""
        lost = self.input.overflows + self.output.underflows
        if lost != self._lost:
            self._lost = lost
            self.pairing.realign()
        loudspeaker = self.output.loudspeaker
        while loudspeaker is not None and (far := loudspeaker.read_far()) is not None:
            self.pairing.add(far, loudspeaker.far_at)

    def stop(self) -> None:
        """Close both."""
        self.input.stop()
        self.output.stop()

    def _look(self, now: float) -> None:
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            fingerprint = system.fingerprint()
            if fingerprint != self._fingerprint:
                self._fingerprint = fingerprint
                missing = self.input.microphone is None or self.output.loudspeaker is None
                self._changed = self._changed or self._follows or missing
        if self._changed and not self.output.playing:
            self._changed = False
            self._refresh()
            self.input.hurry()
            self.output.hurry()

    def _refresh(self) -> None:
        """Both are closed for it, and opened by the next look; not while an answer is being played."""
        if not self.output.playing:
            self.input.suspend()
            self.output.suspend()
            ports.refresh()
