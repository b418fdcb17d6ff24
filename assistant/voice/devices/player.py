"""One loudspeaker for speech that is there already: plays and waits."""

from __future__ import annotations

import importlib.util
from types import TracebackType
from typing import Any, Self

from assistant.engines import AudioChunk
from assistant.errors import AudioError

_PORTAUDIO_HINT = "on Debian and Ubuntu `apt install libportaudio2`, on macOS reinstall the package sounddevice"


def why_not() -> str:
    """Why sound cannot be played here, as one sentence naming the remedy; empty if it can."""
    if importlib.util.find_spec("sounddevice") is None:
        return "the package sounddevice is missing: `pip install sounddevice`"
    try:
        import sounddevice
    except OSError:
        return f"the PortAudio library is missing: {_PORTAUDIO_HINT}"
    try:
        sounddevice.query_devices(kind="output")
    except (sounddevice.PortAudioError, ValueError):
        return "there is no sound output device: connect one, or write to a file instead"
    return ""


class Player:
    """Plays chunks of speech through the default output; a context manager that waits for the end of the sound.

    Blocking, and used from one thread at a time, except for ``stop``.
    """

    def __init__(self) -> None:
        self._stream: Any = None
        self._rate = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.stop()
        self._close()

    def play(self, chunk: AudioChunk) -> None:
        """Queue a chunk; blocks while enough is queued already.

        Raises:
            AudioError: there is no device, or it went away.
        """
        import sounddevice

        try:
            if chunk.sample_rate != self._rate:
                self._close()
                self._stream = sounddevice.RawOutputStream(samplerate=chunk.sample_rate, channels=1, dtype="int16")
                self._rate = chunk.sample_rate
                self._stream.start()
            self._stream.write(chunk.pcm)
        except sounddevice.PortAudioError as error:
            raise AudioError(f"the sound could not be played: {error}", hint=why_not()) from error

    def stop(self) -> None:
        """Silence at once; what was queued is dropped."""
        if self._stream is not None:
            self._stream.abort()

    def _close(self) -> None:
        if self._stream is not None:
            stream, self._stream, self._rate = self._stream, None, 0
            if stream.active:
                stream.stop()
            stream.close()
