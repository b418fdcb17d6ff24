"""A timeline on its way into the microphone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from assistant.voice.frames import FRAME_BYTES, SILENCE, frames

from .audio import frames_of, mix
from .result import Noted
from .timeline import Rendered, Section, Utterance, moved

CALM = frames(0.3)
"""Nothing must be going on for so long before a run ends."""


class Script:
    """A rendered timeline as frames, section by section; the next frame is asked for when the last one has had its
    effect.

    Args:
        clock: seconds of audio so far.
        noted: the events so far; it grows.
        calm: whether nothing goes on.
        rest: seconds after the timeline until it ends in any case.
    """

    def __init__(
        self,
        rendered: Rendered,
        clock: Callable[[], float],
        noted: Sequence[Noted],
        calm: Callable[[], bool],
        rest: float,
    ) -> None:
        self._clock = clock
        self._noted = noted
        self._calm = calm
        self._rendered = rendered
        self._rest = rest
        self._background = frames_of(rendered.background)
        self._at = 0
        self.said: list[Utterance] = []
        """What was heard so far, and when it really was."""
        self.missed = ""
        """What was waited for in vain."""

    def frames(self) -> Iterator[bytes]:
        """What is in the room, frame by frame."""
        for section in self._rendered.sections:
            yield from self._waiting(section)
            if self.missed:
                return
            self.said += [moved(one, self._clock()) for one in section.utterances]
            for frame in frames_of(section.pcm):
                yield self._over(frame)
        yield from self._resting()

    def _waiting(self, section: Section) -> Iterator[bytes]:
        when = section.when
        if when is None:
            return
        seen, left = len(self._noted), frames(when.within)
        while not any(when.matches(one.event) for one in self._noted[seen:]):
            if not left:
                self.missed = f"the timeline waited {when.within} s for {when.what} in vain"
                return
            seen, left = len(self._noted), left - 1
            yield self._over(SILENCE)
        for _ in range(frames(when.after)):
            yield self._over(SILENCE)

    def _resting(self) -> Iterator[bytes]:
        calm, left = 0, frames(self._rest)
        while calm < CALM and left > 0:
            yield self._over(SILENCE)
            calm, left = calm + 1 if self._calm() else 0, left - 1

    def _over(self, frame: bytes) -> bytes:
        under = self._background[self._at % len(self._background)] if self._background else SILENCE
        self._at += 1
        return mix(frame, under)[:FRAME_BYTES]
