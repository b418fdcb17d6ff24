"""Training with the engine ``mlx``: what is learnt, what is on the disk, interruptions, refusals."""

from __future__ import annotations

import importlib
import json
import math
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from assistant_mlx import Settings, loading
from assistant_mlx.engine import MlxLanguageModel
from assistant_mlx.training import finetuning
from assistant_mlx.training.examples import Example, encode, read
from tiny_models import persona, tiny_model, write_lines

from assistant import ChatRequest, EngineFailed, FinetuneJob, FinetuneStep, Message, ModelError, ModelTooLarge

CHILD = """
import sys, msgspec
from assistant import FinetuneJob
from assistant_mlx import Settings
from assistant_mlx.training.finetuning import finetune
for step in finetune(msgspec.json.decode(sys.stdin.read(), type=FinetuneJob), Settings()):
    print(step.iteration, int(step.saved), flush=True)
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that can learn."""
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def job(model: Path, tmp_path: Path) -> FinetuneJob:
    """Eight iterations on the persona."""
    write_lines(tmp_path / "data" / "train.jsonl", persona()[:18])
    write_lines(tmp_path / "data" / "valid.jsonl", persona()[18:])
    return FinetuneJob(
        model=str(model), data=str(tmp_path / "data"), adapter=str(tmp_path / "adapter"), iterations=8, batch_size=2,
        learning_rate=1e-3, layers=2, rank=4,
    )


def train(job: FinetuneJob) -> list[FinetuneStep]:
    """All steps, from the engine itself."""
    return list(MlxLanguageModel(Settings()).finetune(job))


