"""The loudspeaker as a turn sees it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from assistant.engines import AudioChunk

    from .playback import Playback

AHEAD_SECONDS = 4.0
"""How much of an answer may wait to be played before the next sentence is synthesised."""


class Loudspeaking:
    """Speaks an answer through a ``Playback``; see ``turn.SpeechOutput``.

    Args:
        pulse: waits until some more of the sound may have been played.
    """

    def __init__(self, playback: Playback, pulse: Callable[[], Awaitable[None]]) -> None:
        self._playback = playback
        self._pulse = pulse
        self._heard: str | None = None
        self._full = self._complete = False

    @property
    def waits(self) -> bool:
        """The turn can do no more until more of the sound was played."""
        playing = self._heard is None and not self._playback.done
        return playing and (self._complete or (self._full and self._playback.buffered > AHEAD_SECONDS))

    def begin(self) -> None:
        """An answer begins."""
        if self._heard is None:
            self._playback.begin()

    async def room(self) -> None:
        """Wait until the next sentence is due."""
        self._full = True
        while self._heard is None and self._playback.buffered > AHEAD_SECONDS:
            await self._pulse()
        self._full = False

    def add(self, sentence: str, chunk: AudioChunk) -> None:
        """Play a chunk of a sentence after all that was added before."""
        if self._heard is None:
            self._playback.add(sentence, chunk)

    def end_sentence(self) -> None:
        """The sentence is complete."""
        if self._heard is None:
            self._playback.end_sentence()

    async def finish(self) -> None:
        """Wait until all of it was played."""
        if self._heard is None:
            self._playback.finish()
        self._complete = True
        while self._heard is None and not self._playback.done:
            await self._pulse()

    def stop(self) -> str:
        """Silence, once; the words that were really played, also when another answer is being played by now."""
        if self._heard is None:
            self._heard = self._playback.stop()
        return self._heard


def pull_at(playback: Playback, rate: int) -> Callable[[int], bytes]:
    """What a loudspeaker of another rate calls for sound; for one thread."""
    if rate == playback.rate:
        return playback.pull
    import numpy as np
    import soxr

    stream, waiting = soxr.ResampleStream(playback.rate, rate, 1, dtype="int16"), bytearray()

    def pull(count: int) -> bytes:
        while len(waiting) < 2 * count:
            missing = count - len(waiting) // 2
            pcm = playback.pull(max(1, round(missing * playback.rate / rate)))
            waiting.extend(stream.resample_chunk(np.frombuffer(pcm, np.int16)).tobytes())
        wanted = bytes(waiting[: 2 * count])
        del waiting[: 2 * count]
        return wanted

    return pull
