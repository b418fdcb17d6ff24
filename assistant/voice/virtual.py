"""The loop without devices: frames from a recording, on the sample clock, as fast as the machine can."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING

import anyio.lowlevel

from .frames import FRAME, FRAME_BYTES, RATE

if TYPE_CHECKING:
    from .front import FrontEnd
    from .loop import VoiceLoop
    from .playback import Playback

BREATH = 100
"""Frames after which other tasks get a turn at least once."""


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
