"""An utterance on its way through Moonshine: stretches, drafts, and what is not believed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assistant import STT_SAMPLE_RATE, Segment, Transcript, Transcription

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .network import Network, Written
    from .sentences import Sentences
    from .vocabulary import Vocabulary

STEP = STT_SAMPLE_RATE // 10
"""Samples that are looked at together for a pause."""
SILENCE_RMS = 33 / 32768
"""-60 dBFS: what is softer is not listened to."""
LEAD_STEPS = 5
"""What is kept of the silence before speech."""
SHORTEST_STRETCH, LONGEST_STRETCH = 8 * STT_SAMPLE_RATE, 20 * STT_SAMPLE_RATE
"""Long speech is cut between these: at the first pause, or at last where it is softest. What is sent at a time never is
longer than Moonshine was trained on, and a segment's times are those of real pauses."""
PAUSE_STEPS, PAUSE_SHARE = 3, 0.1
"""A pause: so many steps with less than this share of the stretch's RMS."""
PARTIAL_SECONDS, PARTIAL_SHARE = 0.5, 0.2
"""New sound before the next partial transcript: so many seconds, and so much of what has been heard."""
LIVE_BYTES = STT_SAMPLE_RATE
"""Half a second: what comes in larger pieces is a file, or has waited already, and gets no partial transcripts."""

MOST_LOSS = 4.0
"""How much less likely, as a natural logarithm, a phrase may be than what was understood freely. Of 150 commands by
twenty voices of eSpeak, which are harder than people, 105 were heard exactly and not 43; none of 100 other sentences
and stretches of speech became a command."""
LEAST_MEAN = -1.3
"""Least logarithm of the probability per token of a phrase that is taken."""
IMPROBABLE = -0.9
"""Text of no more than two tokens with a lower mean is what it hears in noise: speech of that length has -0.4."""
NOISE = "you"
"""What it hears in noise above all, and then without a full stop or with less than ``NOISE_MEAN``."""
NOISE_MEAN = -0.6
LAST_LATIN = "\u024f"
"""Text that has mostly letters after this one is heard in noise, too: English has none of them."""
FRAME, LEAST_FRAMES, STEADY_DB = STT_SAMPLE_RATE // 50, 5, 0.7
"""A voice has at least so many frames (samples each) that are no silence, and their levels have at least that standard
deviation (dB): noise has 0.4, speech in noise that is 5 dB softer 0.9 or more, speech by itself 3 or more."""
LOOPS = 3
"""What is written so many times in a row without an end is not what was said."""


