"""Whisper on a tiny checkpoint in mlx-whisper's format: real loading, real mel spectrogram, real decoding.

Its weights are zero but for the embeddings, which are made so that each position's most probable token is the next
one of a sentence: the checkpoint says the same whatever it hears, and everything around that is as with any model.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import assistant_whisper
import numpy as np
import pytest
from assistant_whisper.engine import Whisper
from assistant_whisper.loudness import loudness
from assistant_whisper.utterance import SILENCE_RMS, WINDOW_SECONDS, WhisperTranscription

from assistant import EngineFailed, ModelError, load_openblas

pytestmark = pytest.mark.model

JFK = (Path(__file__).parent.parent / "data" / "jfk.wav").read_bytes()[44:]
DIMENSIONS = {
    "n_mels": 80, "n_audio_ctx": 1500, "n_audio_state": 64, "n_audio_head": 1, "n_audio_layer": 1,
    "n_vocab": 51865, "n_text_ctx": 64, "n_text_state": 64, "n_text_head": 1, "n_text_layer": 1,
}


def checkpoint(folder: Path, text: str = " Hello world.", language: str = "fr", seconds: float = 1.0) -> Path:
    """A model that hears ``text`` in every window, in ``language`` unless told otherwise, from 0 to ``seconds``."""
    load_openblas()
    mx: Any = importlib.import_module("mlx.core")
    utils: Any = importlib.import_module("mlx.utils")
    network: Any = importlib.import_module("mlx_whisper.whisper")
    tokenizers: Any = importlib.import_module("mlx_whisper.tokenizer")
    shapes = network.Whisper(network.ModelDimensions(**DIMENSIONS), mx.float32)
    weights = {name: mx.zeros_like(value) for name, value in utils.tree_flatten(shapes.parameters())}
    weights["decoder.ln.weight"] = mx.ones(64)
    embedding = np.random.default_rng(1).normal(size=(DIMENSIONS["n_vocab"], 64)).astype(np.float32)
    tokens = tokenizers.get_tokenizer(True, num_languages=99, language=language, task="transcribe")
    begin = tokens.timestamp_begin
    end = begin + round(seconds * 50)
    said = [tokens.sot_sequence[1], tokens.transcribe, begin, *tokens.encode(text), end, tokens.eot]
    positions = np.zeros((64, 64), np.float32)
    positions[: len(said)] = 8 * embedding[said]
    weights["decoder.token_embedding.weight"] = mx.array(embedding)
    weights["decoder.positional_embedding"] = mx.array(positions)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**DIMENSIONS, "model_type": "whisper"}))
    mx.save_safetensors(str(folder / "weights.safetensors"), weights)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("whisper") / "toy")


@pytest.fixture
def whisper(folder: Path) -> Iterator[Whisper]:
    engine = Whisper()
    engine.load(folder)
    yield engine
    engine.close()


def test_a_recording(whisper: Whisper) -> None:
    utterance = whisper.open("en-US", ("set a timer",))
    for at in range(0, len(JFK), 10_000):
        assert utterance.feed(JFK[at : at + 10_000]) is None
    heard = utterance.finish()
    assert heard.text == "Hello world."
    assert heard.language == "en"
    assert heard.seconds == 11.0
    assert [(one.start, one.end, one.text) for one in heard.segments] == [(0.0, 1.0, "Hello world.")]


def test_the_language_is_detected_when_none_is_given(whisper: Whisper) -> None:
    utterance = whisper.open("", ())
    utterance.feed(JFK)
    assert utterance.finish().language == "fr"


def test_the_same_audio_gives_the_same_transcript(whisper: Whisper) -> None:
    heard = []
    for _ in range(2):
        utterance = whisper.open("en", ())
        utterance.feed(JFK)
        heard.append(utterance.finish())
    assert heard[0] == heard[1]


def test_a_long_recording_is_transcribed_while_it_comes(whisper: Whisper) -> None:
    utterance = whisper.open("en", ())
    partial = [utterance.feed(JFK) for _ in range(6)]
    assert partial == [None, None, "Hello world.", None, "Hello world. Hello world.", None]
    heard = utterance.finish()
    assert heard.text == "Hello world. Hello world. Hello world."
    assert heard.seconds == 66.0
    starts = [one.start for one in heard.segments]
    assert starts == sorted(starts)
    assert all(0 <= one.start < one.end <= 66.0 for one in heard.segments)
    assert all(18 <= after - before <= WINDOW_SECONDS for before, after in pairwise(starts))


def test_windows_are_cut_where_it_is_quiet(whisper: Whisper) -> None:
    loud = (np.random.default_rng(0).normal(0, 3000, 16_000 * 30)).astype("<i2")
    loud[16_000 * 21 : 16_000 * 22] = 0
    utterance = whisper.open("en", ())
    utterance.feed(loud.tobytes())
    second = utterance.finish().segments[1]
    assert 21.0 <= second.start <= 22.0


@pytest.mark.parametrize("level", [0, SILENCE_RMS // 2])
def test_silence_says_nothing(whisper: Whisper, level: int) -> None:
    noise = np.random.default_rng(0).normal(0, 1, 16_000 * 40) * level
    utterance = whisper.open("en", ())
    assert utterance.feed(noise.astype("<i2").tobytes()) is None
    heard = utterance.finish()
    assert (heard.text, heard.segments, heard.seconds) == ("", (), 40.0)


def test_no_audio_at_all(whisper: Whisper) -> None:
    assert whisper.open("en", ()).finish().text == ""


def test_a_repetitive_text_is_a_hallucination(tmp_path: Path) -> None:
    engine = Whisper()
    engine.load(checkpoint(tmp_path / "toy", text=" you" * 20))
    utterance = engine.open("en", ())
    utterance.feed(JFK)
    assert utterance.finish().text == ""
    engine.close()


@pytest.mark.parametrize(
    ("text", "level", "believed"),
    [(" Thank you.", 60, False), (" Thank you.", 6000, True), (" Vielen Dank.", 100, False), (" Stop.", 60, True),
     (" Untertitel der Amara.org-Community", 6000, False), (" ...", 6000, False)],
)  # fmt: skip
def test_well_known_inventions_are_not_believed(tmp_path: Path, text: str, level: int, believed: bool) -> None:
    engine = Whisper()
    engine.load(checkpoint(tmp_path / "toy", text=text))
    utterance = engine.open("en", ())
    noise = np.random.default_rng(0).normal(0, 1, 32_000) * level
    utterance.feed((noise * np.repeat([0.2, 1.0, 0.2, 1.0, 0.2], 6400)).astype("<i2").tobytes())
    assert utterance.finish().text == (text.strip() if believed else "")
    engine.close()


def test_thanks_in_a_steady_hum_are_not_believed(tmp_path: Path) -> None:
    engine = Whisper()
    engine.load(checkpoint(tmp_path / "toy", text=" Thank you."))
    utterance = engine.open("en", ())
    utterance.feed((np.sin(np.arange(32_000) / 20) * 6000).astype("<i2").tobytes())
    assert utterance.finish().text == ""
    engine.close()


class Counted:
    """Counts how often Whisper runs."""

    def __init__(self, engine: Whisper) -> None:
        self.runs: list[int] = []
        self.seconds = 0.1
        self._engine = engine

    def window(self, samples: np.ndarray[Any, np.dtype[np.float32]], language: str) -> dict[str, Any]:
        self.runs.append(len(samples))
        return self._engine.window(samples, language)


def test_a_draft_is_kept_until_somebody_speaks_again(whisper: Whisper) -> None:
    counted = Counted(whisper)
    utterance = WhisperTranscription(counted, "en")
    utterance.feed(JFK[: 3 * 32_000])
    assert utterance.draft().text == "Hello world."
    assert utterance.draft().seconds == 3.0
    utterance.feed(bytes(32_000))
    heard = utterance.finish()
    assert (heard.text, heard.seconds) == ("Hello world.", 4.0)
    assert counted.runs == [3 * 16_000]
    utterance.feed(JFK[3 * 32_000 : 5 * 32_000])
    assert utterance.draft().seconds == 6.0
    assert counted.runs == [3 * 16_000, 6 * 16_000]


def test_a_noisy_pause_after_a_draft_is_no_speech(whisper: Whisper) -> None:
    counted = Counted(whisper)
    speech = np.frombuffer(JFK[: 2 * 32_000], "<i2").astype(np.float32)
    speech *= 8000 / np.abs(speech).max()
    sound = np.concatenate([speech, np.zeros(32_000)]) + np.random.default_rng(1).normal(0, 300, 64_000)
    pcm = sound.astype("<i2").tobytes()
    utterance = WhisperTranscription(counted, "en")
    utterance.feed(pcm[: 2 * 32_000 + 6_400])
    utterance.draft()
    utterance.feed(pcm[2 * 32_000 + 6_400 :])
    utterance.finish()
    assert len(counted.runs) == 1


def test_partial_transcripts_leave_time_for_other_things(whisper: Whisper) -> None:
    counted = Counted(whisper)
    quick = WhisperTranscription(counted, "en")
    partial = [quick.feed(JFK[at : at + 3_200]) for at in range(0, 96_000, 3_200)]
    assert partial[9] == "Hello world."
    assert counted.runs == [16_000, 32_000, 48_000]
    assert partial.count(None) == 29
    counted.seconds, counted.runs = 0.4, []
    quick = WhisperTranscription(counted, "en")
    for at in range(0, 96_000, 3_200):
        quick.feed(JFK[at : at + 3_200])
    assert len(counted.runs) == 3
    for seconds, size in ((0.6, 3_200), (0.1, 32_000)):
        counted.seconds, counted.runs = seconds, []
        slow = WhisperTranscription(counted, "en")
        assert all(slow.feed(JFK[at : at + size]) is None for at in range(0, 96_000, size))
        assert not counted.runs


def test_the_time_of_a_run_is_known_after_the_first(whisper: Whisper) -> None:
    assert whisper.seconds == float("inf")
    utterance = whisper.open("en", ())
    utterance.feed(JFK)
    utterance.finish()
    assert 0 < whisper.seconds < float("inf")


@pytest.mark.parametrize("count", [0, 1, 479, 480, 5000])
def test_loudness_of_next_to_nothing(count: int) -> None:
    found = loudness(np.full(count, 100, np.float32))
    assert found.peak == found.middle == pytest.approx(100 if count else 0)


def test_an_end_after_the_end_of_the_audio_is_cut(tmp_path: Path) -> None:
    engine = Whisper()
    engine.load(checkpoint(tmp_path / "toy", seconds=29.0))
    utterance = engine.open("en", ())
    utterance.feed(JFK)
    assert [one.end for one in utterance.finish().segments] == [11.0]
    engine.close()


def test_an_unknown_language(whisper: Whisper) -> None:
    with pytest.raises(EngineFailed, match="'tlh'") as caught:
        whisper.open("tlh", ())
    assert "en" in caught.value.hint


def test_broken_folders(folder: Path, tmp_path: Path) -> None:
    config, weights = (folder / "config.json").read_bytes(), (folder / "weights.safetensors").read_bytes()
    mx: Any = importlib.import_module("mlx.core")
    stored = mx.load(str(folder / "weights.safetensors"))
    mx.save_safetensors(str(tmp_path / "fewer.safetensors"), {k: v for k, v in stored.items() if "mlp" not in k})
    smaller = json.dumps({**json.loads(config), "n_text_ctx": 32}).encode()
    for name, files in {
        "empty": {},
        "no weights": {"config.json": config},
        "no config": {"weights.safetensors": weights},
        "cut weights": {"config.json": config, "weights.safetensors": weights[: len(weights) // 2]},
        "cut config": {"config.json": config[:20], "weights.safetensors": weights},
        "another model": {"config.json": b'{"hidden_size": 4}', "weights.safetensors": weights},
        "a list": {"config.json": b"[]", "weights.safetensors": weights},
        "fewer weights": {"config.json": config, "weights.safetensors": (tmp_path / "fewer.safetensors").read_bytes()},
        "other shapes": {"config.json": smaller, "weights.safetensors": weights},
    }.items():
        broken = tmp_path / name
        broken.mkdir()
        for file, content in files.items():
            (broken / file).write_bytes(content)
        with pytest.raises(ModelError) as caught:
            Whisper().load(broken)
        assert caught.value.hint, name
    with pytest.raises(ModelError, match="needs a model"):
        Whisper().load(None)


def test_closed_is_closed_and_loads_again(folder: Path) -> None:
    engine = Whisper()
    with pytest.raises(EngineFailed, match="not loaded"):
        engine.open("en", ())
    engine.load(folder)
    engine.close()
    with pytest.raises(EngineFailed, match="not loaded"):
        engine.open("en", ())
    engine.load(folder)
    utterance = engine.open("en", ())
    utterance.feed(JFK)
    assert utterance.finish().text == "Hello world."
    engine.close()


def test_the_plugin_offers_the_engine() -> None:
    (engine,) = assistant_whisper.register_stt()
    assert isinstance(engine, Whisper)
    assert (engine.name, engine.lane, engine.available()) == ("whisper", "gpu", "")
    assert engine.default_model.startswith("hf:mlx-community/whisper-")
