"""The assistant's own voice through rooms, the front end and the dialogue: does it interrupt or wake itself?

Everything is as in the daemon, on the sample clock: what ``Playback`` plays goes through a simulated room into the
microphone, and what ``FrontEnd`` makes of it to ``Dialogue``. Nobody else speaks, so that every ``SpeechPaused`` and
every accepted wake word is its own voice's.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from llm_parts.world import Row, say

from assistant import events
from assistant.config import VoiceSettings
from assistant.engines import AudioChunk
from assistant.hookspecs import WakeWord
from assistant.testing.audio import to_pcm, to_samples
from assistant.voice.activity import VoiceActivity
from assistant.voice.dialogue import Dialogue
from assistant.voice.echo import EchoCanceller
from assistant.voice.frames import FRAME, FRAME_SECONDS, RATE, WakeHit, frames
from assistant.voice.front import FrontEnd
from assistant.voice.playback import Playback
from assistant.voice.wake import WakeSpotter

from .echo import ANSWER, LIMITED, ROOMS
from .wake import micro
from .wake_audio import TEST, Voices, sentences, voices_of

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from rooms import Room, at_dbfs

SPOKEN_DBFS = -23.0
REST = 2.0
"""Seconds between two answers."""
RESPONSE = 1.4
"""Seconds of a room's response that count."""
IN_PIECES = tuple(name for name, room in ROOMS.items() if not room.drift_ppm and name not in LIMITED)
"""Rooms whose sound can be made frame by frame."""


class Path10ms:
    """A room, frame by frame.

    Args:
        room: one without drift.
    """

    def __init__(self, room: Room) -> None:
        impulse = np.zeros(round(RESPONSE * RATE))
        impulse[0] = 1.0
        response = replace(room, drive=0.0).echo(impulse)
        response = response[: int(np.flatnonzero(response)[-1]) + 1]
        self._size = 1 << (len(response) + FRAME - 1).bit_length()
        self._spectrum = np.fft.rfft(response, self._size)
        self._drive = room.drive
        self._tail = np.zeros(self._size)
        self._noise = np.random.default_rng(room.seed + 1)
        self._level = 10 ** (room.noise_dbfs / 20)

    def hear(self, played: bytes) -> bytes:
        """What the microphone hears in the frame in which this is played."""
        if any(played):
            sound = to_samples(played)
            if self._drive:
                sound = np.tanh(self._drive * sound) / self._drive
            self._tail += np.fft.irfft(np.fft.rfft(sound, self._size) * self._spectrum, self._size)
        heard = self._tail[:FRAME] + self._noise.standard_normal(FRAME) * self._level
        self._tail[:-FRAME] = self._tail[FRAME:]
        self._tail[-FRAME:] = 0.0
        return to_pcm(heard)


class Stage:
    """Does what the dialogue orders, as far as sound is concerned; the recogniser never hears words."""

    def __init__(self, playback: Playback) -> None:
        self._playback = playback
        self.answering = self.closing = False
        self.happened: Counter[str] = Counter()

    def open(self, before: Sequence[bytes]) -> None:
        """Words are taken."""
        self.closing = False

    def feed(self, pcm: bytes) -> None:
        """Nothing to do."""

    def pause(self) -> None:
        """Nothing to do."""

    def withdraw(self) -> None:
        """Nothing to do."""

    def prepare(self, text: str, wake: str) -> None:
        """Nothing to do."""

    def close(self, *, drafted: bool) -> None:
        """The transcript is due."""
        self.closing = True

    def abandon(self) -> None:
        """No transcript is due."""
        self.closing = False

    def answer(self, text: str, wake: str) -> None:
        """A new answer."""
        self._playback.begin()
        self.answering = True

    def cancel(self) -> None:
        """Silence."""
        self._playback.stop()
        self.answering = False

    def confirm(self, hit: WakeHit, before: Sequence[bytes]) -> None:
        """Nothing to do."""

    def undo(self, wake: str) -> None:
        """Nothing to do."""

    def publish(self, event: events.Event) -> None:
        """Count it."""
        self.happened[type(event).__name__] += 1
        if isinstance(event, events.WakeWordHeard) and event.accepted:
            self.happened["woken"] += 1


