"""The loop without devices: frames from a recording, on the sample clock, as fast as the machine can."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import anyio.lowlevel

from .frames import FRAME, FRAME_BYTES, RATE, SILENCE, frames

if TYPE_CHECKING:
    from .front import FrontEnd
    from .loop import VoiceLoop
    from .playback import Playback

BREATH = 100
"""Frames after which other tasks get a turn at least once."""
REST_SECONDS = 1.0
"""Silence after a recording in which a wake word at its very end is still noticed."""
LONGEST_REST_SECONDS = 120.0
"""The most silence that an answer gets to be spoken to its end."""


def recorded(pcm: bytes, loop: VoiceLoop, playback: Playback) -> Iterator[bytes]:
    """The frames of a recording, and then silence until nothing goes on any more."""
    for start in range(0, len(pcm), FRAME_BYTES):
        yield pcm[start : start + FRAME_BYTES]
    resting = 0
    for _ in range(frames(LONGEST_REST_SECONDS)):
        resting = 0 if playback.sounding or loop.dialogue.state != "idle" else resting + 1
        if resting > frames(REST_SECONDS):
            return
        yield SILENCE


async def ticks(
    front: FrontEnd,
    loop: VoiceLoop,
    playback: Playback,
    microphone: Iterable[bytes],
    room: Callable[[bytes, bytes], bytes] = lambda near, played: near,
) -> AsyncIterator[bytes]:
    """Run the loop over the frames of a microphone; gives what the loudspeaker plays in each.

    The playback has the rate of the microphone, 16 kHz, and the loop is not ``live``.

    Args:
        microphone: frames of ``FRAME_BYTES``; a shorter last one is filled up with silence.
        room: what the microphone hears, of what is said to it and what is played in the same frame.
    """
    if playback.rate != RATE:
        raise ValueError(f"the playback has {playback.rate} samples per second, expected {RATE}")
    await loop.settled()
    for number, near in enumerate(microphone):
        played = playback.pull(FRAME)
        loop.take(front.process(room(near.ljust(FRAME_BYTES, b"\0"), played), played))
        await loop.settled()
        if number % BREATH == 0:
            await anyio.lowlevel.checkpoint()
        yield played