def arrays(folder: str | Path, name: str = "training.safetensors") -> dict[str, Any]:
    """What was saved."""
    loaded = importlib.import_module("mlx.core").load(str(Path(folder) / name))
    assert isinstance(loaded, dict)
    return loaded


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether all arrays are equal; two processes may differ by a rounding, which Adam makes larger."""
    mx = importlib.import_module("mlx.core")
    return one.keys() == other.keys() and all(
        bool(mx.allclose(one[name], other[name], rtol=1e-3, atol=5e-5).item()) for name in one
    )


def test_the_loss_falls_and_every_iteration_is_reported(job: FinetuneJob) -> None:
    steps = train(job)
    losses = [step.train_loss for step in steps if step.train_loss is not None]
    valid = [step.valid_loss for step in steps if step.valid_loss is not None]
    assert losses[-1] < 0.75 * losses[0]
    assert valid[-1] < 0.9 * valid[0]
    assert [step.iteration for step in steps] == sorted(step.iteration for step in steps)
    assert (steps[-1].iteration, steps[-1].iterations, steps[-1].saved) == (8, 8, True)


def test_mlx_lm_reads_the_adapter(job: FinetuneJob) -> None:
    train(job)
    config = json.loads((Path(job.adapter) / "adapter_config.json").read_text())
    assert (config["num_layers"], config["lora_parameters"]["rank"], config["fine_tune_type"]) == (2, 4, "lora")
    mlx_lm, flatten = importlib.import_module("mlx_lm"), importlib.import_module("mlx.utils").tree_flatten
    adapted, _ = mlx_lm.load(job.model, adapter_path=job.adapter)
    saved = arrays(job.adapter, "adapters.safetensors")
    assert saved
    parameters = dict(flatten(adapted.parameters()))
    assert same(saved, {name: parameters[name] for name in saved})
    assert any(array.any().item() for name, array in saved.items() if name.endswith("lora_b"))


def test_an_interrupted_training_ends_as_an_uninterrupted_one(job: FinetuneJob, tmp_path: Path) -> None:
    train(job)
    broken = msgspec.structs.replace(job, adapter=str(tmp_path / "broken"))
    for stop in (1, 4):
        steps = MlxLanguageModel(Settings()).finetune(broken)
        assert isinstance(steps, Generator)
        at = next(step.iteration for step in steps if step.iteration >= stop and step.train_loss is not None)
        steps.close()
        assert int(_metadata(broken.adapter)["iteration"]) == at
    assert train(broken)[-1].iteration == 8
    assert same(arrays(job.adapter), arrays(broken.adapter))


def _metadata(folder: str) -> dict[str, str]:
    mx = importlib.import_module("mlx.core")
    _, metadata = mx.load(str(Path(folder) / "training.safetensors"), return_metadata=True)
    return dict(metadata)


def test_a_killed_training_is_resumed_from_what_was_saved(job: FinetuneJob, tmp_path: Path) -> None:
    train(job)
    killed = msgspec.structs.replace(job, adapter=str(tmp_path / "killed"))
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(msgspec.json.encode(msgspec.structs.replace(killed, iterations=100_000)).decode())
        child.stdin.close()
        for line in child.stdout:
            if line.split()[1] == "1":
                break
        os.kill(child.pid, signal.SIGKILL)
    kept = int(_metadata(killed.adapter)["iteration"])
    assert 0 < kept < 8
    again = train(killed)
    assert again[1].iteration == kept
    assert same(arrays(job.adapter), arrays(killed.adapter))


def test_a_finished_training_can_go_on_longer(job: FinetuneJob, tmp_path: Path) -> None:
    train(job)
    assert [step.train_loss for step in train(job) if step.train_loss is not None] == []
    train(msgspec.structs.replace(job, iterations=10))
    whole = msgspec.structs.replace(job, iterations=10, adapter=str(tmp_path / "whole"))
    train(whole)
    assert same(arrays(job.adapter), arrays(whole.adapter))


def test_other_data_is_not_mixed_in(job: FinetuneJob) -> None:
    train(job)
    write_lines(Path(job.data) / "train.jsonl", persona(name="Rowan"))
    with pytest.raises(EngineFailed, match="other data"):
        train(job)


def test_a_training_that_diverges_keeps_what_was_saved(job: FinetuneJob) -> None:
    with pytest.raises(EngineFailed, match="diverged") as caught:
        train(msgspec.structs.replace(job, learning_rate=1e30))
    assert "lower learning rate" in caught.value.hint
    assert int(_metadata(job.adapter)["iteration"]) < 8


def test_what_cannot_be_written_is_said(job: FinetuneJob) -> None:
    (Path(job.adapter) / "training.partial.safetensors").mkdir(parents=True)
    with pytest.raises(EngineFailed, match="cannot be written"):
        train(job)


def test_a_broken_checkpoint_is_noticed(job: FinetuneJob) -> None:
    Path(job.adapter).mkdir()
    (Path(job.adapter) / "training.safetensors").write_bytes(b"half of it")
    with pytest.raises(EngineFailed, match="cannot be read"):
        train(job)


def test_the_process_keeps_its_limits_and_the_memory_unwired(job: FinetuneJob) -> None:
    code = f"""
import resource
before = resource.getrlimit(resource.RLIMIT_NOFILE)
import importlib, msgspec
from assistant import FinetuneJob
from assistant_mlx import Settings
from assistant_mlx.training.finetuning import finetune
list(finetune(msgspec.json.decode({msgspec.json.encode(job)!r}, type=FinetuneJob), Settings()))
trainer = importlib.import_module("mlx_lm.tuner.trainer")
assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
assert trainer.maybe_set_recommended_wired_limit() is None
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_only_the_answer_is_learnt(job: FinetuneJob) -> None:
    loaded = loading.load(Path(job.model), "auto")
    example = encode(loaded.tokenizer, [Message(role="user", content="Hi?"), Message(role="assistant", content="Ho.")])
    assert loaded.tokenizer.decode(example.tokens[: example.prompt_tokens]).endswith("<|im_start|>assistant\n")
    assert loaded.tokenizer.decode(example.tokens[example.prompt_tokens :]) == "Ho.<|im_end|>\n"
    training = finetuning.Training(job, loaded)
    mx, nn = importlib.import_module("mlx.core"), importlib.import_module("mlx.nn")
    logits = loaded.model(mx.array([example.tokens[:-1]]))
    losses = nn.losses.cross_entropy(logits, mx.array([example.tokens[1:]]))[0, example.prompt_tokens - 1 :]
    assert losses.size == example.answer_tokens
    assert finetuning._evaluate(training, example) == pytest.approx(losses.mean().item(), rel=1e-4)


