"""Speech from ``say``, piece by piece through a WAV file."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import wave
from collections.abc import Iterator
from pathlib import Path

from assistant import AudioChunk, EngineFailed, TextToSpeech

from . import SaySettings

SAMPLE_RATE = 22_050
"""Samples per second that ``say`` is asked for; its voices' own."""

CHUNK_SECONDS = 0.2
"""Length of one chunk."""

PIECE_CHARACTERS = 200
"""What is synthesised at a time, in one run of the program: its first chunk waits for the whole piece."""

PIECE_SECONDS = 60.0
"""A run that takes longer is given up."""


class Say(TextToSpeech):
    """Natural voices without a download, on macOS only."""

    name = "say"
    lane = "cpu"
    rank = 10

    def __init__(self, settings: SaySettings) -> None:
        self.settings = settings
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def available(self) -> str:
        """This is no Mac, or the program is not there."""
        program = self.settings.program
        if sys.platform != "darwin" and program == SaySettings().program:
            return "it exists on macOS only"
        if shutil.which(program) is None:
            return f"there is no program {program}: set `program` in [plugins.say]"
        return ""

    def load(self, model: Path | None) -> None:
        """Make a folder for the WAV files."""
        self._folder = tempfile.TemporaryDirectory(prefix="assistant-say-")

    def speak(self, text: str, voice: str) -> Iterator[AudioChunk]:
        """See ``TextToSpeech``.

        Raises:
            EngineFailed: the program failed, which it does for a voice that it does not know.
        """
        if self._folder is None:
            raise EngineFailed("say was not loaded")
        size = int(SAMPLE_RATE * CHUNK_SECONDS) * 2
        for piece in pieces(text):
            sound = self._synthesise(Path(self._folder.name), piece, voice or self.settings.voice)
            for start in range(0, len(sound), size):
                yield AudioChunk(pcm=sound[start : start + size], sample_rate=SAMPLE_RATE)

    def close(self) -> None:
        """Remove the folder."""
        if self._folder is not None:
            self._folder.cleanup()
        self._folder = None

    def _synthesise(self, folder: Path, text: str, voice: str) -> bytes:
        words, sound = folder / "text.txt", folder / "speech.wav"
        words.write_text(text, encoding="utf-8", errors="replace")
        sound.unlink(missing_ok=True)
        command = [self.settings.program, "-o", str(sound), "--file-format=WAVE", f"--data-format=LEI16@{SAMPLE_RATE}"]
        command += [f"--voice={voice}"] if voice else []
        command += [f"--rate={self.settings.speed}"] if self.settings.speed else []
        command += ["-f", str(words)]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PIECE_SECONDS, check=False,
                env={**os.environ, "LC_CTYPE": "UTF-8"},
            )
        except subprocess.TimeoutExpired as error:
            raise EngineFailed(f"say took more than {PIECE_SECONDS:.0f} s", hint="the next may work") from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise EngineFailed(f"{self.settings.program} cannot be run: {reason}", hint="see [plugins.say]") from error
        if done.returncode != 0:
            complaint = done.stderr.decode(errors="replace").strip() or f"it ended with {done.returncode}"
            raise EngineFailed(f"say failed: {complaint}", hint="`say -v ?` lists the voices")
        try:
            with wave.open(str(sound), "rb") as file:
                if (file.getnchannels(), file.getsampwidth(), file.getframerate()) != (1, 2, SAMPLE_RATE):
                    raise EngineFailed("say wrote another kind of audio than it was asked for")
                return file.readframes(file.getnframes())
        except (OSError, EOFError, wave.Error) as error:
            raise EngineFailed("say wrote no audio", hint="a daemon needs the user's login session for it") from error


def pieces(text: str) -> Iterator[str]:
    """``text`` in parts of at most ``PIECE_CHARACTERS``, cut after sentences if it can be, else clauses, else words."""
    rest = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    while rest:
        end = len(rest)
        if end > PIECE_CHARACTERS:
            window = rest[: PIECE_CHARACTERS + 1]
            for mark in (r"[.!?…]\s", r"[,;:]\s", r"\s"):
                if ends := [found.end() for found in re.finditer(mark, window)]:
                    end = ends[-1]
                    break
            else:
                end = PIECE_CHARACTERS
        piece, rest = rest[:end].strip(), rest[end:]
        if any(one.isalnum() for one in piece):
            yield piece
