"""The decoder: alone and side by side, joining and leaving, adapters, a draft model, packed contexts, failures."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from assistant_mlx import Settings
from assistant_mlx.cache.prefix import PrefixCache
from assistant_mlx.decoding.decoder import MAX_LIVE, Decoder
from assistant_mlx.decoding.sampling import penalties
from assistant_mlx.decoding.sequence import Prefilled, Sequence, Token
from assistant_mlx.engine import MlxLanguageModel
from model_fixtures import scripted_model

from assistant import ChatRequest, Delta, EngineFailed, Message, ModelError

WORDS = ["Hello", " there", " my", " dear", " friend", " how", " are", " you", " to", "day", "?"]
TEXT = "".join(WORDS)


def request(text: str = "hi", **fields: Any) -> ChatRequest:
    """One question."""
    return ChatRequest(messages=(Message(role="user", content=text),), **fields)


def text_of(deltas: Iterator[Delta]) -> str:
    """All the text."""
    return "".join(delta.text for delta in deltas)


def engine_of(folder: Path, settings: Settings | None = None, draft: Path | None = None) -> MlxLanguageModel:
    """An engine with that model."""
    engine = MlxLanguageModel(settings or Settings())
    engine.draft_model = draft
    engine.load(folder)
    return engine


def decoder_of(engine: MlxLanguageModel) -> Decoder:
    """What computes its answers."""
    assert engine._decoder is not None
    return engine._decoder


@pytest.fixture(scope="module")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Llama with random weights: its answers depend on every token of the prompt."""
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.models.llama import Model, ModelArgs

    folder = scripted_model(tmp_path_factory.mktemp("random"), ["a", "b"])
    config = json.loads((folder / "config.json").read_text())
    config["rope_theta"] = 10000
    mx.random.seed(7)
    model = Model(ModelArgs.from_dict(config))
    weights = {name: 3 * array for name, array in tree_flatten(model.parameters())}
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    (folder / "config.json").write_text(json.dumps(config))
    return folder


QUESTIONS = [f"question {number} about {'very ' * number}old things" for number in range(12)]


@pytest.mark.parametrize("settings", [Settings(), Settings(kv_bits=8, prompt_cache_mb=0)], ids=["batch", "packed"])
def test_who_joins_and_leaves_changes_no_other_answer(random_model: Path, settings: Settings) -> None:
    engine = engine_of(random_model, settings)
    alone = [text_of(engine.generate(request(question, max_tokens=20))) for question in QUESTIONS]
    assert len(set(alone)) > len(alone) // 2
    chance = random.Random(3)
    texts = [""] * len(QUESTIONS)
    live: dict[int, Iterator[Delta]] = {}
    coming = list(range(len(QUESTIONS)))
    doomed: list[Any] = []
    while coming or live:
        if coming and chance.random() < 0.2:
            index = coming.pop(0)
            live[index] = engine.generate(request(QUESTIONS[index], max_tokens=20))
        if chance.random() < 0.1:
            doomed.append(engine.generate(request("x" * chance.randrange(600), max_tokens=30)))
        for generator in doomed[:]:
            if chance.random() < 0.2 or next(generator, None) is None:
                generator.close()
                doomed.remove(generator)
        for index in list(live):
            delta = next(live[index], None)
            if delta is None:
                del live[index]
            else:
                texts[index] += delta.text
    assert texts == alone
    for generator in doomed:
        generator.close()
    assert not decoder_of(engine)._live
    engine.close()


def test_a_request_alone_goes_on_in_a_batch_without_a_seam(tmp_path: Path) -> None:
    engine = engine_of(scripted_model(tmp_path, WORDS))
    first, second = engine.generate(request()), engine.generate(request("and you"))
    begun = ""
    while len(begun) < 12:
        begun += next(first).text
    assert len(decoder_of(engine)._batch) == 0
    other = ""
    while not other:
        other += next(second).text
    assert len(decoder_of(engine)._batch) == 2
    assert begun + text_of(first) == TEXT
    assert other + text_of(second) == TEXT
    assert len(decoder_of(engine)._batch) == 0


def test_a_later_short_prompt_does_not_wait_for_an_earlier_long_one(tmp_path: Path) -> None:
    engine = engine_of(scripted_model(tmp_path, WORDS), Settings(prefill_step=16))
    long = engine.generate(request("x" * 1500))
    next(long)
    assert text_of(engine.generate(request())) == TEXT
    first = next(long)
    assert first.prompt_done < 100
    long.close()


def test_steps_are_short_while_speech_is_live(tmp_path: Path) -> None:
    engine = engine_of(scripted_model(tmp_path, WORDS), Settings(prompt_cache_mb=0))

    def steps() -> int:
        sizes = [delta.prompt_done for delta in engine.generate(request("x" * 1200, max_tokens=1)) if delta.prompt_done]
        return len(set(sizes))

    engine.speech_live(True)
    hurried = steps()
    engine.speech_live(False)
    assert hurried >= 3 * steps()