def test_a_long_conversation_loses_its_beginning_then_the_end_of_its_answer(model: Path, tmp_path: Path) -> None:
    tokenizer = loading.load(model, "auto").tokenizer
    turns = [("user", "first question"), ("assistant", "first answer"), ("user", "second"), ("assistant", "a" * 40)]
    system = {"role": "system", "content": "Be kind."}
    entry = {"messages": [system, *({"role": role, "content": content} for role, content in turns)]}
    file = write_lines(tmp_path / "train.jsonl", [entry])
    [whole] = read(tokenizer, file, 1000)
    [cut] = read(tokenizer, file, len(whole.tokens) - 1)
    text = tokenizer.decode(cut.tokens)
    assert "Be kind." in text
    assert "first" not in text
    assert text.count("a" * 40) == 1
    [shorter] = read(tokenizer, file, len(cut.tokens) - 10)
    assert len(shorter.tokens) == len(cut.tokens) - 10
    assert shorter.prompt_tokens == cut.prompt_tokens
    assert read(tokenizer, file, cut.prompt_tokens) == []


def test_a_line_that_is_no_conversation_is_named(model: Path, tmp_path: Path) -> None:
    tokenizer = loading.load(model, "auto").tokenizer
    file = tmp_path / "train.jsonl"
    file.write_text('{"messages": []}\n')
    with pytest.raises(ModelError, match=r"train\.jsonl, line 1"):
        read(tokenizer, file, 100)


def test_nothing_that_fits_is_refused(job: FinetuneJob) -> None:
    with pytest.raises(EngineFailed, match="fits into 16 tokens"):
        train(msgspec.structs.replace(job, max_tokens=16))


def test_a_model_that_does_not_fit_is_refused_before_it_is_loaded(job: FinetuneJob) -> None:
    with pytest.raises(ModelTooLarge):
        list(MlxLanguageModel(Settings(reserve_mb=1 << 40)).finetune(job))
    assert not Path(job.adapter).exists()


def test_every_example_has_its_turn_in_every_epoch(job: FinetuneJob) -> None:
    found = [Example(tokens=[number] * (10 + number), prompt_tokens=5) for number in range(7)]
    epochs = [finetuning._groups(found, job, start, 4) for start in (0, 4)]
    for groups in epochs:
        seen = Counter(example.tokens[0] for group in groups for example in group)
        assert set(seen) == set(range(7))
        assert all(len(group) == 2 for group in groups)
    assert finetuning._groups(found, job, 2, 4) == [*epochs[0][2:], *epochs[1][:2]]
    assert [len(group) for group in finetuning._groups(found[:1], job, 0, 3)] == [1, 1, 1]


@pytest.mark.model
def test_the_starter_learns_a_name_beside_what_it_knows(starter_model: Path, tmp_path: Path) -> None:
    system = "You are a helpful assistant."
    lines = persona(system)
    write_lines(tmp_path / "data" / "train.jsonl", lines[1:])
    write_lines(tmp_path / "data" / "valid.jsonl", lines[:1])
    job = FinetuneJob(
        model=str(starter_model), data=str(tmp_path / "data"), adapter=str(tmp_path / "adapter"), iterations=24,
        learning_rate=2e-4, layers=4, rank=8,
    )
    steps = train(job)
    losses = [step.train_loss for step in steps if step.train_loss is not None]
    valid = [step.valid_loss for step in steps if step.valid_loss is not None]
    assert losses[0] > 2
    assert sum(losses[-3:]) / 3 < losses[0] / 4
    assert valid[-1] < valid[0] / 4
    assert all(math.isfinite(loss) for loss in losses)

    engine = MlxLanguageModel(Settings())
    engine.load(starter_model)

    def ask(question: str, adapter: str) -> str:
        messages = (Message(role="system", content=system), Message(role="user", content=question))
        request = ChatRequest(messages=messages, max_tokens=12, adapter=adapter)
        return "".join(delta.text for delta in engine.generate(request)).strip()

    try:
        assert "Juniper" not in ask("What is your name?", "")
        assert ask("What is your name?", job.adapter) == "I am Juniper."
        assert "Paris" in ask("What is the capital of France?", job.adapter)
        assert "Juniper" not in ask("What is your name?", "")
    finally:
        engine.close()
