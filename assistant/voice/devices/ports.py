"""What PortAudio knows: devices by name, streams, and its list of devices made anew. For one thread at a time."""

from __future__ import annotations

import atexit
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

from assistant.errors import AudioError

from .player import why_not

R = TypeVar("R")
Kind = Literal["input", "output"]

BLOCK_SECONDS = 0.02
"""Sound per callback. A callback costs some 20 µs: half of this would double the price of listening."""
LATENCY: float | Literal["low"] = "low" if sys.platform == "darwin" else 3 * BLOCK_SECONDS
"""What PortAudio is asked for, in seconds. With ALSA it is the length of the device's buffer: three blocks, the
shortest that brings one block at a time. CoreAudio buffers by itself."""
CALL_SECONDS = 5.0
"""The longest that PortAudio is waited for; Bluetooth devices take up to 3 s to open. What has not come back by then is
left behind: the list of devices cannot be made anew while it hangs."""
MAX_CHANNELS = 2

_NOUNS = {"input": "microphone", "output": "loudspeaker"}
_REMEDIES = {
    "input": "connect one, or choose it in the system's sound settings",
    "output": "connect one, or choose it in the system's sound settings; until then nothing is heard of the answers",
}
_holds: set[object] = set()
"""One for each stream that PortAudio may still have."""


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
        options: dict[str, Any] = {
            "samplerate": device.sample_rate, "blocksize": round(device.sample_rate * BLOCK_SECONDS),
            "device": device.index, "dtype": "int16", "latency": LATENCY,
            "callback": callback, "finished_callback": ended,
        }
        self._name = f'the {_NOUNS[kind]} "{device.name}"'
        self._hangs = False
        self._hold = object()
        _holds.add(self._hold)
        for channels in range(1, MAX_CHANNELS + 1):
            try:
                self._stream = _limited(partial(make, channels=channels, **options), self._discard)
                break
            except (sounddevice.PortAudioError, ValueError) as error:
                if channels == MAX_CHANNELS:
                    _holds.discard(self._hold)
                    raise self._refused(str(error)) from error
            except TimeoutError as error:
                raise self._refused("it does not answer") from error
        self.channels = channels
        self.block = options["blocksize"]

    def start(self) -> None:
        """Let it run.

        Raises:
            AudioError: the device went away.
        """
        try:
            self._call(self._stream.start)
        except library().PortAudioError as error:
            raise self._refused(str(error)) from error
        except TimeoutError as error:
            raise self._refused("it does not answer") from error

    def stop(self) -> None:
        """Stop at once; it can be started again."""
        with suppress(TimeoutError):
            self._call(partial(self._stream.abort, ignore_errors=True))

    def close(self) -> None:
        """Stop at once, and give the device back."""
        with suppress(TimeoutError):
            self._call(partial(self._discard, self._stream))

    def _call(self, call: Callable[[], None]) -> None:
        """PortAudio ends the process if a stream is touched that hangs in another call: it is left alone then."""
        if not self._hangs:
            try:
                _limited(call, lambda _: self._discard(self._stream))
            except TimeoutError:
                self._hangs = True
                raise

    def _discard(self, stream: Any) -> None:
        if self._hold in _holds:
            stream.abort(ignore_errors=True)
            stream.close(ignore_errors=True)
            _holds.discard(self._hold)

    def _refused(self, reason: str) -> AudioError:
        return AudioError(
            f"{self._name} cannot be opened: {reason}", hint="another program may hold it, or it was just unplugged"
        )


def refresh() -> bool:
    """Let PortAudio look for devices again; False if a stream is open, as that would pull it from under its reader."""
    sounddevice = library()
    if _holds:
        return False
    hold = object()
    _holds.add(hold)
    try:
        _limited(partial(_begin_again, sounddevice, hold))
    except (sounddevice.PortAudioError, TimeoutError):
        return False
    return True


def _begin_again(sounddevice: Any, hold: object) -> None:
    try:
        while sounddevice._initialized:
            sounddevice._terminate()
        sounddevice._initialize()
    finally:
        _holds.discard(hold)


def _limited(call: Callable[[], R], late: Callable[[R], object] | None = None) -> R:
    """A call into PortAudio, in a thread of its own: one during which a sound server dies may never come back.

    Args:
        late: takes what it gives after all, when nobody waits for it any more.

    Raises:
        TimeoutError: it did not come back.
    """
    sounddevice = library()
    done: Future[R] = Future()

    def work() -> None:
        try:
            done.set_result(call())
        except (sounddevice.PortAudioError, ValueError) as error:
            done.set_exception(error)

    threading.Thread(target=work, name="portaudio", daemon=True).start()
    try:
        return done.result(CALL_SECONDS)
    except TimeoutError:
        atexit.unregister(sounddevice._exit_handler)
        if late is not None:
            done.add_done_callback(lambda after: after.exception() or late(after.result()))
        raise
