"""Dictation and commands with PocketSphinx."""

from __future__ import annotations

import importlib.util
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from assistant import STT_SAMPLE_RATE, EngineFailed, Segment, SpeechToText, Transcript, Transcription

from .decoding import Decoder, Heard, Word
from .grammar import Grammar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STEP_SAMPLES = STT_SAMPLE_RATE // 10
"""What is searched at a time, and looked at for a pause."""

NOISE_RMS, DITHER_RMS = 104, 2
"""-50 dBFS of noise is added when there is a grammar: it then hears 137 and not 85 of 170 synthetic commands exactly.
Dictation gets -84 dBFS, against digital silence, which breaks the front end; more would cost it words."""

SILENCE_RMS = 104
"""A step that is no louder holds no speech."""

LEAD_STEPS = 5
"""What is kept of the silence before speech."""

MEAN_STEPS, LONGEST_WAIT = 10, 30
"""So many steps with sound, or so many in all, are waited for to know the voice's cepstral mean."""

SHORTEST_STRETCH, LONGEST_STRETCH = 8 * STT_SAMPLE_RATE, 20 * STT_SAMPLE_RATE
"""Long audio is cut into stretches between these, at the first pause: the search's memory grows with its length."""

PAUSE_SHARE = 0.1
"""A step with less than this share of the stretch's RMS is a pause."""

PARTIAL_STEPS = 5
"""Steps between two partial transcripts."""

SEGMENT_WORDS, SEGMENT_PAUSE = 8, 0.5
"""A segment, for subtitles, ends after so many words or at so many seconds of silence."""


class Sphinx(SpeechToText):
    """English only, offline, small: good for commands it is told of, poor at free dictation."""

    name = "sphinx"
    lane = "cpu"
    rank = 1

    def __init__(self) -> None:
        self._free: list[Decoder] = []
        self._grammars: list[Grammar] = []
        self._noise: NDArray[np.float32] | None = None

    def available(self) -> str:
        """The package pocketsphinx is missing."""
        if importlib.util.find_spec("pocketsphinx") is None:
            return "PocketSphinx is not installed: `pip install pocketsphinx`"
        return ""

    def load(self, model: Path | None) -> None:
        """Read the wheel's model: 0.3 s, 90 MB."""
        import numpy as np

        self._noise = np.random.default_rng(0).normal(0, 1, STT_SAMPLE_RATE).astype(np.float32)
        self._free = [Decoder()]

    def open(self, language: str, phrases: tuple[str, ...]) -> Transcription:
        """See ``SpeechToText``. The grammar of the phrases is kept for the next utterance with the same ones.

        Raises:
            EngineFailed: another language than English.
        """
        if self._noise is None:
            raise EngineFailed("sphinx was not loaded")
        if language and language.replace("_", "-").partition("-")[0].lower() != "en":
            raise EngineFailed(
                f"sphinx understands English only, not {language!r}", hint="choose another engine in [stt]"
            )
        free = self._free.pop() if self._free else Decoder()
        grammar = self._grammar(phrases) if phrases else None
        utterance = SphinxTranscription(free, grammar if grammar and grammar.sentences else None, self._noise)
        weakref.finalize(utterance, self._give_back, free, grammar)
        return utterance

    def close(self) -> None:
        """Give the models' memory back."""
        self._free, self._grammars, self._noise = [], [], None

    def _grammar(self, phrases: tuple[str, ...]) -> Grammar:
        self._grammars = [grammar for grammar in self._grammars if grammar.phrases == phrases]
        return self._grammars.pop() if self._grammars else Grammar(phrases)

    def _give_back(self, free: Decoder, grammar: Grammar | None) -> None:
        if self._noise is not None:
            self._free = [free]
            self._grammars = [grammar] if grammar else self._grammars


