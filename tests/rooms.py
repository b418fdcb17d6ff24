"""Rooms for tests of echo: what a microphone hears of what a loudspeaker plays, at 16 kHz, from -1 to 1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import NDArray

from assistant.voice.frames import FRAME, FRAME_BYTES, RATE

Wave = NDArray[np.float64]


def wave(pcm: bytes) -> Wave:
    """16-bit PCM as numbers from -1 to 1."""
    return np.frombuffer(pcm, "<i2").astype(np.float64) / 32768


def pcm(samples: Wave) -> bytes:
    """Numbers from -1 to 1 as 16-bit PCM, whole frames of it."""
    whole = samples[: len(samples) // FRAME * FRAME]
    return bytes(np.clip(np.rint(whole * 32768), -32768, 32767).astype("<i2").tobytes())


def frames_of(sound: bytes) -> list[bytes]:
    """PCM in frames of 10 ms."""
    return [sound[at : at + FRAME_BYTES] for at in range(0, len(sound) - FRAME_BYTES + 1, FRAME_BYTES)]


def decibels(samples: Wave) -> float:
    """RMS in dBFS."""
    return float(10 * np.log10(np.mean(samples**2) + 1e-12))


def at_dbfs(samples: Wave, level: float) -> Wave:
    """The same sound with that RMS."""
    return samples * 10 ** ((level - decibels(samples)) / 20)


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

    def echo(self, far: Wave) -> Wave:
        """What arrives of ``far``; as long as it is."""
        sound = np.tanh(self.drive * far) / self.drive if self.drive else far
        if self.isolated:
            sound = _scrambled(sound, self.seed)
        if self.drift_ppm:
            sound = soxr.resample(sound, 1_000_000, 1_000_000 + self.drift_ppm)
        response = self._response()
        size = 1 << (len(sound) + len(response) - 1).bit_length()
        heard = np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(response, size), size)[: len(far)]
        return np.pad(heard, (0, max(len(far) - len(heard), 0)))

    def microphone(self, far: Wave, near: Wave | None = None) -> Wave:
        """The echo, somebody's voice if there is one, and noise."""
        noise = np.random.default_rng(self.seed + 1).standard_normal(len(far)) * 10 ** (self.noise_dbfs / 20)
        heard: Wave = self.echo(far) + noise
        if near is not None:
            size = min(len(near), len(heard))
            heard[:size] += near[:size]
        return heard

    def _response(self) -> Wave:
        start = round(self.delay * RATE)
        tail = np.zeros(start + 1 + round(self.reverberation * RATE))
        tail[start] = 1.0
        if self.reverberation:
            at = np.arange(1, len(tail) - start)
            random = np.random.default_rng(self.seed)
            falling = 10 ** (-3 * at / (self.reverberation * RATE))
            tail[start + 1 :] += random.standard_normal(len(at)) * falling * 0.05
        return tail * 10 ** (-self.loss_db / 20)


def _scrambled(sound: Wave, seed: int) -> Wave:
    """The same spectrum every 16 ms with phases of its own."""
    size, hop = 512, 256
    window = np.hanning(size)
    random = np.random.default_rng(seed)
    made = np.zeros(len(sound) + size)
    for at in range(0, len(sound) - size, hop):
        spectrum = np.abs(np.fft.rfft(sound[at : at + size] * window))
        made[at : at + size] += np.fft.irfft(spectrum * np.exp(2j * np.pi * random.random(len(spectrum))), size) * window
    return made[: len(sound)]
