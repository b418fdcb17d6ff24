"""Audio files of every kind, whole and broken."""

from __future__ import annotations

import io
import os
import stat
import struct
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from assistant.errors import AudioError
from assistant.voice.audio_files import read, write_wav

DATA = Path(__file__).parent.parent / "data"
JFK = DATA / "jfk.wav"


def tone(rate: int, seconds: float = 1.0, channels: int = 1, hertz: float = 440.0) -> NDArray[np.float64]:
    wave = 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)
    return np.stack([wave] * channels, axis=1)


def encoded(samples: NDArray[np.float64], rate: int, kind: str = "WAV", subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    return file.getvalue()


def samples(pcm: bytes) -> NDArray[np.int16]:
    return np.frombuffer(pcm, "<i2")


def resembles_tone(pcm: bytes, rate: int = 16_000) -> bool:
    """The middle of ``pcm`` is the 440 Hz tone at half of full scale, to 4 %."""
    middle = samples(pcm)[rate // 4 : 3 * rate // 4] / 32768
    spectrum = np.abs(np.fft.rfft(middle))
    return int(np.argmax(spectrum)) * 2 == 440 and abs(float(np.abs(middle).max()) - 0.5) < 0.02


def relength(wav: bytes, length: int) -> bytes:
    at = wav.index(b"data") + 4
    return wav[:at] + struct.pack("<I", length) + wav[at + 4 :]


def test_16_khz_mono_comes_through_bit_for_bit() -> None:
    audio = read(JFK)
    assert audio.pcm == JFK.read_bytes()[44:]
    assert audio.seconds == 11.0
    assert not audio.truncated


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000])
def test_every_rate_is_resampled(rate: int) -> None:
    audio = read(encoded(tone(rate), rate))
    assert abs(len(samples(audio.pcm)) - 16_000) <= 1
    assert audio.seconds == 1.0
    assert resembles_tone(audio.pcm)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"])
def test_every_sample_format(subtype: str) -> None:
    assert resembles_tone(read(encoded(tone(16_000), 16_000, "WAV", subtype)).pcm)


@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF", "W64", "RF64"])
def test_every_container(kind: str) -> None:
    audio = read(encoded(tone(44_100), 44_100, kind))
    assert resembles_tone(audio.pcm)
    assert not audio.truncated


def test_another_rate_than_the_recognisers() -> None:
    audio = read(encoded(tone(48_000), 48_000), rate=22_050)
    assert abs(len(samples(audio.pcm)) - 22_050) <= 1


def test_channels_are_mixed() -> None:
    both = tone(16_000, channels=2)
    both[:, 1] = -both[:, 0] / 2
    mixed = samples(read(encoded(both, 16_000)).pcm) / 32768
    assert abs(float(mixed.max()) - 0.125) < 0.001


def test_eight_channels() -> None:
    assert resembles_tone(read(encoded(tone(16_000, channels=8), 16_000)).pcm)


def test_samples_that_are_no_numbers() -> None:
    wave = tone(16_000)
    wave[100], wave[200], wave[300], wave[400] = np.nan, np.inf, -np.inf, 17.0
    heard = samples(read(encoded(wave, 16_000, "WAV", "FLOAT")).pcm)
    assert [int(heard[at]) for at in (100, 200, 300, 400)] == [0, 32767, -32768, 32767]


def test_digital_silence_is_audio() -> None:
    assert read(encoded(np.zeros((1600, 1)), 16_000)).pcm == bytes(3200)


def test_one_sample_is_audio() -> None:
    assert len(read(encoded(np.zeros((1, 1)), 16_000)).pcm) == 2


def test_a_truncated_wav_is_read_as_far_as_it_goes() -> None:
    audio = read(JFK.read_bytes()[:100_001])
    assert audio.truncated
    assert audio.pcm == JFK.read_bytes()[44:100_000]
    assert audio.seconds == pytest.approx((100_000 - 44) / 32_000)


