"""Sound for tests: 16 kHz, 16-bit little-endian mono PCM in ``bytes``, levels in dBFS (0 is a full-scale square wave).

Whatever is random takes a seed and is the same every time.
"""

from __future__ import annotations

import importlib.metadata
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from assistant.engines import AudioChunk, TextToSpeech
from assistant.errors import EngineNotFound
from assistant.hookspecs import GROUP, PluginContext
from assistant.voice import audio_files
from assistant.voice.frames import FRAME, FRAME_BYTES, RATE

Samples = NDArray[np.float64]
"""Audio as numbers, -1 to 1."""

NoiseKind = Literal["white", "pink", "babble"]
SPEECH_DBFS = -23.0
"""How loud speech is if nothing else is said: the programme level of EBU R 128."""
QUIETEST = -120.0
"""dBFS of exact silence."""
ACTIVE_DB = 30.0
"""Frames more than this below the loudest one are pauses and do not count for the level of speech."""

_synthesising = threading.Lock()


@dataclass(frozen=True)
class Word:
    """A word in a piece of speech."""

    text: str
    start: float
    """Seconds from the beginning of the audio."""
    end: float


@dataclass(frozen=True)
class Speech:
    """Speech of which it is known what is said."""

    pcm: bytes
    text: str = ""
    words: tuple[Word, ...] = ()

    @property
    def seconds(self) -> float:
        """Its length."""
        return seconds_of(self.pcm)


def seconds_of(pcm: bytes) -> float:
    """How long audio lasts."""
    return len(pcm) / 2 / RATE


def to_samples(pcm: bytes) -> Samples:
    """The numbers of PCM, -1 to 1."""
    found: Samples = np.frombuffer(pcm, "<i2").astype(np.float64)
    found /= 32768
    return found


def to_pcm(samples: Samples) -> bytes:
    """PCM of numbers from -1 to 1; louder ones are clipped."""
    return bytes(np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2").tobytes())


def read(path: Path | str) -> bytes:
    """The audio of a file.

    Raises:
        AudioError: it is missing or not audio.
    """
    return audio_files.read(path).pcm


def silence(seconds: float) -> bytes:
    """Exact zeros."""
    return bytes(2 * round(seconds * RATE))


def tone(hertz: float, seconds: float, dbfs: float = -20.0, *, rate: int = RATE, fade: float = 0.005) -> bytes:
    """A sine wave whose RMS is ``dbfs``, faded in and out over ``fade`` seconds."""
    count = round(seconds * rate)
    wave = np.sin(2 * np.pi * hertz / rate * np.arange(count)) * np.sqrt(2) * 10 ** (dbfs / 20)
    edge = min(round(fade * rate), count // 2)
    if edge:
        ramp = np.linspace(0, 1, edge, endpoint=False)
        wave[:edge] *= ramp
        wave[-edge:] *= ramp[::-1]
    return to_pcm(wave)


@lru_cache(maxsize=32)
def noise(kind: NoiseKind, seconds: float, dbfs: float, seed: int = 0) -> bytes:
    """Noise whose RMS is ``dbfs``: ``white``, ``pink`` (-3 dB an octave) or ``babble`` (eight who speak at once)."""
    count = round(seconds * RATE)
    if kind == "babble":
        parts = [to_samples(mumble(seconds, 60.0, seed * 100 + one)) for one in range(8)]
        wave: Samples = np.sum([np.roll(part, 997 * at) for at, part in enumerate(parts)], axis=0)
    else:
        wave = np.random.default_rng(seed).standard_normal(count)
        if kind == "pink":
            spectrum = np.fft.rfft(wave)
            spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 1))
            wave = np.fft.irfft(spectrum, count)
    return at_level(to_pcm(wave / max(float(np.abs(wave).max(initial=0.0)), 1e-9) * 0.5), dbfs, speech=False)


