"""Whether the machine's audio devices have changed; PortAudio's own list is frozen when it is initialised."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from pathlib import Path
from typing import Any

FOLLOWS_DEFAULT = sys.platform == "darwin"
"""An open stream stays on its device when the user chooses another default; elsewhere the sound server moves it."""

_CARDS = Path("/proc/asound/cards")
_CORE_AUDIO = "/System/Library/Frameworks/CoreAudio.framework/CoreAudio"
_SYSTEM_OBJECT = 1
_DEFAULTS = (b"dIn ", b"dOut")
"""kAudioHardwarePropertyDefaultInputDevice and …OutputDevice of AudioHardware.h."""
_RUN_LOOP = b"rnlp"
"""kAudioHardwarePropertyRunLoop: none lets CoreAudio keep its answers fresh in a thread of its own."""


class _Address(ctypes.Structure):
    """AudioObjectPropertyAddress."""

    _fields_ = [("selector", ctypes.c_uint32), ("scope", ctypes.c_uint32), ("element", ctypes.c_uint32)]


def fingerprint() -> tuple[object, ...]:
    """Something that differs when devices came or went, or another became the default; costs some microseconds."""
    if sys.platform == "darwin":
        library = _core_audio()
        return tuple(_default(library, selector) for selector in _DEFAULTS)
    try:
        return (_CARDS.read_bytes(),)
    except OSError:
        return ()


@cache
def _core_audio() -> Any:
    library = ctypes.CDLL(_CORE_AUDIO)
    nothing = ctypes.c_void_p(None)
    library.AudioObjectSetPropertyData(
        _SYSTEM_OBJECT, ctypes.byref(_address(_RUN_LOOP)), 0, None, ctypes.sizeof(nothing), ctypes.byref(nothing)
    )
    return library


def _address(selector: bytes) -> _Address:
    return _Address(int.from_bytes(selector, "big"), int.from_bytes(b"glob", "big"), 0)


def _default(library: Any, selector: bytes) -> int:
    """The id of a default device; 0 if there is none."""
    device = ctypes.c_uint32(0)
    size = ctypes.c_uint32(ctypes.sizeof(device))
    status = library.AudioObjectGetPropertyData(
        _SYSTEM_OBJECT, ctypes.byref(_address(selector)), 0, None, ctypes.byref(size), ctypes.byref(device)
    )
    return 0 if status else device.value
