"""Audio files in and out: anything libsndfile knows becomes 16-bit little-endian mono PCM."""

from __future__ import annotations

import errno
import io
import secrets
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from assistant.engines import STT_SAMPLE_RATE
from assistant.errors import AudioError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FORMATS = "WAV, FLAC, OGG, MP3 and AIFF files can be read"

BLOCK_SAMPLES = 1 << 18
"""Samples, of all channels together, that are decoded at a time."""

FLAC_SAMPLES = 1 << 12
"""The same for FLAC, where an error loses the whole block; MP3 needs the long ones, as each begins with a seek."""

RATES = range(2_000, 768_001)
"""Sample rates, in hertz, that are taken for real."""

STREAMED = 0x7FFF_0000
"""A WAV header that claims at least so many bytes was written into a pipe, before the length was known."""

_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")


class Audio(msgspec.Struct, frozen=True, kw_only=True):
    """What was read."""

    pcm: bytes
    """16-bit little-endian mono, at the rate that was asked for."""
    seconds: float
    truncated: bool = False
    """The file says that it is longer than it is."""


def read(source: Path | str | bytes, rate: int = STT_SAMPLE_RATE) -> Audio:
    """All audio of a file, or of a file's ``bytes``, mixed to one channel and resampled to ``rate`` hertz.

    Raises:
        AudioError: it is missing, unreadable, not audio, or holds none.
    """
    if isinstance(source, bytes):
        return _decode(io.BytesIO(source), "the input", rate)
    path = Path(source)
    with _explained(path, "read"):
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, "is a folder")
        if stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind):
            return _decode(io.BytesIO(path.read_bytes()), str(path), rate)
        if not stat.S_ISREG(kind):
            raise AudioError(f"{path} is a device, not a file", hint=FORMATS)
        with path.open("rb") as file:
            return _decode(file, str(path), rate)


def write_wav(path: Path | str, pcm: bytes, rate: int) -> None:
    """Write 16-bit little-endian mono PCM as a WAV file, which appears whole or not at all.

    Raises:
        AudioError: the folder is missing or closed to us, the disk is full, or the audio is too long for WAV (4 GiB).
    """
    path = Path(path)
    if len(pcm) % 2 or len(pcm) > 0xFFFF_FFFF - _HEADER.size:
        raise AudioError(f"{len(pcm)} bytes of audio do not fit into a WAV file")
    header = _HEADER.pack(
        b"RIFF", len(pcm) + 36, b"WAVE", b"fmt ", 16, 1, 1, rate, rate * 2, 2, 16, b"data", len(pcm)
    )
    with _explained(path, "written"):
        if path.exists() and not path.is_file():
            with path.open("wb", buffering=0) as file:
                _write_all(file, header + pcm)
            return
        draft = path.with_name(f".{path.name[:80]}.{secrets.token_hex(4)}")
        try:
            with draft.open("xb", buffering=0) as file:
                _write_all(file, header + pcm)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)


def _write_all(file: io.RawIOBase | io.FileIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) or 0 :]


def _decode(file: io.BufferedIOBase | io.BytesIO, name: str, rate: int) -> Audio:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if not size:
        raise AudioError(f"{name} is empty", hint=FORMATS)
    truncated, file = _mend(file, size)
    try:
        import soundfile
    except (ImportError, OSError) as error:
        raise AudioError(
            f"audio files cannot be read: {error}", hint="install libsndfile, or reinstall the package soundfile"
        ) from error
    try:
        with soundfile.SoundFile(_Unnamed(file)) as sound:
            if sound.samplerate not in RATES:
                raise AudioError(f"{name} claims {sound.samplerate} samples a second", hint="the file is damaged")
            pcm, frames = _samples(sound, rate)
            truncated = truncated or 0 <= frames < sound.frames < STREAMED
            seconds = frames / sound.samplerate
    except soundfile.SoundFileError as error:
        raise AudioError(f"{name} is not audio that can be read", hint=FORMATS) from error
    if not pcm:
        raise AudioError(f"{name} holds no audio", hint="its header is right but there is not one sample behind it")
    return Audio(pcm=pcm, seconds=seconds, truncated=truncated)


def _samples(sound: Any, rate: int) -> tuple[bytes, int]:
    """The PCM and the number of frames that were really there."""
    import numpy as np
    import soundfile
    import soxr

    resampler = soxr.ResampleStream(sound.samplerate, rate, 1, "float32") if sound.samplerate != rate else None
    size = FLAC_SAMPLES if sound.format == "FLAC" else BLOCK_SAMPLES
    pcm, frames, last = bytearray(), 0, False
    while not last:
        try:
            block = sound.read(max(size // sound.channels, 1), dtype="float32", always_2d=True)
        except soundfile.SoundFileError:
            if not frames:
                raise
            block = np.zeros((0, 1), np.float32)
        last = not len(block)
        frames += len(block)
        mono = np.nan_to_num(block, nan=0.0, posinf=1.0, neginf=-1.0).mean(axis=1, dtype=np.float32)
        pcm += _pcm(resampler.resample_chunk(mono, last=last) if resampler else mono)
    return bytes(pcm), frames


def _pcm(samples: NDArray[np.float32]) -> bytes:
    import numpy as np

    scaled: NDArray[np.float32] = np.rint(samples * 32768.0)
    return bytes(np.clip(scaled, -32768, 32767).astype("<i2").tobytes())


def _mend(file: io.BufferedIOBase | io.BytesIO, size: int) -> tuple[bool, io.BufferedIOBase | io.BytesIO]:
    """Whether a WAV file is cut short, and the file with a length in its header if it had none.

    Programs that write WAV into a pipe put 0 or the largest number where the length belongs.
    """
    head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        file.seek(0)
        return False, file
    truncated, at = False, 12
    while len(chunk := file.read(8)) == 8:
        name, length = chunk[:4], int.from_bytes(chunk[4:], "little")
        at += 8
        if name == b"data":
            rest = size - at
            truncated = rest < length < STREAMED
            if length == 0 and rest and not _is_chunk(file.read(8), rest):
                file.seek(0)
                whole = bytearray(file.read())
                whole[at - 4 : at] = rest.to_bytes(4, "little")
                return False, io.BytesIO(whole)
            break
        at += length + length % 2
        if at >= size:
            truncated = True
        file.seek(at)
    file.seek(0)
    return truncated, file


def _is_chunk(head: bytes, rest: int) -> bool:
    return head[:4].isalnum() and int.from_bytes(head[4:], "little") + 8 <= rest


class _Unnamed:
    """A file without a name, so that only its content decides what it is."""

    def __init__(self, file: io.BufferedIOBase | io.BytesIO) -> None:
        self.read = file.read
        self.readinto = file.readinto
        self.seek = file.seek
        self.tell = file.tell
        self.write = file.write


@contextmanager
def _explained(path: Path, verb: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        missing = path if path.parent.is_dir() else path.parent
        kind = "file" if missing is path else "folder"
        raise AudioError(f"there is no {kind} {str(missing)!r}", hint=f"the {kind} must exist") from error
    except OSError as error:
        hints = {
            errno.EISDIR: "name a file in it",
            errno.EACCES: "check its permissions",
            errno.ENOSPC: "free some space",
            errno.EROFS: "the disk is read-only",
        }
        reason = (error.strerror or str(error)).lower()
        raise AudioError(f"{str(path)!r} cannot be {verb}: {reason}", hint=hints.get(error.errno or 0, "")) from error
    except ValueError as error:
        raise AudioError(f"{str(path)!r} is no file name: {error}") from error
