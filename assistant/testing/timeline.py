"""What is said into the virtual microphone, and when.

    Timeline().silence(1).wake().say("what time is it").silence(2)
    Timeline().wake().say("tell me a story").when(SpeechPlayed, after=1.5).say("stop").over("babble", snr_db=10)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from assistant.engines import TextToSpeech
from assistant.errors import AudioError
from assistant.events import Base, Event
from assistant.voice.frames import RATE

from . import audio, tones
from .audio import NoiseKind, Speech, Word

ROOM_DBFS = -70.0
"""The noise of a quiet room."""
NOISE_SECONDS = 10.0
"""The background repeats after so long."""

Kind = Literal["speech", "wake", "sound"]


@dataclass(frozen=True)
class Utterance:
    """Something that is heard in a timeline."""

    text: str
    kind: Kind
    start: float
    """Seconds since the beginning, or in a section, since that began."""
    end: float
    words: tuple[Word, ...] = ()
    """Seconds as in ``start``."""


@dataclass(frozen=True)
class When:
    """What a section waits for."""

    what: str
    matches: Callable[[Event], bool]
    after: float
    within: float


@dataclass(frozen=True)
class Section:
    """A part of a timeline whose every sound has its time; the next one waits for something."""

    when: When | None
    pcm: bytes
    utterances: tuple[Utterance, ...]


@dataclass(frozen=True)
class Rendered:
    """A timeline as sound."""

    sections: tuple[Section, ...]
    background: bytes
    """Goes on, repeated, under everything and while a section is waited for."""
    speeches: tuple[Speech, ...]
    """What is said in it."""

    @property
    def pcm(self) -> bytes:
        """The whole, as if every section began at once."""
        whole = b"".join(section.pcm for section in self.sections)
        return audio.mix(whole, audio.loop(self.background, len(whole)))

    @property
    def utterances(self) -> tuple[Utterance, ...]:
        """Everything that is heard in ``pcm``."""
        found, offset = [], 0.0
        for section in self.sections:
            found += [moved(utterance, offset) for utterance in section.utterances]
            offset += audio.seconds_of(section.pcm)
        return tuple(found)


def moved(utterance: Utterance, seconds: float) -> Utterance:
    """The same, later."""
    words = tuple(Word(word.text, word.start + seconds, word.end + seconds) for word in utterance.words)
    return replace(utterance, start=utterance.start + seconds, end=utterance.end + seconds, words=words)


@dataclass(frozen=True)
class _Pause:
    seconds: float


@dataclass(frozen=True)
class _At:
    second: float


@dataclass(frozen=True)
class _Sound:
    kind: Kind
    make: Callable[[TextToSpeech | None], Speech]


@dataclass(frozen=True)
class Timeline:
    """What is heard, step by step; every method returns a new timeline with one step more."""

    room_dbfs: float = ROOM_DBFS
    """The noise of the room where ``over`` names no other."""
    seed: int = 0
    _steps: tuple[_Pause | _At | _Sound | When, ...] = ()
    _noise: NoiseKind | bytes = "white"
    _snr_db: float | None = None

    def silence(self, seconds: float) -> Timeline:
        """Nothing but the room, for so long."""
        if seconds < 0:
            raise AudioError(f"{seconds} s of silence cannot be", hint="use at() to go back in time")
        return self._with(_Pause(seconds))

    def at(self, second: float) -> Timeline:
        """Go on at that second since the beginning, or since the last ``when``; sounds may overlap."""
        if second < 0:
            raise AudioError(f"second {second} is before the beginning")
        return self._with(_At(second))

    def say(self, text: str, *, voice: str = "", speed: int = 170, dbfs: float = audio.SPEECH_DBFS) -> Timeline:
        """Speech of a text, by the voice that is rendered with; the next step begins at its end.

        Args:
            voice: a name that the voice knows; of espeak's, ``en-us`` is taken for none.
            speed: words per minute; espeak only.
        """

        def make(engine: TextToSpeech | None) -> Speech:
            speech = audio.synthesise(text, voice or ("" if engine else "en-us"), speed, engine)
            return replace(speech, pcm=audio.at_level(speech.pcm, dbfs))

        return self._with(_Sound("speech", make))

    def play(self, sound: Path | str | bytes, text: str = "", *, dbfs: float | None = None) -> Timeline:
        """A recording, a file or PCM.

        Args:
            text: what is said in it; empty if that is nothing, or nothing that is to be understood.
            dbfs: how loud its speech shall be; as it is by default.

        Raises:
            AudioError: it cannot be read.
        """
        pcm = sound if isinstance(sound, bytes) else audio.read(sound)
        pcm = pcm if dbfs is None else audio.at_level(pcm, dbfs)
        speech = Speech(pcm, text, audio.timed_words(text, audio.seconds_of(pcm)))
        return self._with(_Sound("speech" if text else "sound", lambda _: speech))

    def mumble(self, seconds: float, *, dbfs: float = audio.SPEECH_DBFS, seed: int = 0) -> Timeline:
        """Something like a voice, without words."""
        return self._with(_Sound("sound", lambda _: Speech(audio.mumble(seconds, seed=seed, dbfs=dbfs))))

    def wake(self, hertz: float = tones.WAKE_HERTZ, *, purity: float = 1.0) -> Timeline:
        """The tone that wakes a ``ScriptedWakeWord``; see ``wake_sound``."""
        return self._with(_Sound("wake", lambda _: Speech(tones.wake_sound(hertz, purity))))

    def when(
        self,
        what: type[Base] | Callable[[Event], bool],
        after: float = 0.0,
        within: float = 30.0,
    ) -> Timeline:
        """Wait for an event, and ``after`` seconds more; what follows has its times since then.

        Args:
            what: the type of an event, or a function that picks one; events that came before do not count.
            within: seconds until the run fails because it never came.
        """
        if isinstance(what, type):
            kind = what
            return self._with(When(kind.__name__, lambda event: isinstance(event, kind), after, within))
        return self._with(When(getattr(what, "__name__", "the event"), what, after, within))

    def over(self, noise: NoiseKind | bytes, snr_db: float) -> Timeline:
        """A background under everything, so much softer than the speech: a kind of noise, or PCM, repeated."""
        return replace(self, _noise=noise, _snr_db=snr_db)

    def render(self, engine: TextToSpeech | None = None) -> Rendered:
        """The sound of it, always the same.

        Args:
            engine: the loaded voice that says the texts; by default, espeak.
        """
        sections: list[Section] = []
        speeches: list[Speech] = []
        steps: list[_Pause | _At | _Sound] = []
        when: When | None = None
        for step in (*self._steps, None):
            if step is None or isinstance(step, When):
                sections.append(_section(when, steps, engine, speeches))
                when, steps = step, []
            else:
                steps.append(step)
        return Rendered(tuple(sections), self._background(speeches), tuple(speeches))

    def _background(self, speeches: list[Speech]) -> bytes:
        if self._snr_db is None:
            dbfs = self.room_dbfs
        else:
            said = b"".join(speech.pcm for speech in speeches)
            dbfs = (audio.level(said, speech=True) if said else audio.SPEECH_DBFS) - self._snr_db
        if isinstance(self._noise, bytes):
            return audio.at_level(self._noise, dbfs, speech=False)
        return audio.noise(self._noise, NOISE_SECONDS, dbfs, self.seed)

    def _with(self, step: _Pause | _At | _Sound | When) -> Timeline:
        return replace(self, _steps=(*self._steps, step))


def _section(
    when: When | None, steps: list[_Pause | _At | _Sound], engine: TextToSpeech | None, speeches: list[Speech]
) -> Section:
    pcm, cursor = b"", 0.0
    utterances = []
    for step in steps:
        if isinstance(step, _Sound):
            sound = step.make(engine)
            if step.kind == "speech":
                speeches.append(sound)
            pcm = audio.mix(pcm, sound.pcm, cursor)
            heard = Utterance(sound.text, step.kind, 0.0, sound.seconds, sound.words)
            utterances.append(moved(heard, cursor))
            cursor += sound.seconds
        else:
            cursor = step.second if isinstance(step, _At) else cursor + step.seconds
    missing = round(cursor * RATE) * 2 - len(pcm)
    return Section(when, pcm + bytes(max(missing, 0)), tuple(utterances))
