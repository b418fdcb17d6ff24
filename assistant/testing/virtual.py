"""The virtual full-duplex device: a microphone that hears what a test says and a loudspeaker that keeps what it plays.

It runs on the sample clock: a tick is a frame of 10 ms, and the next one begins when all that the last one led to has
happened, however long the machine takes for that.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from assistant.voice.frames import FRAME_BYTES, FRAME_SECONDS
from assistant.voice.virtual import ticks

from .audio import EchoPath, frames_of, mix

if TYPE_CHECKING:
    from assistant.voice.front import FrontEnd
    from assistant.voice.loop import VoiceLoop
    from assistant.voice.playback import Playback


class VirtualAudio:
    """Both devices, at 16 kHz.

    Args:
        loop: made with ``tell``, and running.
        echo: how the loudspeaker is heard by the microphone; None: not at all.
    """

    def __init__(self, front: FrontEnd, loop: VoiceLoop, playback: Playback, echo: EchoPath | None = None) -> None:
        self.front = front
        self.loop = loop
        self.playback = playback
        self.echo = echo
        self.output = bytearray()
        """Everything that the loudspeaker played: 16-bit mono."""
        self.microphone = bytearray()
        """Everything that the microphone heard, the echo included."""

    @property
    def clock(self) -> float:
        """Seconds of audio since it began, the frame at work included."""
        return round(len(self.microphone) // FRAME_BYTES * FRAME_SECONDS, 2)

    async def run(self, room: Iterable[bytes]) -> None:
        """Go on as long as there are frames.

        Args:
            room: what is in the room besides the loudspeaker; the next frame is asked for when all that came of the
                last one has happened.
        """
        async for block in ticks(self.front, self.loop, self.playback, room, self._hear):
            self.output += block

    async def play(self, pcm: bytes) -> None:
        """A whole piece of audio into the microphone."""
        await self.run(frames_of(pcm))

    def _hear(self, near: bytes, played: bytes) -> bytes:
        heard = mix(near, self.echo.process(played)) if self.echo is not None else near
        self.microphone += heard
        return heard
