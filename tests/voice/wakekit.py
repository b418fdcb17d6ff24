"""Audio for wake words, and a detector whose scores are written in the audio itself."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from assistant import WakeWord
from assistant.voice import audio_files
from assistant.voice.frames import FRAME, FRAME_BYTES, WakeHit
from assistant.voice.wake import WakeSpotter

DATA = Path(__file__).parent.parent / "data"


class Reader(WakeWord):
    """Scores a frame by its last sample, in thousandths; remembers what it was given.

    Args:
        place: which of the last samples is its own, so that several can be told different things.
    """

    def __init__(
        self, name: str = "hey_jarvis", phrase: str = "hey jarvis", *, samples: int = FRAME, threshold: float = 0.5,
        costly: bool = False, place: int = 1,
    ) -> None:  # fmt: skip
        self.name, self.phrase = name, phrase
        self.frame_samples, self.threshold, self.costly = samples, threshold, costly
        self.place = place
        self.heard: list[bytes] = []
        self.state = "new"
        self.resets = 0

    def load(self) -> None:
        """Be ready."""
        self.state = "loaded"

    def score(self, frame: bytes) -> float:
        """What the frame says."""
        assert len(frame) == self.frame_samples * 2
        self.heard.append(frame)
        at = len(frame) - 2 * self.place
        found: int = struct.unpack_from("<h", frame, at)[0]
        return found / 1000

    def reset(self) -> None:
        """Count it."""
        self.resets += 1

    def close(self) -> None:
        """Be closed."""
        self.state = "closed"


def frame(*scores: float) -> bytes:
    """A frame that says a score for the reader at place 1, one for that at place 2, and so on."""
    values = [round(1000 * score) for score in reversed(scores)]
    return bytes(FRAME_BYTES - 2 * len(values)) + struct.pack(f"<{len(values)}h", *values)


def hits(
    spotter: WakeSpotter, audio: Iterable[bytes], *, speech: float = 1.0, own_text: str = "", start: int = 0
) -> list[tuple[int, WakeHit]]:
    """All hits, each with the number of its frame."""
    return [
        (clock, hit)
        for clock, pcm in enumerate(audio, start + 1)
        for hit in spotter.process(pcm, speech=speech, own_text=own_text)
    ]


def recording(name: str, before: float = 1.0, after: float = 1.0) -> Iterator[bytes]:
    """Frames of a recording between silence, in seconds."""
    pcm = bytes(round(before * 16_000) * 2) + audio_files.read(DATA / name).pcm + bytes(round(after * 16_000) * 2)
    for at in range(0, len(pcm) - FRAME_BYTES + 1, FRAME_BYTES):
        yield pcm[at : at + FRAME_BYTES]
