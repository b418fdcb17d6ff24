"""An utterance on its way through Whisper: windows, drafts, and what is not believed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from assistant import STT_SAMPLE_RATE, Segment, Transcript, Transcription

from .inventions import invented
from .loudness import Loudness, loudness

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WINDOW_SECONDS = 28
"""As soon as so much has been heard it is transcribed; what Whisper hears at a time is 30 s."""

EARLIEST_CUT_SECONDS = 18
"""Between this and the end of the window it is cut where it is quietest."""

QUIET_SECONDS = 0.2
"""Length of the stretch that is looked for to cut in."""

SILENCE_RMS = 33
"""-60 dBFS: Whisper invents text for what is softer, so it is not asked."""

NO_SPEECH, IMPROBABLE, REPETITIVE = 0.6, -1.0, 2.4
"""Whisper's own thresholds (``whisper/transcribe.py``) of no-speech probability, mean log-probability, compression."""

PARTIAL_SECONDS = 1.0
"""A partial transcript is made of at least so much new audio, and of twice the time that the last run took: more than
half of the device's time is left, and a speaker is never waited for."""

SLOWEST_PARTIAL = 0.5
"""Seconds of a run above which there are no partial transcripts: the end of the speech would wait for one."""

LIVE_BYTES = STT_SAMPLE_RATE
"""Half a second: what comes in larger pieces is a file, or has waited already, and gets no partial transcripts."""


class Engine(Protocol):
    """What an utterance needs of its engine."""

    seconds: float
    """How long the last run took; infinite before the first."""

    def window(self, samples: NDArray[np.float32], language: str) -> dict[str, Any]:
        """One run on at most 30 s."""
        ...


@dataclass(frozen=True)
class _Window:
    """What a run made of the first ``count`` samples of what is held."""

    count: int
    segments: tuple[Segment, ...]
    text: str
    language: str
    quiet: float
    """RMS up to which what follows is no speech."""


class WhisperTranscription(Transcription):
    """An utterance of any length: whole windows are transcribed while it comes, so each step is one window's work."""

    def __init__(self, engine: Engine, language: str) -> None:
        self._engine = engine
        self._language = language
        self._heard = bytearray()
        self._done = 0
        self._segments: list[Segment] = []
        self._text = ""
        self._last: _Window | None = None
        self._shown = ""

    def feed(self, pcm: bytes) -> str | None:
        """See ``Transcription``. A partial transcript comes about once a second where Whisper is quick, and always
        when a window is full.
        """
        self._heard += pcm
        grown = False
        while len(self._heard) >= WINDOW_SECONDS * STT_SAMPLE_RATE * 2:
            self._complete(_quietest(self._heard))
            grown = True
        if not grown and not self._partial_is_due(len(pcm)):
            return None
        text = self._text if grown else self._text + self._window().text
        if text.strip() == self._shown:
            return None
        self._shown = text.strip()
        return self._shown

    def draft(self) -> Transcript:
        """See ``Transcription``: one run, or none if nobody spoke since the last."""
        window = self._window()
        return Transcript(
            text=(self._text + window.text).strip(),
            language=self._language or window.language,
            segments=(*self._segments, *window.segments),
            seconds=(self._done + len(self._heard) // 2) / STT_SAMPLE_RATE,
        )

    def finish(self) -> Transcript:
        """See ``Transcription``: the last draft if nobody spoke since, else one more run on the last window."""
        return self.draft()

    def _partial_is_due(self, size: int) -> bool:
        fresh = len(self._heard) // 2 - (self._last.count if self._last else 0)
        took = self._engine.seconds
        pace = max(PARTIAL_SECONDS, 2 * took) * STT_SAMPLE_RATE
        return took <= SLOWEST_PARTIAL and size < LIVE_BYTES and fresh >= pace

    def _window(self) -> _Window:
        """What is held, transcribed; the last run's result where it still holds."""
        last, count = self._last, len(self._heard) // 2
        if last is None or (last.count < count and loudness(self._samples(last.count, count)).peak > last.quiet):
            last = self._last = self._run(count)
        return last

    def _complete(self, count: int) -> None:
        """Transcribe the first ``count`` samples for good."""
        window = self._run(count)
        self._language = self._language or window.language
        self._segments += window.segments
        self._text += window.text
        self._done += count
        self._last = None
        del self._heard[: count * 2]

    def _samples(self, begin: int, end: int) -> NDArray[np.float32]:
        import numpy as np

        return np.frombuffer(bytes(self._heard[begin * 2 : end * 2]), "<i2").astype(np.float32)

    def _run(self, count: int) -> _Window:
        samples = self._samples(0, count)
        level = loudness(samples)
        if level.peak < SILENCE_RMS:
            return _Window(count, (), "", "", max(SILENCE_RMS, level.quiet))
        result = self._engine.window(samples / 32768.0, self._language)
        begin, end = self._done / STT_SAMPLE_RATE, (self._done + count) / STT_SAMPLE_RATE
        segments, whole = [], ""
        for one in result["segments"]:
            text = one["text"].strip()
            if text and _believable(one, level):
                start = min(begin + max(float(one["start"]), 0.0), end)
                stop = min(max(begin + float(one["end"]), start), end)
                segments.append(Segment(start=start, end=stop, text=text))
                whole += one["text"]
        return _Window(count, tuple(segments), whole, result["language"], max(SILENCE_RMS, level.quiet))


def _believable(segment: dict[str, Any], level: Loudness) -> bool:
    """Whether it was said, and not invented for silence or noise."""
    no_speech = float(segment["no_speech_prob"])
    if segment["compression_ratio"] > REPETITIVE or (no_speech > NO_SPEECH and segment["avg_logprob"] < IMPROBABLE):
        return False
    return not invented(segment["text"], no_speech, level)


def _quietest(pcm: bytearray) -> int:
    """Samples until the middle of the quietest stretch of the window's last third."""
    import numpy as np

    size = int(QUIET_SECONDS * STT_SAMPLE_RATE)
    first, last = EARLIEST_CUT_SECONDS * STT_SAMPLE_RATE, WINDOW_SECONDS * STT_SAMPLE_RATE
    stretches = np.frombuffer(bytes(pcm[first * 2 : last * 2]), "<i2").astype(np.float32).reshape(-1, size)
    return first + int(np.argmin((stretches**2).mean(axis=1))) * size + size // 2