class Speaker:
    """Answers of several sentences, each in one of espeak's voices."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._texts = list(sentences(TEST))
        self._rng.shuffle(self._texts)
        self._voices = Voices()

    def answer(self, playback: Playback) -> None:
        """Give a new one to the loudspeaker."""
        voice, speed = self._rng.choice(voices_of(TEST))
        spoken = 0.0
        while spoken < ANSWER:
            text = self._texts.pop()
            sound = at_dbfs(self._voices.say(text, voice, speed).astype(np.float64), SPOKEN_DBFS)
            playback.add(text, AudioChunk(pcm=to_pcm(sound), sample_rate=RATE))
            playback.end_sentence()
            spoken += len(sound) / RATE
        playback.finish()

    def close(self) -> None:
        """Give the voices back."""
        self._voices.close()


class World:
    """One room."""

    def __init__(self, room: Room, silero: Path, detectors: Sequence[WakeWord]) -> None:
        self._playback = Playback(RATE)
        self._spotter = WakeSpotter(detectors)
        self._spotter.load()
        self.front = FrontEnd(
            EchoCanceller("auto"), VoiceActivity(silero), self._spotter, lambda: self._playback.sentence
        )
        self.stage = Stage(self._playback)
        phrases = {one.name: one.phrase for one in detectors}
        self._dialogue = Dialogue(
            VoiceSettings(earcons=False), self.stage, self._playback, phrases=phrases,
            is_command=lambda _text: False, judged=False,
        )  # fmt: skip
        self._path = Path10ms(room)
        self.playing = self.half = 0
        """Frames with own sound, and those of them in half duplex."""

    def run(self, speaker: Speaker, seconds: float) -> None:
        """Speak for so long."""
        rest = frames(REST)
        while self.playing * FRAME_SECONDS < seconds:
            self._frame()
            if self.stage.answering:
                if self._playback.done:
                    self.stage.answering, rest = False, frames(REST)
                    self._dialogue.answered("That is all.", "complete")
            elif rest:
                rest -= 1
            elif self._dialogue.state == "idle":
                self._dialogue.talk(True)
                self._dialogue.talk(False)
                self.stage.closing = False
                self._dialogue.transcript("tell me more about it")
                speaker.answer(self._playback)

    def close(self) -> None:
        """Give the detectors back."""
        self._spotter.close()

    def _frame(self) -> None:
        played = self._playback.pull(FRAME)
        heard = self.front.process(self._path.hear(played), played)
        sounding = any(played)
        self.playing += sounding
        self.half += sounding and self.front.echo.duplex == "half"
        self._dialogue.take(heard)
        if self.stage.closing:
            self.stage.closing = False
            self._dialogue.transcript("")


def own_voice(silero: Path, minutes: float = 30.0, seed: int = 5) -> list[Row]:
    """Its own speech for so long, divided among the rooms.

    Args:
        silero: the folder of the model ``silero-vad``.
    """
    speaker, total, rows = Speaker(seed), Counter[str](), []
    seconds = 60 * minutes / len(IN_PIECES)
    for name in IN_PIECES:
        say(f"own voice: {name}")
        world = World(ROOMS[name], silero, micro())
        world.run(speaker, seconds)
        world.close()
        total.update(world.stage.happened)
        paused, woken = world.stage.happened["SpeechPaused"], world.stage.happened["woken"]
        shown = world.front.echo.attenuation_db
        note = (f"{seconds / 60:.1f} min, {paused} pauses, {woken} wakes; half duplex "
                f"{world.half / world.playing:.1%}, {'-' if shown is None else f'{shown:.0f} dB'}")  # fmt: skip
        rows.append(Row(f"own voice, {name}", paused + woken, "", "-", True, note))
    speaker.close()
    count = total["SpeechPaused"] + total["woken"]
    note = f"{minutes:g} min of own speech in {len(IN_PIECES)} rooms; microWakeWord's four phrases listened for"
    return [*rows, Row("self-interruptions and self-wakes", count, "", "= 0", count == 0, note)]
