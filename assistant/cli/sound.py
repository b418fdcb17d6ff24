"""Audio files and the loudspeaker, as the commands use them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from assistant.errors import AudioError

from . import render

if TYPE_CHECKING:
    from assistant.voice.audio_files import Audio

MAX_BYTES = 1 << 30
"""The largest recording that is read from standard input."""


class Speech:
    """Spoken audio as it comes in: 16-bit little-endian mono PCM."""

    def __init__(self) -> None:
        self._pcm = bytearray()
        self.rate = 0

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self._pcm) / 2 / self.rate if self.rate else 0.0

    def add(self, pcm: bytes, rate: int) -> None:
        """The next piece.

        Raises:
            AudioError: its rate is another.
        """
        if self.rate and rate != self.rate:
            raise AudioError(f"the voice changed from {self.rate} to {rate} samples per second in mid-speech")
        self.rate = rate
        self._pcm += pcm

    def deliver(self, target: str) -> None:
        """Write it as a WAV file, or play it if the target is ``-``.

        Raises:
            AudioError: there is nothing to hear, or nothing to hear it with.
        """
        if not self._pcm:
            raise AudioError("there is nothing to say", hint="the text holds no word that can be spoken")
        if target == "-":
            self._play()
            return
        from assistant.voice.audio_files import write_wav

        write_wav(Path(target), bytes(self._pcm), self.rate)

    def _play(self) -> None:
        """Play it to its end, in pieces of 100 ms, so that Ctrl-C silences it at once."""
        from assistant.engines import AudioChunk
        from assistant.voice.devices import Player

        piece = 2 * (self.rate // 10)
        with Player() as player:
            for start in range(0, len(self._pcm), piece):
                player.play(AudioChunk(pcm=bytes(self._pcm[start : start + piece]), sample_rate=self.rate))


def check_player(option: str) -> None:
    """Refuse to play where nothing can be heard, before any work is done for it.

    Args:
        option: how the command is told to write a file instead.

    Raises:
        AudioError: PortAudio is missing, or there is no loudspeaker.
    """
    from assistant.voice.devices import why_not

    if reason := why_not():
        raise AudioError(f"sound cannot be played: {reason}", hint=f"write a file instead: {option} OUT.wav")


def read_audio(source: str, *, quiet: bool = False) -> Audio:
    """A recording as 16 kHz mono PCM; ``-`` is standard input.

    Raises:
        AudioError: it is no audio, or there is none in it.
    """
    from assistant.voice import audio_files

    if source == "-":
        if sys.stdin is None or sys.stdin.isatty():
            raise AudioError("no audio on standard input", hint="assistant ask --audio - < FILE.wav")
        data = sys.stdin.buffer.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise AudioError("the recording is larger than 1 GiB", hint="give it as a file, or cut it")
        audio = audio_files.read(data)
    else:
        try:
            audio = audio_files.read(Path(source))
        except AudioError as error:
            if source in error.message:
                raise
            raise AudioError(f"{source}: {error.message}", hint=error.hint) from error
    if audio.truncated and not quiet:
        name = "standard input" if source == "-" else source
        render.note(f"warning: {name} is cut off; its first {audio.seconds:.1f} seconds are used")
    return audio


def check_target(_context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Refuse an output file that could not be written, before any work is done for it."""
    if value in (None, "-"):
        return value
    folder = Path(str(value)).absolute().parent
    if not folder.is_dir():
        raise click.BadParameter(f"there is no folder {str(folder)!r}", param=parameter)
    if Path(str(value)).is_dir():
        raise click.BadParameter(f"{value!r} is a folder", param=parameter)
    return value
