"""Rooms for tests of echo: what a microphone hears of what a loudspeaker plays, at 16 kHz, from -1 to 1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import soxr

from assistant.testing.audio import Samples, to_pcm, to_samples
from assistant.voice.frames import FRAME, RATE

__all__ = ["Room", "Samples", "at_dbfs", "convolved", "decibels", "pcm", "to_samples"]


def pcm(samples: Samples) -> bytes:
    """Numbers from -1 to 1 as 16-bit PCM, whole frames of it."""
    return to_pcm(samples[: len(samples) // FRAME * FRAME])


def decibels(samples: Samples) -> float:
    """RMS in dBFS."""
    return float(10 * np.log10(np.mean(samples**2) + 1e-12))


def at_dbfs(samples: Samples, level: float) -> Samples:
    """The same sound with that RMS."""
    return samples * 10 ** ((level - decibels(samples)) / 20)


def convolved(sound: Samples, response: Samples, block: int = 1 << 16) -> Samples:
    """The sound through a filter, block by block, as long as both together."""
    size = 1 << (block + len(response) - 1).bit_length()
    spectrum = np.fft.rfft(response, size)
    out = np.zeros(len(sound) + size)
    for at in range(0, len(sound), block):
        out[at : at + size] += np.fft.irfft(np.fft.rfft(sound[at : at + block], size) * spectrum, size)
    return out[: len(sound) + len(response) - 1]


@dataclass(frozen=True)
class Room:
    """A loudspeaker, a room and a microphone."""

    delay: float = 0.05
    """Seconds from the frame that is played to its direct sound in the microphone, buffers included."""
    loss_db: float = 10.0
    """How much softer the echo arrives than it is played."""
    reverberation: float = 0.25
    """Seconds until what rings is 60 dB softer; 0: none."""
    drive: float = 0.0
    """How hard a small loudspeaker is driven: tanh, full scale times so much; 0: it is linear."""
    drift_ppm: float = 0.0
    """By how much the microphone's clock is slower than the loudspeaker's."""
    isolated: bool = False
    """The system has changed the sound so that only its spectrum resembles what was played."""
    noise_dbfs: float = -65.0
    seed: int = 1

    def echo(self, far: Samples) -> Samples:
        """What arrives of ``far``; as long as it is."""
        sound = np.tanh(self.drive * far) / self.drive if self.drive else far
        if self.isolated:
            sound = _scrambled(sound, self.seed)
        if self.drift_ppm:
            sound = soxr.resample(sound, 1_000_000, 1_000_000 + self.drift_ppm)
        heard = convolved(sound, self._response())[: len(far)]
        return np.pad(heard, (0, len(far) - len(heard)))

    def microphone(self, far: Samples, near: Samples | None = None) -> Samples:
        """The echo, somebody's voice if there is one, and noise."""
        noise = np.random.default_rng(self.seed + 1).standard_normal(len(far)) * 10 ** (self.noise_dbfs / 20)
        heard: Samples = self.echo(far) + noise
        if near is not None:
            size = min(len(near), len(heard))
            heard[:size] += near[:size]
        return heard

    def _response(self) -> Samples:
        start = round(self.delay * RATE)
        tail = np.zeros(start + 1 + round(self.reverberation * RATE))
        tail[start] = 1.0
        if self.reverberation:
            at = np.arange(1, len(tail) - start)
            random = np.random.default_rng(self.seed)
            falling = 10 ** (-3 * at / (self.reverberation * RATE))
            tail[start + 1 :] += random.standard_normal(len(at)) * falling * 0.05
        return tail * 10 ** (-self.loss_db / 20)


def _scrambled(sound: Samples, seed: int) -> Samples:
    """The same spectrum every 16 ms with phases of its own."""
    size, hop = 512, 256
    window = np.hanning(size)
    random = np.random.default_rng(seed)
    made = np.zeros(len(sound) + size)
    for at in range(0, len(sound) - size, hop):
        spectrum = np.abs(np.fft.rfft(sound[at : at + size] * window))
        turned = spectrum * np.exp(2j * np.pi * random.random(len(spectrum)))
        made[at : at + size] += np.fft.irfft(turned, size) * window
    return made[: len(sound)]