def test_one_that_waits_works_for_those_before_it(tmp_path: Path) -> None:
    """Its steps may be the only ones that a lane runs (a spoken turn goes before all others)."""
    engine = engine_of(scripted_model(tmp_path, WORDS))
    for begun in (before := [engine.generate(request("x" * 300)) for _ in range(MAX_LIVE)]):
        next(begun)
    assert len(decoder_of(engine)._live) == MAX_LIVE
    assert text_of(engine.generate(request())) == TEXT
    assert [text_of(begun) for begun in before] == [TEXT] * MAX_LIVE


def test_what_is_urgent_begins_however_many_are_live(tmp_path: Path) -> None:
    engine = engine_of(scripted_model(tmp_path, WORDS))
    before = [engine.generate(request()) for _ in range(MAX_LIVE)]
    begun = [next(generator).text for generator in before]
    urgent = engine.generate(request(urgent=True))
    assert not any(delta.prompt_done == 0 and not delta.text for delta in [next(urgent), next(urgent)])
    assert len(decoder_of(engine)._live) == MAX_LIVE + 1
    assert TEXT.endswith(text_of(urgent))
    assert [text + text_of(rest) for text, rest in zip(begun, before, strict=True)] == [TEXT] * MAX_LIVE


def test_a_failing_step_ends_the_answers_in_it_and_spoils_none_after(tmp_path: Path) -> None:
    engine = engine_of(scripted_model(tmp_path, WORDS))
    first, second = engine.generate(request()), engine.generate(request(temperature=1.0))
    for generator in (first, second):
        while not next(generator).text:
            pass
    reading = engine.generate(request("x" * 1500))
    next(reading)
    writing = decoder_of(engine)._batch._generator._generation_batch
    writing.samplers = [_raise] * len(writing.samplers)
    for generator in (first, second):
        with pytest.raises(EngineFailed, match="out of memory"):
            list(generator)
    assert text_of(reading) == TEXT
    assert text_of(engine.generate(request())) == TEXT


def _raise(logprobs: object) -> object:
    raise RuntimeError("out of memory")


class Failing:
    """A processor that gives up at the third token."""

    failed = ""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, tokens: Any, logits: Any) -> Any:
        """The logits as they are."""
        self.calls += 1
        self.failed = "the grammar is stuck" if self.calls > 3 else ""
        return logits


@pytest.mark.parametrize("company", [False, True])
def test_a_processor_that_fails_ends_its_own_request_only(tmp_path: Path, company: bool) -> None:
    engine = engine_of(scripted_model(tmp_path, WORDS))
    decoder = decoder_of(engine)
    prompt = engine._loaded.tokenizer.encode("hi\n") if engine._loaded else []
    doomed = Sequence(prompt=prompt, max_tokens=20, processors=[Failing()])
    healthy = engine.generate(request())
    text = ""
    if company:
        while not text:
            text += next(healthy).text
    decoder.insert(doomed)
    with pytest.raises(EngineFailed, match="the grammar is stuck"):
        _exhaust(decoder, doomed)
    decoder.remove(doomed)
    assert 2 <= len(doomed.written) <= 4
    assert text + text_of(healthy) == TEXT


def _exhaust(decoder: Decoder, sequence: Sequence) -> None:
    while not sequence.ended or sequence.steps or sequence.lost:
        decoder.take(sequence)


def test_a_prompt_of_one_token_is_answered(tmp_path: Path) -> None:
    engine = engine_of(scripted_model(tmp_path, WORDS))
    decoder = decoder_of(engine)
    assert engine._loaded is not None
    sequence = Sequence(prompt=engine._loaded.tokenizer.encode("\n"), max_tokens=3)
    assert len(sequence.prompt) == 1
    decoder.insert(sequence)
    steps: list[Prefilled | Token | None] = []
    while not (steps and isinstance(steps[-1], Token) and steps[-1].end):
        steps.append(decoder.take(sequence))
    assert [step.end for step in steps if isinstance(step, Token)] == ["", "", "length"]
    decoder.remove(sequence)


def test_a_draft_model_changes_no_token_and_guesses_some(tmp_path: Path) -> None:
    folder = scripted_model(tmp_path / "big", WORDS)
    draft = scripted_model(tmp_path / "small", WORDS)
    engine = engine_of(folder, draft=draft)
    deltas = list(engine.generate(request()))
    assert text_of(iter(deltas)) == TEXT
    assert deltas[-1].drafted_tokens >= len(WORDS) // 2
    assert deltas[-1].output_tokens == len(WORDS) + 1
    again = list(engine.generate(request(max_tokens=4)))
    assert text_of(iter(again)) == "".join(WORDS[:4])
    assert again[-1].finish_reason == "length"


def test_with_a_draft_model_others_may_join_at_any_token(random_model: Path, tmp_path: Path) -> None:
    plain, helped = engine_of(random_model), engine_of(random_model, draft=random_model)
    one, other = (text_of(plain.generate(request(text, max_tokens=25))) for text in ("first", "second"))
    for head_start in range(1, 12):
        first = helped.generate(request("first", max_tokens=25))
        begun = "".join(next(first).text for _ in range(head_start))
        second = helped.generate(request("second", max_tokens=25))
        begun += next(second).text and ""
        together = text_of(second)
        assert (begun + text_of(first), together) == (one, other)
    assert text_of(helped.generate(request("first", max_tokens=25))) == one