class SphinxTranscription(Transcription):
    """An utterance: free dictation throughout and, as long as it may be a command, the grammar beside it."""

    def __init__(self, free: Decoder, grammar: Grammar | None, noise: NDArray[np.float32]) -> None:
        self._free = free
        self._grammar = grammar
        self._noise = noise * (NOISE_RMS if grammar else DITHER_RMS)
        self._rest = bytearray()
        self._held: list[NDArray[np.float32]] = []
        self._mean = ""
        self._live = False
        self._begun = 0
        self._done = 0
        self._power = 0.0
        self._words: list[Word] = []
        self._shown = ""
        self._searched = bytearray()
        self._drafted: Heard | None = None
        self._sure = False

    def feed(self, pcm: bytes) -> str | None:
        """See ``Transcription``."""
        self._rest += pcm
        size = STEP_SAMPLES * 2
        steps = len(self._rest) // size
        for step in range(steps):
            self._step(bytes(self._rest[step * size : (step + 1) * size]))
        del self._rest[: steps * size]
        if not steps or (self._done // STEP_SAMPLES) % PARTIAL_STEPS >= steps:
            return None
        now = self._free.partial().split() if self._live else []
        text = " ".join([*(word.text for word in self._words), *now])
        if text == self._shown:
            return None
        self._shown = text
        return text

    def draft(self) -> Transcript | None:
        """See ``Transcription``: a sentence of the grammar, in some tens of ms; dictation would take too long."""
        if not self._live and any(_rms(step) >= SILENCE_RMS for step in self._held):
            self._start()
        if self._grammar is None or not self._live:
            return None
        if self._drafted is None:
            self._drafted = self._grammar.decoder.end()
            self._sure = self._grammar.likely(self._drafted, self._free.now())
        return self._transcript(self._placed(self._drafted)) if self._sure else None

    def finish(self) -> Transcript:
        """See ``Transcription``: the sentence of the grammar if it was said, else the dictation."""
        if rest := bytes(self._rest[: len(self._rest) // 2 * 2]):
            self._step(rest)
        if self._drafted and self._sure:
            return self._transcript(self._placed(self._drafted))
        if not self._live and any(_rms(step) >= SILENCE_RMS for step in self._held):
            self._start()
        if self._live:
            self._resume()
            first, dictation = self._free.now(), self._end()
            if self._grammar:
                sentence = self._grammar.decoder.end()
                if self._grammar.accepts(sentence, first, dictation):
                    self._words = self._placed(sentence)
        return self._transcript(self._words)

    def _transcript(self, words: list[Word]) -> Transcript:
        seconds = self._done / STT_SAMPLE_RATE
        segments = tuple(_segments(words, seconds))
        text = " ".join(segment.text for segment in segments)
        return Transcript(text=text, language="en", segments=segments, seconds=seconds)

    def _step(self, pcm: bytes) -> None:
        import numpy as np

        samples = np.frombuffer(pcm, "<i2").astype(np.float32)
        rms = _rms(samples)
        length = self._done - self._begun
        usual = (self._power / length) ** 0.5 if self._live else 0.0
        if self._drafted and rms >= max(SILENCE_RMS, 2 * PAUSE_SHARE * usual):
            self._resume()
        paused = rms < PAUSE_SHARE * usual and length >= SHORTEST_STRETCH
        if self._live and (paused or length >= LONGEST_STRETCH):
            self._end()
            self._grammar = self._drafted = None
        self._held.append(samples)
        self._done += len(samples)
        if self._live:
            self._search()
            return
        loud = sum(_rms(step) >= SILENCE_RMS for step in self._held)
        if not loud:
            del self._held[:-LEAD_STEPS]
        elif self._mean or loud >= MEAN_STEPS or len(self._held) >= LONGEST_WAIT:
            self._start()

    def _start(self) -> None:
        """Begin a stretch with what was held back."""

        if not self._mean:
            loud = [self._noisy(step, 0) for step in self._held if _rms(step) >= SILENCE_RMS]
            self._mean = self._free.mean(b"".join(loud))
        self._live, self._power = True, 0.0
        self._begun = self._done - sum(len(step) for step in self._held)
        self._searched.clear()
        self._free.start(self._mean)
        if self._grammar:
            self._grammar.decoder.start(self._mean)
        self._search()

    def _search(self) -> None:
        at = self._done - sum(len(step) for step in self._held)
        for step in self._held:
            noisy = self._noisy(step, at)
            self._free.feed(noisy)
            if self._grammar:
                self._searched += noisy
                if self._drafted is None:
                    self._grammar.decoder.feed(noisy)
            self._power += _rms(step) ** 2 * len(step)
            at += len(step)
        self._held.clear()

    def _resume(self) -> None:
        """Go on with the grammar after a draft, which ended it."""
        if self._drafted is not None and self._grammar:
            self._grammar.decoder.start(self._mean)
            self._grammar.decoder.feed(bytes(self._searched))
        self._drafted = None

    def _noisy(self, samples: NDArray[np.float32], at: int) -> bytes:
        import numpy as np

        noise = np.roll(self._noise, -at)[: len(samples)]
        return bytes(np.clip(samples + noise, -32768, 32767).astype("<i2").tobytes())

    def _end(self) -> Heard:
        """End the stretch and keep its words."""
        self._live = False
        heard = self._free.end()
        self._words += self._placed(heard)
        return heard

    def _placed(self, heard: Heard) -> list[Word]:
        offset = self._begun / STT_SAMPLE_RATE
        return [Word(word.text, offset + word.start, offset + word.end) for word in heard.words]


def _rms(samples: NDArray[np.float32]) -> float:
    return float((samples**2).mean()) ** 0.5 if len(samples) else 0.0


def _segments(words: list[Word], seconds: float) -> Iterator[Segment]:
    """The words in lines for subtitles."""
    line: list[Word] = []
    for word in [*words, None]:
        if line and (word is None or len(line) == SEGMENT_WORDS or word.start - line[-1].end >= SEGMENT_PAUSE):
            text = " ".join(one.text for one in line)
            yield Segment(start=min(line[0].start, seconds), end=min(line[-1].end, seconds), text=text)
            line = []
        if word is not None:
            line.append(word)
