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
from assistant_whisper.engine import SILENCE_RMS, WINDOW_SECONDS, Whisper

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
    assert utterance.feed(noise.astype("<i2").tobytes()) == ""
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