def test_a_draft_model_of_another_family_is_refused(tmp_path: Path) -> None:
    folder = scripted_model(tmp_path / "big", WORDS)
    with pytest.raises(ModelError, match=r"knows \d+ tokens"):
        engine_of(folder, draft=scripted_model(tmp_path / "other", ["completely", " different"]))


def make_adapter(model: Path, folder: Path, scale: float) -> Path:
    """An adapter in mlx-lm's form, of random weights."""
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm import load
    from mlx_lm.tuner.utils import linear_to_lora_layers

    trained, _ = load(str(model))
    parameters = {"rank": 4, "scale": scale, "dropout": 0.0}
    trained.freeze()
    linear_to_lora_layers(trained, 2, parameters)
    folder.mkdir()
    mx.random.seed(1)
    weights = {name: mx.random.normal(array.shape) for name, array in tree_flatten(trained.trainable_parameters())}
    mx.save_safetensors(str(folder / "adapters.safetensors"), weights)
    config = {"fine_tune_type": "lora", "num_layers": 2, "lora_parameters": parameters}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def test_adapters_are_swapped_for_each_request(random_model: Path, tmp_path: Path) -> None:
    engine = engine_of(random_model)
    adapters = ["", *(str(make_adapter(random_model, tmp_path / f"a{n}", n + 1.0)) for n in range(2))]
    alone = [text_of(engine.generate(request(max_tokens=12, adapter=adapter))) for adapter in adapters]
    assert len(set(alone)) == 3
    live = [engine.generate(request(max_tokens=12, adapter=adapter)) for adapter in [*adapters, *reversed(adapters)]]
    texts = [""] * len(live)
    going = set(range(len(live)))
    while going:
        for index in sorted(going):
            if (delta := next(live[index], None)) is None:
                going.remove(index)
            else:
                texts[index] += delta.text
    assert texts == [*alone, *reversed(alone)]
    assert text_of(engine.generate(request(max_tokens=12))) == alone[0]


def test_what_is_no_adapter_is_refused_before_anything_runs(random_model: Path, tmp_path: Path) -> None:
    engine = engine_of(random_model)
    with pytest.raises(ModelError, match="is no adapter"):
        next(engine.generate(request(adapter=str(tmp_path / "none"))))
    folder = make_adapter(random_model, tmp_path / "dora", 1.0)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"fine_tune_type": "dora"}))
    with pytest.raises(ModelError, match="only lora"):
        next(engine.generate(request(adapter=str(folder))))
    misfit = make_adapter(scripted_model(tmp_path / "other", [*"abcdefg"] * 1), tmp_path / "misfit", 1.0)
    (misfit / "adapter_config.json").write_text(json.dumps(config | {"lora_parameters": {
        "rank": 2, "scale": 1.0, "dropout": 0.0}}))
    with pytest.raises(ModelError, match="does not fit the model"):
        list(engine.generate(request(adapter=str(misfit))))
    assert decoder_of(engine)._adapters.current == ""
    assert not decoder_of(engine)._waiting
    assert text_of(engine.generate(request(max_tokens=5)))


def test_a_repetition_penalty_keeps_from_repeating(random_model: Path) -> None:
    decoder = decoder_of(engine_of(random_model))

    def written(penalty: float) -> list[int]:
        sequence = Sequence(
            prompt=[7, 8, 9], max_tokens=30, processors=penalties(request(repetition_penalty=penalty), [7, 8, 9])
        )
        decoder.insert(sequence)
        _exhaust(decoder, sequence)
        return sequence.written

    assert len(set(written(1.0))) < 30
    assert len(set(written(50.0))) == 30


def test_progress_never_goes_back_and_ends_at_the_whole_prompt(tmp_path: Path) -> None:
    engine = engine_of(scripted_model(tmp_path, WORDS), Settings(prefill_step=32))
    decoder = decoder_of(engine)
    sequence = Sequence(prompt=[5] * 100, max_tokens=2)
    decoder.insert(sequence)
    steps = [decoder.take(sequence) for _ in range(5)]
    assert steps[:4] == [Prefilled(32), Prefilled(64), Prefilled(96), Prefilled(100)]
    assert isinstance(steps[4], Token)
    decoder.remove(sequence)


def test_the_context_of_a_cancelled_answer_is_kept_for_the_next_one(tmp_path: Path) -> None:
    engine = engine_of(scripted_model(tmp_path, WORDS))
    assert isinstance(decoder_of(engine).cache, PrefixCache)
    reading = engine.generate(request("x" * 1000))
    while next(reading).prompt_done < 600:
        pass
    reading.close()
    *_, last = engine.generate(request("x" * 1000))
    assert last.cached_tokens >= 600