def test_a_truncated_flac_is_read_as_far_as_it_goes() -> None:
    whole = encoded(tone(16_000, 20.0), 16_000, "FLAC")
    audio = read(whole[: len(whole) // 2])
    assert audio.truncated
    assert 5.0 < audio.seconds < 15.0


@pytest.mark.parametrize("length", [0, 0x7FFF_F000, 0xFFFF_FFFF])
def test_a_wav_that_was_written_into_a_pipe(length: int) -> None:
    audio = read(relength(JFK.read_bytes(), length))
    assert audio.pcm == JFK.read_bytes()[44:]
    assert not audio.truncated


def test_no_samples_behind_a_header() -> None:
    with pytest.raises(AudioError, match="holds no audio"):
        read(JFK.read_bytes()[:44])
    with pytest.raises(AudioError, match="holds no audio"):
        read(relength(JFK.read_bytes()[:44], 0) + b"LIST" + struct.pack("<I", 4) + b"INFO")


@pytest.mark.parametrize(
    "content",
    [b"R", b"hello, this is text\n" * 200, b"<html><body></body></html>" * 99, b"\x89PNG\r\n\x1a\n" + b"\x01\x02" * 999,
     bytes(10_000), b"\xff" * 10_000, b"RIFF\x24\x5f\x05\x00WAVEfmt "],
)
def test_what_is_not_audio(content: bytes) -> None:
    with pytest.raises(AudioError, match="not audio") as caught:
        read(content)
    assert "WAV" in caught.value.hint


def test_a_sample_rate_that_cannot_be() -> None:
    broken = bytearray(JFK.read_bytes())
    broken[24:28] = struct.pack("<I", 1)
    with pytest.raises(AudioError, match="1 samples a second"):
        read(bytes(broken))


def test_empty_missing_folder_and_device(tmp_path: Path) -> None:
    empty = tmp_path / "empty.wav"
    empty.touch()
    for path, said in [
        (empty, "is empty"),
        (tmp_path / "none.wav", "there is no file"),
        (tmp_path / "none" / "x.wav", "there is no folder"),
        (tmp_path, "is a folder"),
        (Path("/dev/zero"), "is a device"),
        (Path("a\0b"), "no file name"),
        (empty / "x.wav", "."),
    ]:
        with pytest.raises(AudioError, match=said) as caught:
            read(path)
        assert "\n" not in caught.value.message
    with pytest.raises(AudioError, match="the input is empty"):
        read(b"")


def test_a_raw_name_means_nothing(tmp_path: Path) -> None:
    path = tmp_path / "speech.raw"
    path.write_bytes(JFK.read_bytes())
    assert read(path).seconds == 11.0


def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(JFK.read_bytes(),))
    writer.start()
    assert read(pipe).seconds == 11.0
    writer.join()


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "out.wav"
    pcm = read(JFK).pcm
    write_wav(path, pcm, 16_000)
    assert path.read_bytes()[44:] == pcm
    assert read(path).pcm == pcm
    assert list(tmp_path.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) & 0o600 == 0o600


def test_writing_replaces_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.wav"
    write_wav(path, bytes(32_000), 16_000)
    write_wav(path, bytes(2), 16_000)
    assert path.stat().st_size == 46


def test_writing_into_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=write_wav, args=(pipe, read(JFK).pcm, 16_000))
    writer.start()
    assert read(pipe).seconds == 11.0
    writer.join()
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    for path, said in [(tmp_path / "no" / "x.wav", "there is no folder"), (tmp_path, "is a directory")]:
        with pytest.raises(AudioError, match=said):
            write_wav(path, bytes(2), 16_000)
    with pytest.raises(AudioError, match="do not fit"):
        write_wav(tmp_path / "odd.wav", bytes(3), 16_000)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk() -> None:
    full = Path("/dev/full")
    if not full.exists():
        full = Path("/nowhere/x.wav")
    with pytest.raises(AudioError) as caught:
        write_wav(full, bytes(200_000), 16_000)
    assert caught.value.hint