class MoonshineTranscription(Transcription):
    """Sound is held until it is transcribed, all of a stretch at a time.

    Args:
        likely: sentences that were probably said; None: nothing is known of them.
    """

    def __init__(self, network: Network, vocabulary: Vocabulary, likely: Sentences | None) -> None:
        self._network = network
        self._vocabulary = vocabulary
        self._likely = likely
        self._rest = bytearray()
        self._steps: list[NDArray[np.float32]] = []
        self._spoken = False
        self._begun = 0
        """Samples before the stretch."""
        self._segments: list[Segment] = []
        self._due = PARTIAL_SECONDS
        self._understood = ""
        """What the stretch was last taken for."""

    def feed(self, pcm: bytes) -> str | None:
        """See ``Transcription``."""
        self._rest += pcm
        size = STEP * 2
        while len(self._rest) >= size:
            self._take(bytes(self._rest[:size]))
            del self._rest[:size]
        if not self._spoken or len(pcm) > LIVE_BYTES or self._held_seconds < self._due:
            return None
        self._due = self._held_seconds + max(PARTIAL_SECONDS, PARTIAL_SHARE * self._held_seconds)
        before, text = self._understood, self._understand(likely=None)
        return self._whole(text) if text and text != before else None

    def draft(self) -> Transcript:
        """See ``Transcription``."""
        return self._transcript(self._text())

    def finish(self) -> Transcript:
        """See ``Transcription``."""
        if rest := bytes(self._rest[: len(self._rest) // 2 * 2]):
            self._take(rest)
        self._rest.clear()
        return self._transcript(self._text())

    @property
    def _held_seconds(self) -> float:
        return len(self._steps) * STEP / STT_SAMPLE_RATE

    def _take(self, pcm: bytes) -> None:
        import numpy as np

        step = np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(32768)
        self._steps.append(step)
        if not self._spoken:
            self._spoken = _rms(step) >= SILENCE_RMS
            while not self._spoken and len(self._steps) > LEAD_STEPS:
                self._begun += len(self._steps.pop(0))
            self._due = self._held_seconds + PARTIAL_SECONDS
            return
        held = len(self._steps) * STEP
        if held >= SHORTEST_STRETCH and (self._pauses() or held >= LONGEST_STRETCH):
            self._cut()

    def _pauses(self) -> bool:
        usual = _rms(self._steps[0], *self._steps[1:])
        return all(_rms(step) < max(SILENCE_RMS, PAUSE_SHARE * usual) for step in self._steps[-PAUSE_STEPS:])

    def _cut(self) -> None:
        """End the stretch at its end, or where its second half is softest if it is as long as it may be."""
        at = len(self._steps)
        if at * STEP >= LONGEST_STRETCH:
            at = min(range(at // 2, at), key=lambda place: _rms(self._steps[place])) + 1
        rest = self._steps[at:]
        del self._steps[at:]
        self._keep(self._text())
        if self._segments:
            self._likely = None  # a command is not part of a longer speech
        self._begun += sum(len(step) for step in self._steps)
        self._steps, self._spoken = rest, any(_rms(step) >= SILENCE_RMS for step in rest)
        self._understood, self._due = "", PARTIAL_SECONDS

    def _text(self) -> str:
        return self._understand(likely=self._likely) if self._spoken else ""

    def _understand(self, likely: Sentences | None) -> str:
        """What is said in the stretch."""
        import numpy as np

        sound = np.concatenate(self._steps[: self._loud()[1] + LEAD_STEPS])
        if not _is_voice(sound):
            self._understood = ""
            return ""
        heard = self._network.listen(sound)
        written = self._network.write(heard, len(sound) / STT_SAMPLE_RATE)
        phrase = self._network.choose(heard, likely) if likely is not None else None
        if phrase is not None and _is_meant(phrase, written):
            written = phrase
        text = self._vocabulary.text(_once(written))
        self._understood = "" if _is_noise(text, written) else text
        return self._understood

    def _loud(self) -> tuple[int, int]:
        """The first and the last step that is no silence, the latter excluded."""
        quiet = [_rms(step) < SILENCE_RMS for step in self._steps]
        return quiet.index(False), len(quiet) - quiet[::-1].index(False)

    def _keep(self, text: str) -> None:
        if text:
            first, last = self._loud()
            start = (self._begun + first * STEP) / STT_SAMPLE_RATE
            end = min(self._begun + last * STEP, self._begun + sum(map(len, self._steps))) / STT_SAMPLE_RATE
            self._segments.append(Segment(start=start, end=end, text=text))

    def _whole(self, text: str) -> str:
        return " ".join([*(segment.text for segment in self._segments), text]).strip()

    def _transcript(self, text: str) -> Transcript:
        seconds = (self._begun + sum(map(len, self._steps)) + len(self._rest) // 2) / STT_SAMPLE_RATE
        before = list(self._segments)
        self._keep(text)
        segments, self._segments = tuple(self._segments), before
        return Transcript(text=self._whole(text), language="en", segments=segments, seconds=seconds)


def _is_meant(phrase: Written, freely: Written) -> bool:
    return phrase.likelihood >= freely.likelihood - MOST_LOSS and phrase.mean >= LEAST_MEAN


def _is_noise(text: str, written: Written) -> bool:
    if text.lower() == NOISE or (text.lower().strip(" .!?") == NOISE and written.mean < NOISE_MEAN):
        return True
    letters = [letter for letter in text if letter.isalpha()]
    if 2 * sum(letter > LAST_LATIN for letter in letters) > len(letters):
        return True
    return len(written.tokens) <= 2 and written.mean < IMPROBABLE


def _once(written: Written) -> tuple[int, ...]:
    """The tokens without what is written over and over because no end was found."""
    tokens = written.tokens
    for period in () if written.complete else range(1, len(tokens) // LOOPS + 1):
        at = len(tokens) - period
        while at and tokens[at - 1] == tokens[at - 1 + period]:
            at -= 1
        if len(tokens) - at >= LOOPS * period:
            return tokens[: at + period] if at > len(tokens) // 2 else ()
    return tokens


def _is_voice(sound: NDArray[np.float32]) -> bool:
    """False for a click, and for what is as loud all the time: a fan, a hiss, a hum. Low frequencies, which waver in
    any noise, count less."""
    import numpy as np

    frames = sound[: len(sound) // FRAME * FRAME].reshape(-1, FRAME)
    frames = frames[(frames**2).mean(axis=1) >= SILENCE_RMS**2]
    power = (np.diff(frames) ** 2).mean(axis=1)
    return len(power) >= LEAST_FRAMES and float((10 * np.log10(power + 1e-12)).std()) >= STEADY_DB


def _rms(*steps: NDArray[np.float32]) -> float:
    squares = sum(float((step**2).sum()) for step in steps)
    count = sum(len(step) for step in steps)
    return float((squares / count) ** 0.5) if count else 0.0
