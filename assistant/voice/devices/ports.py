"""What PortAudio knows: devices by name, streams, and its list of devices made anew. For one thread at a time."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from assistant.errors import AudioError

from .player import why_not

Kind = Literal["input", "output"]

BLOCK_SECONDS = 0.02
"""Sound per callback. A callback costs some 20 µs: half of this would double the price of listening."""
LATENCY: float | Literal["low"] = "low" if sys.platform == "darwin" else 3 * BLOCK_SECONDS
"""What PortAudio is asked for, in seconds. With ALSA it is the length of the device's buffer: three blocks, the
shortest that brings one block at a time. CoreAudio buffers by itself."""
CLOSE_SECONDS = 3.0
"""A stream that is not closed by then is left behind: closing waits for the device, which may be gone."""
MAX_CHANNELS = 2

_NOUNS = {"input": "microphone", "output": "loudspeaker"}
_REMEDIES = {
    "input": "connect one, or choose it in the system's sound settings",
    "output": "connect one, or choose it in the system's sound settings; until then nothing is heard of the answers",
}
_open: list[Any] = []


@dataclass(frozen=True, slots=True)
class Device:
    """An audio device as PortAudio lists it."""

    index: int
    name: str
    sample_rate: int
    """Its own, in samples per second."""


def library() -> Any:
    """The module sounddevice.

    Raises:
        AudioError: it or PortAudio is missing.
    """
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        raise AudioError("sound cannot be used on this machine", hint=why_not()) from error
    return sounddevice


def device_names(kind: Kind) -> list[str]:
    """The devices that can be chosen, each once.

    Raises:
        AudioError: PortAudio is missing.
    """
    return list(dict.fromkeys(device.name for device in _devices(kind)))


def find(kind: Kind, part: str = "") -> Device:
    """The first device with ``part`` in its name, in any case, one that is called so before others; or the default.

    Raises:
        AudioError: there is none; names those that there are.
    """
    sounddevice = library()
    if not part:
        try:
            return _device(sounddevice.query_devices(kind=kind))
        except (sounddevice.PortAudioError, ValueError) as error:
            raise AudioError(f"there is no {_NOUNS[kind]}", hint=_REMEDIES[kind]) from error
    matches = [device for device in _devices(kind) if part.casefold() in device.name.casefold()]
    if not matches:
        known = ", ".join(f'"{name}"' for name in device_names(kind)) or "none"
        hint = f"set [voice] {kind}_device to a part of one of these names, or to nothing: {known}"
        raise AudioError(f'no {_NOUNS[kind]} has "{part}" in its name', hint=hint)
    return min(matches, key=lambda device: device.name.casefold() != part.casefold())


def _devices(kind: Kind) -> list[Device]:
    return [_device(entry) for entry in library().query_devices() if entry[f"max_{kind}_channels"] > 0]


def _device(entry: Any) -> Device:
    return Device(entry["index"], entry["name"], round(entry["default_samplerate"]))


class Stream:
    """A stream at the device's own rate, 16 bit, with as few channels as it takes; not started yet.

    Args:
        callback: called as sounddevice's raw streams do, on a thread of PortAudio.
        ended: called there once when the stream has ended, by itself or by ``stop``.

    Raises:
        AudioError: the device cannot be opened.
    """

    def __init__(self, kind: Kind, device: Device, callback: Callable[..., None], ended: Callable[[], None]) -> None:
        sounddevice = library()
        make = sounddevice.RawInputStream if kind == "input" else sounddevice.RawOutputStream
        self._name = f'the {_NOUNS[kind]} "{device.name}"'
        for channels in range(1, MAX_CHANNELS + 1):
            try:
                self._stream = make(
                    samplerate=device.sample_rate, blocksize=round(device.sample_rate * BLOCK_SECONDS),
                    device=device.index, channels=channels, dtype="int16", latency=LATENCY,
                    callback=callback, finished_callback=ended,
                )
                break
            except (sounddevice.PortAudioError, ValueError) as error:
                if channels == MAX_CHANNELS:
                    raise self._refused(error) from error
        self.channels = channels
        _open.append(self._stream)

    def start(self) -> None:
        """Let it run.

        Raises:
            AudioError: the device went away.
        """
        try:
            self._stream.start()
        except library().PortAudioError as error:
            raise self._refused(error) from error

    def stop(self) -> None:
        """Stop at once; it can be started again."""
        self._stream.abort(ignore_errors=True)

    def close(self) -> None:
        """Stop at once, and give the device back."""
        worker = threading.Thread(target=self._close, name="audio-close", daemon=True)
        worker.start()
        worker.join(CLOSE_SECONDS)

    def _close(self) -> None:
        self._stream.abort(ignore_errors=True)
        self._stream.close(ignore_errors=True)
        _open.remove(self._stream)

    def _refused(self, error: Exception) -> AudioError:
        return AudioError(
            f"{self._name} cannot be opened: {error}", hint="another program may hold it, or it was just unplugged"
        )


def refresh() -> bool:
    """Let PortAudio look for devices again; False if a stream is open, as that would pull it from under its reader."""
    sounddevice = library()
    if _open:
        return False
    try:
        while sounddevice._initialized:
            sounddevice._terminate()
        sounddevice._initialize()
    except sounddevice.PortAudioError:
        return False
    return True
