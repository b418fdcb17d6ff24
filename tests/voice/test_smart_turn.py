"""The turn model on real speech, and its input against the library that the model was trained with."""

from __future__ import annotations

import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from assistant.errors import ModelNotFound
from assistant.voice import audio_files
from assistant.voice.smart_turn import BINS, SAMPLES, SmartTurn, features

DATA = Path(__file__).parents[1] / "data"
SECOND = 32000
"""Bytes."""

SENTENCES = ((0.0, 1.4), (1.55, 3.0), (3.2, 4.4), (6.1, 7.6), (7.8, 9.1))
"""Seconds of beckett.wav: sentences of two words each, and 0.2 s of the pause after them."""
CUTS = (3.6, 4.6, 5.8, 6.3, 7.1, 7.84)
"""Seconds of jfk.wav: within words, between two, and in pauses for effect within a sentence."""


def sound(name: str, until: float = 1000.0, start: float = 0.0) -> bytes:
    return audio_files.read(DATA / f"{name}.wav").pcm[int(start * SECOND) // 2 * 2 : int(until * SECOND) // 2 * 2]


def padded(pcm: bytes) -> np.ndarray:
    samples = np.frombuffer(pcm, "<i2")[-SAMPLES:].astype(np.float32) / 32768
    return np.concatenate([np.zeros(SAMPLES - len(samples), np.float32), samples])


@pytest.fixture(scope="module")
def smart_turn(smart_turn_model: Path) -> SmartTurn:
    return SmartTurn(smart_turn_model)


@pytest.mark.parametrize("seconds", [0.1, 3.0, 8.0, 11.0])
def test_the_features_are_whispers(seconds: float) -> None:
    from transformers import WhisperFeatureExtractor

    pcm = sound("jfk", seconds)
    extractor = WhisperFeatureExtractor(chunk_length=8)
    expected = extractor(
        padded(pcm), sampling_rate=16000, padding="max_length", max_length=SAMPLES, truncation=True, do_normalize=True,
        return_tensors="np",
    ).input_features[0]  # fmt: skip
    found = features(pcm)
    assert found.shape == (BINS, 800)
    assert found.dtype == np.dtype(np.float32)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_only_the_last_seconds_count() -> None:
    np.testing.assert_array_equal(features(sound("jfk")), features(sound("jfk")[-2 * SAMPLES :]))


@pytest.mark.parametrize("pcm", [b"", bytes(3200), bytes(2 * SAMPLES)])
def test_silence_is_a_number_too(smart_turn: SmartTurn, pcm: bytes) -> None:
    assert np.isfinite(features(pcm)).all()
    assert 0.0 <= smart_turn.probability(pcm) <= 1.0


def test_an_end_sounds_like_one(smart_turn: SmartTurn) -> None:
    ends = [smart_turn.probability(sound("beckett", until, start)) for start, until in SENTENCES]
    assert min(ends) > 0.6
    assert statistics.median(ends) > 0.9


def test_a_cut_does_not(smart_turn: SmartTurn) -> None:
    cuts = [smart_turn.probability(sound("jfk", until)) for until in CUTS]
    assert max(cuts) < 0.4
    assert statistics.median(cuts) < 0.1


def test_it_is_the_same_in_every_thread(smart_turn_model: Path) -> None:
    smart_turn = SmartTurn(smart_turn_model)
    pcm = sound("beckett", 1.4)
    with ThreadPoolExecutor(4) as threads:
        found = set(threads.map(smart_turn.probability, [pcm] * 4))
    assert len(found) == 1


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    smart_turn = SmartTurn(tmp_path)
    with pytest.raises(ModelNotFound, match=r"model\.onnx") as caught:
        smart_turn.probability(b"")
    assert caught.value.hint == "assistant models pull smart-turn"