def mumble(seconds: float, pitch: float = 120.0, seed: int = 0, dbfs: float = SPEECH_DBFS) -> bytes:
    """Something like a voice without words: a buzz through moving formants, four to five syllables a second."""
    random = np.random.default_rng(seed)
    pitch *= random.uniform(0.9, 2.5) if seed else 1.0
    count, at = round(seconds * RATE), 0
    wave, phase = np.zeros(count), 0.0
    while at < count:
        size = min(round(random.uniform(0.16, 0.26) * RATE), count - at)
        time = np.arange(size) / size
        hertz = pitch * random.uniform(0.85, 1.2) * (1.1 - 0.2 * time)
        angle = phase + np.cumsum(2 * np.pi * hertz / RATE)
        formants = (random.uniform(300, 800), random.uniform(900, 2200), random.uniform(2300, 3200))
        turn = np.exp(1j * angle)
        sound = turn.copy()
        for harmonic in range(1, int(3800 / pitch)):
            strength = sum(1 / (1 + ((harmonic * pitch - formant) / 90) ** 2) for formant in formants)
            wave[at : at + size] += strength / np.sqrt(harmonic) * sound.imag
            sound *= turn
        wave[at : at + size] *= np.sin(np.pi * time) ** 0.7
        phase = float(angle[-1])
        at += size
    return at_level(to_pcm(wave / max(float(np.abs(wave).max(initial=0.0)), 1e-9) * 0.5), dbfs)


def level(pcm: bytes, *, speech: bool = False) -> float:
    """RMS in dBFS; of speech without its pauses, if ``speech``."""
    samples = to_samples(pcm)
    if speech and len(samples) >= FRAME:
        frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
        power = (frames**2).mean(axis=1)
        samples = frames[power >= power.max() * 10 ** (-ACTIVE_DB / 10)].ravel()
    power = float((samples**2).mean()) if len(samples) else 0.0
    return max(10 * float(np.log10(power)), QUIETEST) if power > 0 else QUIETEST


def gain(pcm: bytes, decibels: float) -> bytes:
    """Louder, or softer."""
    return to_pcm(to_samples(pcm) * 10 ** (decibels / 20))


def at_level(pcm: bytes, dbfs: float, *, speech: bool = True) -> bytes:
    """The same, as loud as that; silence stays silence."""
    now = level(pcm, speech=speech)
    return pcm if now <= QUIETEST else gain(pcm, dbfs - now)


