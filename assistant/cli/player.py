"""The loudspeaker."""

from __future__ import annotations

from types import ModuleType

from assistant.errors import AudioError

HINT = "sudo apt install libportaudio2 (dnf, brew: portaudio), or write a file instead: -o OUT.wav"


def check_player() -> ModuleType:
    """The library that plays sound, if there is something to play on.

    Raises:
        AudioError: PortAudio is missing, or there is no loudspeaker.
    """
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        raise AudioError(f"sound cannot be played: {error}", hint=HINT) from None
    try:
        sounddevice.query_devices(kind="output")
    except (sounddevice.PortAudioError, ValueError) as error:
        raise AudioError(f"there is no loudspeaker: {error}", hint="write a file instead: -o OUT.wav") from None
    library: ModuleType = sounddevice
    return library


def play(pcm: bytes, rate: int) -> None:
    """Play 16-bit little-endian mono PCM on the default device and wait for its end; Ctrl-C stops at once.

    Raises:
        AudioError: it cannot be played.
    """
    sounddevice = check_player()
    piece = 2 * (rate // 10)
    try:
        with sounddevice.RawOutputStream(samplerate=rate, channels=1, dtype="int16") as stream:
            for start in range(0, len(pcm), piece):
                stream.write(pcm[start : start + piece])
    except sounddevice.PortAudioError as error:
        raise AudioError(f"the loudspeaker failed: {error}", hint="write a file instead: -o OUT.wav") from None
