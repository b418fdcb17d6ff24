"""Keeps a loudspeaker open, which rests while there is nothing to play."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Literal

from assistant.errors import AudioError
from assistant.events import AudioTroubled, Event

from .health import RETRY_SECONDS, Backoff, Watch
from .loudspeaker import Loudspeaker, Pull

REST_SECONDS = 10.0
"""After so much silence the stream is stopped: a running one costs 1 to 2 % of a core and keeps the device awake."""
PLAYING_SECONDS = 2.0
"""A pause between two sentences is shorter."""

_HINT = "it is tried again by itself; until then the answers are not heard"


class LoudspeakerKeeper:
    """Used by the audio thread.

    Args:
        wanted: a part of the device's name; empty for the default.
        pull_factory: gives what is called for sound, for a rate in samples per second; called once for each rate.
        refresh: lets PortAudio look for devices again, if it can be done now.
        renewed: called when the sound begins anew, after opening or a rest.
    """

    def __init__(
        self,
        wanted: str,
        pull_factory: Callable[[int], Pull],
        publish: Callable[[Event], None],
        refresh: Callable[[], None],
        renewed: Callable[[], None],
    ) -> None:
        self.loudspeaker: Loudspeaker | None = None
        self._wanted = wanted
        self._pulls = cache(pull_factory)
        self._publish = publish
        self._refresh = refresh
        self._renewed = renewed
        self._watch = Watch()
        self._retry = Backoff(RETRY_SECONDS)
        self._troubled = False
        self._fresh = True
        self._underflows = 0

    @property
    def underflows(self) -> int:
        """How often there was a gap, whatever device was open."""
        return self._underflows + (self.loudspeaker.underflows if self.loudspeaker else 0)

    @property
    def playing(self) -> bool:
        """An answer would be interrupted now."""
        loudspeaker = self.loudspeaker
        return loudspeaker is not None and loudspeaker.running and loudspeaker.quiet_seconds < PLAYING_SECONDS

    def tend(self, now: float, *, wanted: bool, alone: bool) -> None:
        """Do what is due.

        Args:
            now: seconds of a clock that only goes forward.
            wanted: there is something to play, or will be soon.
            alone: no microphone is open, so that looking for devices again disturbs nobody.
        """
        if self.loudspeaker is None:
            if self._retry.due(now):
                self._open(now, alone)
        elif self.loudspeaker.running:
            self._look_after(now, self.loudspeaker, wanted)
        elif wanted:
            self._start(now, self.loudspeaker)

    def suspend(self) -> None:
        """Close it for a moment; the next look opens it."""
        if self.loudspeaker is not None:
            self._close()
            self._retry.reset()

    def hurry(self) -> None:
        """What failed may work now: try at the next look."""
        self._retry.reset()

    def stop(self) -> None:
        """Silence at once, and close it for good."""
        self._close()

    def _open(self, now: float, alone: bool) -> None:
        if self._troubled and (alone or not self._fresh):
            self._fresh = True
            self._refresh()
        loudspeaker = Loudspeaker(self._wanted, self._pulls)
        try:
            loudspeaker.open()
        except AudioError as error:
            self._say("gone", error.message, error.hint)
            self._retry.plan(now)
            return
        self.loudspeaker = loudspeaker

    def _start(self, now: float, loudspeaker: Loudspeaker) -> None:
        self._renewed()
        self._watch.restart(now)
        try:
            loudspeaker.start()
        except AudioError as error:
            self._fail(now, "gone", error.message, error.hint)

    def _look_after(self, now: float, loudspeaker: Loudspeaker, wanted: bool) -> None:
        if loudspeaker.failure is not None:
            raise loudspeaker.failure
        trouble = self._watch.judge(now, loudspeaker.blocks, ended=loudspeaker.ended)
        if trouble == "gone":
            self._fail(now, "gone", f'the loudspeaker "{loudspeaker.name}" is gone', _HINT)
        elif trouble:
            self._fail(now, "stalled", f'the loudspeaker "{loudspeaker.name}" takes no sound any more', _HINT)
        elif loudspeaker.blocks and self._troubled:
            self._troubled = False
            self._retry.reset()
        elif not wanted and loudspeaker.quiet_seconds > REST_SECONDS:
            loudspeaker.stop()

    def _fail(self, now: float, trouble: Literal["gone", "stalled"], message: str, hint: str) -> None:
        self._close()
        self._say(trouble, message, hint)
        self._fresh = False
        self._retry.plan(now)

    def _say(self, trouble: Literal["gone", "stalled"], message: str, hint: str) -> None:
        if not self._troubled:
            self._troubled = True
            self._publish(AudioTroubled(trouble=trouble, message=message, hint=hint))

    def _close(self) -> None:
        if self.loudspeaker is not None:
            self._underflows += self.loudspeaker.underflows
            loudspeaker, self.loudspeaker = self.loudspeaker, None
            loudspeaker.close()