def mix(base: bytes, other: bytes, at: float = 0.0) -> bytes:
    """``other`` laid over ``base`` from ``at`` seconds on; the result is long enough for both."""
    start = round(at * RATE)
    wave = np.zeros(max(len(base) // 2, start + len(other) // 2))
    wave[: len(base) // 2] += to_samples(base)
    wave[start : start + len(other) // 2] += to_samples(other)
    return to_pcm(wave)


def mix_at_snr(speech: bytes, background: bytes, snr_db: float) -> bytes:
    """Speech over a background (repeated as needed) that is ``snr_db`` softer than the speech without its pauses."""
    wanted = level(speech, speech=True) - snr_db
    return mix(speech, at_level(loop(background, len(speech)), wanted, speech=False))


def loop(pcm: bytes, size: int) -> bytes:
    """Audio repeated or cut to ``size`` bytes."""
    return (pcm * (size // max(len(pcm), 2) + 1))[:size].ljust(size, b"\0")


@dataclass
class EchoPath:
    """How the loudspeaker's sound comes back into the microphone, frame by frame."""

    delay: float = 0.04
    """Seconds until it arrives."""
    attenuation_db: float = 6.0
    """How much softer it arrives; a laptop's own microphone: 3 to 10."""
    reflections: Sequence[tuple[float, float]] = ((0.011, 8.0), (0.023, 14.0), (0.041, 20.0))
    """Each so many seconds after the direct sound, so many decibels softer than it."""
    _tail: Samples = field(init=False, repr=False)
    _response: Samples = field(init=False, repr=False)

    def __post_init__(self) -> None:
        taps = [(self.delay, self.attenuation_db)]
        taps += [(self.delay + later, self.attenuation_db + softer) for later, softer in self.reflections]
        self._response = np.zeros(round(max(at for at, _ in taps) * RATE) + 1)
        for at, softer in taps:
            self._response[round(at * RATE)] += 10 ** (-softer / 20)
        self._tail = np.zeros(0)

    def process(self, played: bytes) -> bytes:
        """What arrives while the next audio is played; the same length."""
        wave = np.convolve(to_samples(played), self._response)
        if len(self._tail):
            wave[: len(self._tail)] += self._tail
        size = len(played) // 2
        self._tail = wave[size:]
        return to_pcm(wave[:size])


def synthesise(text: str, voice: str = "en-us", speed: int = 170, engine: TextToSpeech | None = None) -> Speech:
    """Speech of a text without silence around it, as loud as ``SPEECH_DBFS``.

    Args:
        voice: a name that the engine knows.
        speed: words per minute; only for the voice that comes with the assistant, espeak.
        engine: a loaded voice in place of that one.

    Raises:
        EngineNotFound: the plugin espeak is not installed.
        EngineFailed: there is no such voice.
    """
    if engine is not None:
        return _trimmed(text, list(engine.speak(text, voice)))
    return _espeak(text, voice, speed)


@lru_cache(maxsize=256)
def _espeak(text: str, voice: str, speed: int) -> Speech:
    found = importlib.metadata.entry_points(group=GROUP, name="espeak")
    if not found:
        raise EngineNotFound("the plugin espeak is not installed", hint="install the assistant with its plugins")
    plugin: Any = next(iter(found)).load()
    settings = plugin.plugin_settings()(speed=speed)
    log = logging.getLogger(__name__)
    (engine,) = plugin.register_tts(PluginContext("espeak", settings, Path(), log, lambda _event: None))
    with _synthesising:
        engine.load(None)
        try:
            return _trimmed(text, list(engine.speak(text, voice)))
        finally:
            engine.close()


def _trimmed(text: str, chunks: list[AudioChunk]) -> Speech:
    """Chunks as one piece of speech at the level of speech."""
    if not chunks:
        return Speech(b"", text)
    import soxr

    rate = chunks[0].sample_rate
    whole = np.concatenate([to_samples(chunk.pcm) for chunk in chunks])
    samples = soxr.resample(whole, rate, RATE) if rate != RATE else whole
    loud = np.flatnonzero(np.abs(samples) > np.abs(samples).max(initial=0.0) * 0.01)
    begin, end = (int(loud[0]), int(loud[-1]) + 1) if len(loud) else (0, len(samples))
    pcm = at_level(to_pcm(samples[begin:end]), SPEECH_DBFS)
    marks, passed = [], 0
    for chunk in chunks:
        marks += [((passed + mark.sample) / rate - begin / RATE, mark.character) for mark in chunk.words]
        passed += len(chunk.pcm) // 2
    return Speech(pcm, text, timed_words(text, seconds_of(pcm), marks))


def timed_words(text: str, seconds: float, marks: Sequence[tuple[float, int]] = ()) -> tuple[Word, ...]:
    """When each word of a text is said.

    Args:
        seconds: how long the speech lasts.
        marks: (second, character) of each word's beginning; without any they are guessed by the words' lengths.
    """
    if marks:
        at = [max(0.0, second) for second, _ in marks]
        characters = [character for _, character in marks]
        said = [text[one:two].strip() for one, two in zip(characters, [*characters[1:], len(text)], strict=False)]
    else:
        said = text.split()
        share = seconds / max(sum(len(word) + 1 for word in said), 1)
        at = [share * sum(len(word) + 1 for word in said[:index]) for index in range(len(said))]
    bounds = zip(said, at, [*at[1:], seconds], strict=False)
    return tuple(Word(word, start, max(start, end)) for word, start, end in bounds if word)


def frames_of(pcm: bytes) -> list[bytes]:
    """Audio in frames of 10 ms, the last one filled with silence."""
    return [pcm[at : at + FRAME_BYTES].ljust(FRAME_BYTES, b"\0") for at in range(0, len(pcm), FRAME_BYTES)]
